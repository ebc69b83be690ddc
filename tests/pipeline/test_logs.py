"""Logs: numbered lines in order, read from any line, followed as they come; one writer per attempt."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time

import pytest

from pipeline import logs
from pipeline.errors import LeaseLost, Unavailable
from pipeline.lines import LINE_BYTES
from pipeline.masking import Masker


def texts(settings, attempt, **options):
    return [(line.number, line.stream, line.text) for line in logs.read(settings, attempt, **options)]


def test_lines_are_numbered_over_all_streams_in_the_order_in_which_they_came(settings):
    log = logs.open_log(settings, 1)
    log.say("$ make")
    log.feed("out", b"one\ntwo\n")
    log.feed("err", b"oh\n")
    log.feed("out", b"three\n")
    assert log.close() == 5
    assert texts(settings, 1) == [
        (1, "pipe", "$ make"),
        (2, "out", "one"),
        (3, "out", "two"),
        (4, "err", "oh"),
        (5, "out", "three"),
    ]
    assert log.close() == 5


def test_chunks_may_be_cut_anywhere(settings):
    text = "".join(f"line {n} ä€\n" for n in range(200)).encode()
    for attempt, size in enumerate((1, 2, 3, 7, 64, 10_000), 1):
        log = logs.open_log(settings, attempt)
        for at in range(0, len(text), size):
            log.feed("out", text[at : at + size])
        log.close()
        assert [line.text for line in logs.read(settings, attempt)] == [f"line {n} ä€" for n in range(200)]


def test_two_streams_that_are_cut_in_the_middle_of_lines_do_not_mix(settings):
    log = logs.open_log(settings, 1)
    for out, err in ((b"ou", b"er"), (b"t 1\nou", b"r 1\ner"), (b"t 2\n", b"r 2\n")):
        log.feed("out", out)
        log.feed("err", err)
    log.close()
    assert [(s, t) for _, s, t in texts(settings, 1)] == [
        ("out", "out 1"),
        ("err", "err 1"),
        ("out", "out 2"),
        ("err", "err 2"),
    ]


def test_odd_output_is_kept(settings):
    log = logs.open_log(settings, 1)
    log.feed("out", b"\n\nwindows\r\nprogress 1\rprogress 2\n\xff\xfe\0bytes\nno end")
    log.close()
    assert [t for *_, t in texts(settings, 1)] == [
        "",
        "",
        "windows",
        "progress 1\rprogress 2",
        "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\0bytes",
        "no end",
    ]


def test_a_log_that_says_nothing_or_was_never_written_is_empty(settings):
    assert texts(settings, 1) == []
    assert logs.open_log(settings, 1).close() == 0
    assert texts(settings, 1) == []
    assert logs.tail(settings, 1, 5) == []


def test_a_line_that_is_too_long_is_cut_and_says_how_much(settings):
    log = logs.open_log(settings, 1)
    for _ in range(30):
        log.feed("out", b"x" * 100_000)
    log.feed("out", b"\nnext\n" + b"y" * (LINE_BYTES - 1) + b"\n")
    log.close()
    first, second, third = logs.read(settings, 1)
    assert len(first.text) < LINE_BYTES + 60
    assert first.text.endswith(f"[{3_000_000 - LINE_BYTES} bytes more were cut]")
    assert second.text == "next"
    assert third.text == "y" * (LINE_BYTES - 1)


def test_one_enormous_chunk_is_taken_with_bounded_lines(settings):
    log = logs.open_log(settings, 1)
    log.feed("out", b"a\n" + b"x" * (3 * LINE_BYTES) + b"\nb\n")
    log.close()
    first, second, third = logs.read(settings, 1)
    assert (first.text, third.text) == ("a", "b")
    assert len(second.text) < LINE_BYTES + 60


def test_secrets_never_reach_the_disk(settings):
    log = logs.open_log(settings, 1, Masker(["hunter2!"]))
    log.feed("out", b"the password is hun")
    log.flush()
    log.feed("out", b"ter2!\n")
    log.say("our word: hunter2!")
    log.close()
    assert [t for *_, t in texts(settings, 1)] == ["the password is ***", "our word: ***"]
    stored = b"".join(path.read_bytes() for path in settings.logs.rglob("*") if path.is_file())
    assert b"hunter2!" not in stored


def test_reading_may_begin_at_any_line(settings):
    log = logs.open_log(settings, 1)
    for n in range(1, 3001):
        log.feed("err" if n % 7 == 0 else "out", f"line {n}\n".encode())
    log.close()
    for start in (1, 2, 6, 7, 8, 1499, 2999, 3000, 3001):
        assert [t for *_, t in texts(settings, 1, from_line=start)] == [f"line {n}" for n in range(start, 3001)]
    assert [line.text for line in logs.tail(settings, 1, 3)] == ["line 2998", "line 2999", "line 3000"]
    assert logs.tail(settings, 1, 99_999)[0].text == "line 1"


def test_reading_from_a_late_line_does_not_read_the_lines_before(settings):
    log = logs.open_log(settings, 1)
    block = b"x" * 99 + b"\n"
    for _ in range(200):
        log.feed("out", block * 2000)  # 40 MB
    lines = log.close()
    started = time.process_time()
    (line,) = logs.read(settings, 1, from_line=lines)
    late = time.process_time() - started
    started = time.process_time()
    assert sum(1 for _ in logs.read(settings, 1)) == lines
    whole = time.process_time() - started
    assert line.number == lines
    assert late < whole / 10


def test_times_are_those_of_the_arrival(settings, clock):
    log = logs.open_log(settings, 1, clock=clock)
    log.feed("out", b"a\n")
    log.flush()
    clock.leap(100)
    log.feed("out", b"b\n")
    log.close()
    first, second = logs.read(settings, 1)
    assert 100 <= second.at - first.at < 110


# --- following ------------------------------------------------------------------------------------------------------


def test_a_follower_sees_lines_as_they_come_and_ends_with_the_log(settings):
    log = logs.open_log(settings, 1)
    seen, got = [], threading.Event()

    def follow():
        for line in logs.follow(settings, 1):
            seen.append(line.text)
            got.set()

    thread = threading.Thread(target=follow)
    thread.start()
    for n in range(20):
        got.clear()
        log.feed("out", f"line {n}\n".encode())  # the last one waits for the flusher, not for more output
        assert got.wait(20)
    assert thread.is_alive()
    log.close()
    thread.join(20)
    assert seen == [f"line {n}" for n in range(20)]


def test_a_follower_that_comes_late_misses_nothing(settings):
    log = logs.open_log(settings, 1)
    log.feed("out", b"a\nb\n")
    log.flush()
    threading.Timer(0.05, lambda: (log.feed("out", b"c\n"), log.close())).start()
    assert [line.text for line in logs.follow(settings, 1, from_line=2)] == ["b", "c"]


def test_a_follower_ends_when_nobody_will_write_any_more(settings):
    log = logs.open_log(settings, 1)
    log.feed("out", b"a\n")
    log.flush()
    assert [line.text for line in logs.follow(settings, 1, ended=lambda: True)] == ["a"]
    log.close()


def test_a_follower_sees_what_another_process_writes(settings):
    code = (
        "import sys, types; from pathlib import Path; from pipeline import logs\n"
        "log = logs.open_log(types.SimpleNamespace(logs=Path(sys.argv[1])), 1)\n"
        "for line in sys.stdin: log.feed('out', line.encode()); log.flush()\n"
        "log.close()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(settings.logs)], stdin=subprocess.PIPE, text=True)
    child.stdin.write("one\n")
    child.stdin.flush()
    follower = logs.follow(settings, 1)
    assert next(follower).text == "one"
    child.stdin.write("two\n")
    child.stdin.close()
    assert [line.text for line in follower] == ["two"]
    assert child.wait(20) == 0


# --- one sink per attempt -------------------------------------------------------------------------------------------


def test_two_hundred_attempts_at_once_do_not_mix(settings):
    def write(attempt):
        log = logs.open_log(settings, attempt)
        for n in range(50):
            log.feed("out", f"attempt {attempt} line {n}\n".encode())
        log.close()

    threads = [threading.Thread(target=write, args=(attempt,)) for attempt in range(1, 201)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for attempt in range(1, 201):
        assert [t for *_, t in texts(settings, attempt)] == [f"attempt {attempt} line {n}" for n in range(50)]


def test_threads_may_share_a_writer(settings):
    log = logs.open_log(settings, 1)

    def write(name):
        for n in range(200):
            log.say(f"{name} {n}")

    threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.close() == 1600
    for number in range(8):
        mine = [t for *_, t in texts(settings, 1) if t.startswith(f"t{number} ")]
        assert mine == [f"t{number} {n}" for n in range(200)]


def test_a_writer_that_was_overtaken_writes_nothing_any_more(settings):
    zombie = logs.open_log(settings, 1)
    zombie.feed("out", b"1\n2\n")
    zombie.flush()
    heir = logs.open_log(settings, 1)
    heir.replay()
    with pytest.raises(LeaseLost):
        zombie.say("I am still here")
    with pytest.raises(LeaseLost):
        zombie.feed("out", b"3\n")
    heir.feed("out", b"1\n2\n3\n")
    with pytest.raises(LeaseLost):
        zombie.close()
    heir.close()
    assert [t for *_, t in texts(settings, 1)] == ["1", "2", "3"]


def test_a_closed_log_can_be_gone_on_with(settings):
    for words in ("first", "second"):
        log = logs.open_log(settings, 1)
        log.say(words)
        log.close()
    assert texts(settings, 1) == [(1, "pipe", "first"), (2, "pipe", "second")]
    assert [line.text for line in logs.follow(settings, 1)] == ["first", "second"]


def test_a_log_that_was_removed_is_empty_and_its_number_begins_anew(settings):
    log = logs.open_log(settings, 1)
    log.say("first")
    log.close()
    logs.remove_log(settings, 1)
    logs.remove_log(settings, 1)
    assert texts(settings, 1) == []
    assert not [path for path in settings.logs.rglob("*") if path.is_file()]


def test_a_full_disk_is_told_and_what_was_stored_before_stays(settings):
    code = (
        "import resource, signal, sys, types; from pathlib import Path; from pipeline import logs\n"
        "from pipeline.errors import Unavailable\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, {resource.RLIM_INFINITY}))\n"
        "log = logs.open_log(types.SimpleNamespace(logs=Path(sys.argv[1])), 1)\n"
        "try:\n"
        "    for n in range(100): log.feed('out', b'x' * 99 + b'\\n' + b'y' * 9999 + b'\\n'); log.flush()\n"
        "except Unavailable as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(settings.logs)], capture_output=True, text=True, check=True)
    assert "can not be written" in done.stdout
    assert "pipe gc" in done.stdout
    whole = [t for *_, t in texts(settings, 1)]
    assert len(whole) == 98  # 49 pairs of 10 100 bytes fit
    log = logs.open_log(settings, 1)
    log.replay()
    for _ in range(100):
        log.feed("out", b"x" * 99 + b"\n" + b"y" * 9999 + b"\n")
    assert log.close() == 200


def test_a_folder_that_can_not_be_made_is_told(settings):
    settings.home.mkdir()
    settings.logs.write_text("a file")
    with pytest.raises(Unavailable):
        logs.open_log(settings, 1)
