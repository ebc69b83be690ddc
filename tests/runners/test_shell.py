"""The program of a stage's commands and its marks, with the real shells of this machine; and the pump behind it."""

from __future__ import annotations

import shutil

import pytest

from pipeline.errors import StageFailed
from pipeline.settings import passed_on
from runners import process
from runners.stages import shell
from runners.stages.logpump import Pump

MARK = shell.nonce("an installation", "pipe-1-2-3")
SHELLS = [name for name in ("dash", "bash", "sh", "busybox", "zsh", "ksh") if shutil.which(name)]


class Log:
    """Takes what a log would take: (stream, text) with neighbours of one stream joined."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def feed(self, stream: str, data: bytes) -> None:
        if self.told and self.told[-1][0] == stream:
            data = self.told.pop()[1].encode() + data
        self.told.append((stream, data.decode()))

    def say(self, text: str) -> None:
        self.told.append(("pipe", text))

    def of(self, stream: str) -> str:
        return "".join(text for name, text in self.told if name == stream)


def ran(name: str, commands: list[str], **secrets: str) -> process.Completed:
    argv = [name, "sh", "-s"] if name == "busybox" else [name, "-s"]
    return process.run(argv, env=passed_on(), input=shell.program(commands, secrets=secrets, mark=MARK))


def pumped(
    done: process.Completed, commands: list[str], size: int = 1 << 16, *, err_first: bool = False
) -> tuple[Log, Pump]:
    log = Log()
    pump = Pump(log, commands, MARK)
    streams = [("out", done.out), ("err", done.err)]
    for stream, data in reversed(streams) if err_first else streams:
        for at in range(0, len(data), size):
            pump.take(stream, data[at : at + size])
    pump.end()
    return log, pump


@pytest.mark.parametrize("name", SHELLS)
def test_every_shell_runs_the_commands_in_one_state_and_stops_at_the_first_failure(name):
    commands = ["X=1; cd /tmp", "echo $X $PWD $TOKEN", "false || true\n(exit 4)\necho never", "echo never"]
    done = ran(name, commands, TOKEN='it\'s "$HOME"\nof two lines')
    log, pump = pumped(done, commands)
    assert done.code == 4
    assert log.of("out") == '1 /tmp it\'s "$HOME" of two lines\n'
    assert log.of("err") == ""
    assert [told["exit_code"] for told in pump.timings(done.code)] == [0, 0, 4]


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("broken", ["echo 'open", "if true; then", "case x in"])
def test_a_command_that_is_no_sentence_fails_alone(name, broken):
    commands = ["echo before", broken, "echo after"]
    done = ran(name, commands)
    log, pump = pumped(done, commands)
    assert done.code != 0
    assert log.of("out") == "before\n"
    assert pump.began == 2


@pytest.mark.parametrize("name", SHELLS)
def test_a_trace_shows_the_commands_and_not_our_marks(name):
    commands = ["set -x", "echo hello", "true"]
    log, _ = pumped(ran(name, commands), commands)
    assert "echo hello" in log.of("err")
    assert MARK not in log.of("err") + log.of("out")
    assert "_pipe" not in log.of("err")


@pytest.mark.parametrize("name", SHELLS)
def test_a_listing_of_the_shells_state_can_not_pass_for_a_mark(name):
    commands = ["set; export; trap; type eval", "echo end"]
    done = ran(name, commands)
    _, pump = pumped(done, commands)
    assert done.code == 0
    assert [told["exit_code"] for told in pump.timings(0)] == [0, 0]


def test_a_program_that_was_cut_off_runs_nothing():
    whole = shell.program(["echo begun"], secrets={}, mark=MARK)
    for end in (0, 1, len(whole) // 2, len(whole) - 4):
        done = process.run(["sh", "-s"], env=passed_on(), input=whole[:end])
        assert b"begun" not in done.out
        assert pumped(done, ["echo begun"])[1].began == 0


@pytest.mark.parametrize("size", [1, 2, 7, 40, 1 << 16])
@pytest.mark.parametrize("err_first", [True, False])
def test_chunks_of_any_size_and_any_order_of_the_streams_tell_the_same(size, err_first):
    commands = ["echo one; echo uno >&2", "printf two; printf dos >&2", "echo three; echo tres >&2"]
    log, pump = pumped(ran("sh", commands), commands, size, err_first=err_first)
    parts: list[dict[str, str]] = []
    for stream, text in log.told:
        if stream == "pipe":
            parts.append({"said": text})
        else:
            parts[-1][stream] = parts[-1].get(stream, "") + text
    assert parts == [
        {"said": "$ echo one; echo uno >&2", "out": "one\n", "err": "uno\n"},
        {"said": "$ printf two; printf dos >&2", "out": "two\n", "err": "dos\n"},
        {"said": "$ echo three; echo tres >&2", "out": "three\n", "err": "tres\n"},
    ]
    assert pump.began == 3


def test_a_command_of_many_lines_is_named_with_all_of_them():
    commands = ["for n in 1 2\ndo echo $n\ndone\n"]
    log, _ = pumped(ran("sh", commands), commands)
    assert log.told[0] == ("pipe", "$ for n in 1 2\n> do echo $n\n> done")


def test_what_the_log_has_named_already_is_not_named_again():
    commands = ["echo one", "echo two"]
    done = ran("sh", commands)
    log = Log()
    pump = Pump(log, commands, MARK, said=1)
    pump.take("out", done.out)
    pump.take("err", done.err)
    pump.end()
    assert [text for stream, text in log.told if stream == "pipe"] == ["$ echo two"]


def test_a_stream_that_lost_its_marks_does_not_hold_back_the_other_for_ever():
    log = Log()
    pump = Pump(log, ["a", "b"], MARK)
    mark = shell.prefix(MARK)
    pump.take("out", mark + b"0;0;\n" + b"x" * 100)
    assert log.told == []
    pump.take("out", b"y" * (1 << 20))
    assert log.of("out") == "x" * 100 + "y" * (1 << 20)
    pump.take("out", mark + b"1;0;\n" + b"z\n")
    assert log.told[-1] == ("out", "z\n")


def test_something_that_only_looks_like_a_mark_is_text():
    log = Log()
    pump = Pump(log, ["a"], MARK)
    fake = shell.prefix(MARK) + b"no mark at all\nmore\n\x1e"
    pump.take("out", fake)
    pump.end()
    assert log.of("out").encode() == fake


def test_marks_of_two_attempts_differ_and_are_the_same_after_a_crash():
    assert shell.nonce("a", "b") == shell.nonce("a", "b")
    assert len({shell.nonce("a", "b"), shell.nonce("a", "c"), shell.nonce("b", "b")}) == 3


@pytest.mark.parametrize("wish", ["python3", "node -e", "  "])
def test_only_shells_are_shells(wish):
    with pytest.raises(StageFailed, match="not a shell"):
        shell.argv(wish)


def test_without_a_wish_it_is_the_shell_that_every_image_has():
    assert shell.argv(None) == ("sh", "-s")
    assert shell.argv("/bin/bash -o pipefail") == ("/bin/bash", "-o", "pipefail", "-s")
