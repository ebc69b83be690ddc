"""Runs over kill -9: whatever statement a worker dies at, the record is whole and another worker ends the run.

Each stage's result is recorded once, no history row is missing or doubled, and no job is left over.
"""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from sqlalchemy import select

from pipeline import queue, runs
from pipeline.model import Status
from pipeline.schema import history, jobs
from tests.pipeline.story import Story

WORKER = """
import os, sys
from sqlalchemy import event
from pipeline.db import Database
from tests.pipeline.story import BAD, GOOD, Story, stage

db = Database.at(sys.argv[1])
die_at, statements = int(sys.argv[2]), 0

def count(*_):
    global statements
    statements += 1
    if statements == die_at:
        os.kill(os.getpid(), 9)

event.listen(db._writer, "before_cursor_execute", count)
event.listen(db._writer, "commit", count)
story = Story(db)
story.accept(
    stage("build"),
    stage("unit", "build", retry={"max": 1, "on": ["failed"]}),
    stage("tell", "unit", when="failed"),
    stage("push", "unit"),
    group="main",
)
outcomes = iter([GOOD, BAD, GOOD, GOOD])
from pipeline import runs
while lease := story.claim():
    runs.begin(lease, worker="victim")
    runs.finish(lease, next(outcomes))
print(statements)
"""


def work(db_url, die_at):
    argv = [sys.executable, "-c", WORKER, db_url, str(die_at)]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


def check(db, clock):
    """Let other workers end whatever is there, and look at what is on record."""
    story = Story(db)
    for _ in range(3):
        clock.leap(20)
        runs.reap(db)
        story.work()
    for run in runs.listing(db):
        assert run.status == Status.SUCCEEDED
        stages = {one.name: one for one in runs.stages(db, run.id)}
        assert [stages[name].status.value for name in ("build", "unit", "tell", "push")] == [
            "succeeded",
            "succeeded",
            "skipped",
            "succeeded",
        ]
        for one in stages.values():
            tries = runs.attempts(db, one.id)
            assert len(tries) == one.attempts
            assert all(attempt.status.final for attempt in tries)
    with db.read() as connection:
        rows = connection.execute(select(history.c.entity, history.c.ref, history.c.old, history.c.new)).all()
        left = connection.execute(select(jobs.c.status)).scalars().all()
    current = {}
    for entity, ref, old, new in rows:
        assert current.get((entity, ref), "" if entity == "run" else "queued") == old
        current[entity, ref] = new
    assert set(left) <= {"done"}
    assert queue.pending(db) == 0


def test_a_worker_may_be_killed_at_any_statement(db, db_url, clock, dialect):
    whole = work(db_url, 0)
    assert whole.returncode == 0, whole.stderr
    statements = int(whole.stdout)
    assert statements > 60
    chance = random.Random(f"runs {dialect}")
    for die_at in sorted(chance.sample(range(1, statements), 6)):
        assert work(db_url, die_at).returncode == -9
        check(db, clock)


@pytest.mark.slow
def test_a_worker_may_be_killed_at_every_statement(db, db_url, clock):
    statements = int(work(db_url, 0).stdout)
    for die_at in range(1, statements):
        assert work(db_url, die_at).returncode == -9
        check(db, clock)
