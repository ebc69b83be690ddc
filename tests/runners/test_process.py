"""Programs are started, heard and ended as `runners.process` says. Real programs only."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline import settings
from pipeline.errors import Unavailable
from runners import process

ENV = settings.passed_on()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def dead(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def gone(pid: int) -> bool:
    """Tell whether a process has ended or does so soon: a signal needs a moment to be obeyed."""
    until = time.monotonic() + 20
    while not dead(pid) and time.monotonic() < until:
        threading.Event().wait(0.01)
    return dead(pid)


def test_output_and_exit_code_are_returned():
    done = process.run(["sh", "-c", "echo out; echo err >&2; exit 3"], env=ENV)
    assert (done.code, done.out, done.err, done.stopped, done.ok) == (3, b"out\n", b"err\n", "", False)
    assert done.complaint == "err"


def test_arguments_are_never_read_by_a_shell(tmp_path):
    canary = tmp_path / "canary"
    done = process.run(["echo", f"$(touch {canary})", f"; touch {canary}", "`id`"], env=ENV, cwd=tmp_path)
    assert done.text == f"$(touch {canary}) ; touch {canary} `id`"
    assert not canary.exists()


def test_the_environment_is_exactly_what_is_given(monkeypatch):
    monkeypatch.setenv("LEAKED", "yes")
    done = process.run(["env"], env={"PATH": ENV["PATH"], "GIVEN": "1"})
    assert sorted(done.text.splitlines()) == sorted([f"PATH={ENV['PATH']}", "GIVEN=1"])


def test_what_is_passed_on_holds_no_stranger():
    given = {"PATH": "/bin", "DOCKER_HOST": "unix:///x", "HTTPS_PROXY": "p", "AWS_SECRET": "s", "GIT_DIR": "x"}
    assert settings.passed_on(given) == {"PATH": "/bin", "DOCKER_HOST": "unix:///x", "HTTPS_PROXY": "p"}


def test_large_input_and_output_do_not_deadlock():
    data = os.urandom(1 << 16) * 64
    assert process.run(["cat"], env=ENV, input=data).out == data


def test_a_program_that_does_not_read_its_input_is_no_error():
    assert process.run(["true"], env=ENV, input=b"x" * (1 << 20)).ok


def test_lines_come_one_by_one_and_the_last_needs_no_newline():
    heard = []
    done = process.run(
        ["sh", "-c", "printf 'a\\nb\\n'; printf 'c' ; printf 'x\\n' >&2"],
        env=ENV,
        on_line=lambda stream, line: heard.append((stream, line)),
    )
    assert sorted(heard) == [("err", b"x"), ("out", b"a"), ("out", b"b"), ("out", b"c")]
    assert done.out == b"a\nb\nc"


def test_with_a_callback_only_the_tail_is_kept():
    lines = 0

    def count(stream, line):
        nonlocal lines
        lines += 1

    done = process.run(["seq", "1", "200000"], env=ENV, on_line=count)
    assert lines == 200000
    assert len(done.out) < 200_000
    assert done.out.endswith(b"200000\n")


def test_too_much_output_is_refused():
    with pytest.raises(Unavailable, match="more than 1000 bytes"):
        process.run(["seq", "1", "100000"], env=ENV, keep_bytes=1000)


def test_a_timeout_ends_the_whole_family(tmp_path):
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! >{pids}; echo $$ >>{pids}; wait"
    done = process.run(["sh", "-c", script], env=ENV, timeout_seconds=0.5)
    assert done.stopped == "timeout"
    assert [gone(int(pid)) for pid in pids.read_text().split()] == [True, True]


def test_a_family_that_ignores_the_polite_signal_is_killed(tmp_path):
    begun = time.monotonic()
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    done = process.run(python(code), env=ENV, timeout_seconds=0.5, grace_seconds=0.3)
    assert (done.stopped, done.code) == ("timeout", -9)
    assert time.monotonic() - begun < 10


def test_a_cancel_ends_it():
    cancelled = threading.Event()
    done = process.run(
        ["sh", "-c", "echo up; sleep 600"],
        env=ENV,
        on_line=lambda stream, line: cancelled.set(),
        cancelled=cancelled,
    )
    assert done.stopped == "cancelled"


def test_what_it_left_running_is_killed_and_not_waited_for(tmp_path):
    pid = tmp_path / "pid"
    begun = time.monotonic()
    done = process.run(["sh", "-c", f"sleep 600 & echo $! >{pid}; echo done"], env=ENV)
    assert done.text == "done"
    assert time.monotonic() - begun < 10
    assert gone(int(pid.read_text()))


def test_a_callback_that_fails_leaves_nothing_running(tmp_path):
    pid = tmp_path / "pid"

    def refuse(stream, line):
        raise ValueError(line)

    with pytest.raises(ValueError, match="up"):
        process.run(["sh", "-c", f"echo $$ >{pid}; echo up; sleep 600"], env=ENV, on_line=refuse)
    assert gone(int(pid.read_text()))


def test_a_program_that_is_not_there_says_so():
    with pytest.raises(Unavailable, match="no-such-program can not be started") as caught:
        process.run(["no-such-program"], env=ENV)
    assert "installed" in caught.value.hint


def test_a_guarded_program_ends_when_we_are_killed(tmp_path):
    pid = tmp_path / "pid"
    script = f"echo $$ >{pid}; echo up; exec sleep 600"
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from runners import process
process.run(["sh", "-c", {script!r}], env={{"PATH": "/usr/bin:/bin"}}, dies_with_us=True,
            on_line=lambda stream, line: os.kill(os.getpid(), signal.SIGKILL))
"""
    assert process.run(python(code), env=ENV).code == -9
    assert gone(int(pid.read_text()))
