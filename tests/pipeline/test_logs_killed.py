"""Logs over kill -9: whatever instant a writer dies at, a replay from the first byte ends in exactly lines 1..N."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from pipeline import logs

LINES = 4000

# The source is the same on every start, as a container's log is; only the cutting differs. The writer dies at a
# seeded call of the operating system: before it, after it, or with half of it done.
WRITER = """
import os, random, sys, types
from pathlib import Path
from pipeline import logs
from pipeline.masking import Masker

folder, lines, seed, die_at, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
calls = 0

def deadly(real, halve):
    def call(*args):
        global calls
        calls += 1
        if calls != die_at:
            return real(*args)
        if how == "half" and halve:
            file, data, offset = args
            real(file, bytes(data)[: len(data) // 2], offset)
        elif how != "before":
            real(*args)
        os.kill(os.getpid(), 9)
    return call

os.pwrite = deadly(os.pwrite, True)
os.link = deadly(os.link, False)
os.fdatasync = deadly(os.fdatasync, False)
os.open = deadly(os.open, False)

def source(stream):
    for n in range(1, lines + 1):
        noise = "x" * (n * 7919 % 211)
        yield f"{stream} {n} {noise}" + (" hunter2!" if n % 5 == 0 else "") + "\\n"
        if n % 50 == 0:
            yield "many\\nlines here\\n"
    yield f"{stream} the end, without a line end"

chance = random.Random(seed)
log = logs.open_log(types.SimpleNamespace(logs=folder), 1, Masker(["hunter2!", "many\\nlines here"]))
log.replay()
data = {name: "".join(source(name)).encode() for name in ("out", "err")}
at = {"out": 0, "err": 0}
while any(at[name] < len(data[name]) for name in at):
    name = chance.choice([name for name in at if at[name] < len(data[name])])
    size = chance.choice([1, 10, 100, 1000, 5000])
    log.feed(name, data[name][at[name] : at[name] + size])
    at[name] += size
    if chance.random() < 0.2:
        log.flush()
log.close()
"""


def write(folder, seed, die_at, how):
    argv = [sys.executable, "-c", WRITER, str(folder), str(LINES), str(seed), str(die_at), how]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


def expected(stream):
    for n in range(1, LINES + 1):
        noise = "x" * (n * 7919 % 211)
        yield f"{stream} {n} {noise}" + (" ***" if n % 5 == 0 else "")
        if n % 50 == 0:
            yield from ("***", "***")
    yield f"{stream} the end, without a line end"


def check(settings):
    found = list(logs.read(settings, 1))
    assert [line.number for line in found] == list(range(1, len(found) + 1))
    for stream in ("out", "err"):
        assert [line.text for line in found if line.stream == stream] == list(expected(stream))


@pytest.mark.parametrize("how", ["before", "half", "after"])
@pytest.mark.parametrize("seed", range(4))
def test_a_writer_killed_again_and_again_ends_with_every_line_exactly_once(settings, seed, how):
    chance = random.Random(f"{seed} {how}")
    ends = [write(settings.logs, start * 100 + seed, chance.randint(1, 25), how).returncode for start in range(10)]
    assert set(ends) <= {0, -9}
    assert ends.count(-9) >= 5
    done = write(settings.logs, seed, 0, "never")
    assert done.returncode == 0, done.stderr
    check(settings)


def test_a_writer_killed_after_it_closed_the_log_doubles_nothing(settings):
    for seed in range(3):
        assert write(settings.logs, seed, 0, "never").returncode == 0
    check(settings)


def test_half_an_index_record_at_the_end_does_not_count(settings):
    log = logs.open_log(settings, 1)
    log.feed("out", b"1\n2\n")
    log.flush()
    log.feed("out", b"3\n")
    log.flush()
    index = next(settings.logs.rglob("*.1.idx"))
    whole = index.read_bytes()
    index.write_bytes(whole[:-5])
    again = logs.open_log(settings, 1)
    assert again.seen("out") == 2
    again.replay()
    again.feed("out", b"1\n2\n3\n4\n")
    again.close()
    assert [line.text for line in logs.read(settings, 1)] == ["1", "2", "3", "4"]


def test_text_that_a_power_loss_took_does_not_count(settings):
    log = logs.open_log(settings, 1)
    log.feed("out", b"1\n2\n")
    log.flush()
    log.feed("out", b"3\n4\n")
    log.flush()
    text = next(settings.logs.rglob("*.1.log"))
    text.write_bytes(b"1\n2\n\0\0\0\0")
    again = logs.open_log(settings, 1)
    again.replay()
    again.feed("out", b"1\n2\n3\n4\n")
    again.close()
    assert [line.text for line in logs.read(settings, 1)] == ["1", "2", "3", "4"]
