"""Cancelling wins over everything that comes later; promotions go on by themselves."""

from __future__ import annotations

import pytest

from pipeline import queue, runs
from pipeline.errors import Conflict, LeaseLost
from pipeline.model import Outcome, Status
from tests.pipeline.story import BAD, GOOD, WAITS, Story, promotion, stage


@pytest.fixture
def story(db):
    return Story(db)


def moves(db, run):
    return [(move.name or move.entity, move.old, move.new) for move in runs.events(db, run.id)]


# --- cancelling -----------------------------------------------------------------------------------------------------


def test_cancelling_ends_what_waits_at_once_and_what_runs_through_its_worker(story, db):
    run = story.accept(stage("a"), stage("b", "a"), stage("c"))
    lease, begun = story.begin()
    runs.cancel(db, run.id, by="bob", reason="wrong branch")
    assert story.statuses(run) == {"a": "running", "b": "cancelled", "c": "cancelled"}
    assert runs.cancelling(db, [run.id]) == {run.id}
    assert runs.stopping(db, [begun.id]) == {begun.id}
    assert story.status(run) == "running"
    runs.finish(lease, Outcome(status=Status.CANCELLED, cause="cancelled"))
    ended = runs.get(db, run.id)
    assert (ended.status, ended.reason) == (Status.CANCELLED, "wrong branch")
    assert story.claim() is None


def test_a_cancelling_wins_over_a_success_that_comes_later(story, db):
    run = story.accept(stage("a"))
    lease, _ = story.begin()
    runs.cancel(db, run.id, by="bob")
    assert runs.finish(lease, GOOD).status == Status.CANCELLED
    assert story.status(run) == "cancelled"
    assert runs.get(db, run.id).reason == "cancelled by bob"


def test_a_cancelled_stage_is_not_tried_again(story, db):
    run = story.accept(stage("a", retry={"max": 5, "on": ["failed"]}))
    lease, _ = story.begin()
    runs.cancel(db, run.id, by="bob")
    runs.finish(lease, BAD)
    assert story.status(run) == "cancelled"


def test_a_job_claimed_but_not_begun_is_lost_to_a_cancelling(story, db):
    run = story.accept(stage("a"))
    lease = story.claim()
    runs.cancel(db, run.id, by="bob")
    with pytest.raises(LeaseLost):
        runs.begin(lease, worker="worker")
    assert story.status(run) == "cancelled"


def test_a_run_that_is_over_can_not_be_cancelled(story, db):
    run = story.accept(stage("a"))
    story.work()
    with pytest.raises(Conflict, match="over"):
        runs.cancel(db, run.id, by="bob")
    assert story.status(run) == "succeeded"


def test_cancelling_twice_is_cancelling_once(story, db):
    run = story.accept(stage("a"))
    story.begin()
    runs.cancel(db, run.id, by="bob", reason="first")
    runs.cancel(db, run.id, by="eve", reason="second")
    assert runs.get(db, run.id).reason == "first"
    assert [new for _, _, new in moves(db, run)].count("cancelling") == 1


# --- promotions wait ------------------------------------------------------------------------------------------------


def test_a_promotion_goes_on_by_itself_and_ends_its_stage_later(story, db):
    run = story.accept(stage("push"), stage("test", "push", kind="promote"), stage("tell", "test"))
    assert story.work({"test": WAITS}) == ["push", "test"]
    assert story.statuses(run)["test"] == "waiting"
    assert story.status(run) == "waiting"
    assert queue.pending(db) == 0
    with db.write() as tx:
        runs.finish_waiting(tx, story.stage(run, "test").id, GOOD, by="promotion 1")
    assert story.status(run) == "running"
    assert story.work() == ["tell"]
    assert story.status(run) == "succeeded"
    with db.write() as tx:
        assert runs.finish_waiting(tx, story.stage(run, "test").id, BAD).status == Status.SUCCEEDED


def test_a_run_with_other_work_does_not_wait(story):
    run = story.accept(stage("test", kind="promote"), stage("lint"))
    leases = story.begin_all()
    runs.finish(leases["test"], WAITS)
    assert story.status(run) == "running"
    runs.finish(leases["lint"], GOOD)
    assert story.status(run) == "waiting"


def test_a_failed_promotion_fails_the_run(story, db):
    run = story.accept(stage("test", kind="promote"), stage("release", "test", kind="promote"))
    story.work({"test": WAITS})
    with db.write() as tx:
        runs.finish_waiting(tx, story.stage(run, "test").id, BAD)
    assert story.statuses(run) == {"test": "failed", "release": "skipped"}
    assert story.status(run) == "failed"


def test_cancelling_wakes_the_promotion_that_decides_for_itself(story, db):
    run = story.accept(stage("test", kind="promote"))
    story.work({"test": WAITS})
    found = promotion(db, run, story.stage(run, "test").id, "deploying", phase="baking")
    with db.write() as tx:
        queue.enqueue(tx, kind="promotion", ref=found, lock="env:1", run_at=db.now() + 9999)
    runs.cancel(db, run.id, by="bob")
    assert story.status(run) == "waiting"
    assert story.claim().kind == "promotion"
    with db.write() as tx:
        runs.finish_waiting(tx, story.stage(run, "test").id, Outcome(status=Status.CANCELLED, cause="cancelled"))
    assert story.status(run) == "cancelled"


def test_cancelling_ends_a_promotion_at_once_that_waits_for_a_decision(story, db):
    run = story.accept(stage("test", kind="promote"))
    story.work({"test": WAITS})
    promotion(db, run, story.stage(run, "test").id, "requested")
    runs.cancel(db, run.id, by="bob")
    assert story.status(run) == "cancelled"
