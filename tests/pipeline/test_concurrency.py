"""Concurrency groups: one at a time, in order, and nothing holds a slot that does not need it."""

from __future__ import annotations

import threading

import pytest

from pipeline import runs
from pipeline.errors import LeaseLost
from pipeline.model import Outcome, Status
from tests.pipeline.story import GOOD, WAITS, Planned, Story, promotion, stage


@pytest.fixture
def story(db):
    return Story(db)


def test_runs_of_a_group_go_one_after_the_other_in_the_order_of_their_creation(story):
    first, second, third = (story.accept(stage("a"), group="main") for _ in range(3))
    other = story.accept(stage("a"), group="feature")
    assert len(story.begin_all()) == 1  # by name: both are called a
    assert [story.status(run) for run in (first, second, third, other)] == ["running", "queued", "queued", "running"]


def test_a_slot_that_becomes_free_goes_to_the_oldest(story):
    first, second, third = (story.accept(stage("a"), stage("b", "a"), group="main") for _ in range(3))
    order = []
    while lease := story.claim():
        run, begun, _ = runs.begin(lease, worker="worker")
        order.append((run.id, begun.name))
        runs.finish(lease, GOOD)
    assert order == [(run.id, name) for run in (first, second, third) for name in ("a", "b")]


def test_a_cancelled_run_gives_its_slot_up(story, db):
    first, second = (story.accept(stage("a"), group="main") for _ in range(2))
    runs.cancel(db, first.id, by="bob")
    assert story.work() == ["a"]
    assert story.status(second) == "succeeded"


def test_a_run_that_waits_for_an_approval_holds_no_slot_and_comes_back_in_turn(story, db):
    first = story.accept(stage("test", kind="promote"), stage("tell", "test"), group="main")
    second = story.accept(stage("a"), stage("b", "a"), group="main")
    story_leases = story.begin_all()
    runs.finish(story_leases["test"], WAITS)
    assert story.status(first) == "waiting"
    lease, begun = story.begin()
    assert (begun.run_id, begun.name) == (second.id, "a")
    with db.write() as tx:
        runs.finish_waiting(tx, story.stage(first, "test").id, GOOD)
    assert story.claim() is None  # the second run has the slot now
    runs.finish(lease, GOOD)
    assert story.work() == ["b", "tell"]
    assert (story.status(first), story.status(second)) == ("succeeded", "succeeded")


def test_a_newer_run_may_cancel_older_ones(story, db):
    first = story.accept(stage("a"), group="main", supersede=True)
    second = story.accept(stage("a"), group="main", supersede=True)
    lease, begun = story.begin()
    assert begun.run_id == second.id
    assert story.status(first) == "cancelled"
    assert runs.get(db, first.id).reason == f"superseded by run {second.id}"
    third = story.accept(stage("a"), group="main", supersede=True)
    assert runs.stopping(db, [begun.id]) == {begun.id}
    assert story.claim() is None  # the second one is still being ended
    runs.finish(lease, Outcome(status=Status.CANCELLED, cause="cancelled"))
    assert story.work() == ["a"]
    assert story.status(third) == "succeeded"


@pytest.mark.parametrize(
    ("status", "phase", "left_alone"),
    [
        ("requested", "", False),
        ("approved", "", False),
        ("requested", "gate", True),
        ("deploying", "creating", True),
        ("live", "done", True),
    ],
)
def test_a_promotion_that_has_begun_is_never_superseded(story, db, status, phase, left_alone):
    first = story.accept(stage("test", kind="promote"), group="main", supersede=True)
    story.work({"test": WAITS})
    promotion(db, first, story.stage(first, "test").id, status, phase)
    story.accept(stage("a"), group="main", supersede=True)
    assert (runs.cancelling(db, [first.id]) == set()) is left_alone


def test_a_dead_process_does_not_hold_a_group(story, db):
    gone = story.accept(stage("a"), stage("b", "a"), group="main", scope="laptop:1:1")
    zombie, _ = story.begin(scope="laptop:1:1")
    new = story.accept(stage("a"), group="main", scope="laptop:2:2", alive=lambda scope: scope != "laptop:1:1")
    assert story.statuses(gone) == {"a": "cancelled", "b": "cancelled"}
    assert story.status(gone) == "cancelled"
    assert story.work(scope="laptop:2:2") == ["a"]
    assert story.status(new) == "succeeded"
    with pytest.raises(LeaseLost):
        runs.finish(zombie, GOOD)


def test_a_living_process_keeps_its_group(story):
    first = story.accept(stage("a"), group="main", scope="laptop:1:1")
    second = story.accept(stage("a"), group="main", scope="laptop:2:2")
    assert story.work(scope="laptop:2:2") == []
    story.work(scope="laptop:1:1")
    assert story.work(scope="laptop:2:2") == ["a"]
    assert (story.status(first), story.status(second)) == ("succeeded", "succeeded")


def test_stages_of_one_group_run_one_at_a_time_over_all_runs(story):
    group = {"concurrency": {"group": "database"}}
    story.accept(stage("a", **group))
    story.accept(stage("a", **group))
    lease, _ = story.begin()
    assert story.claim() is None
    runs.finish(lease, GOOD)
    assert story.work() == ["a"]


def test_the_group_of_a_stage_may_name_the_branch_and_the_matrix(story):
    def database(n):
        group = {"concurrency": {"group": "${{ git.branch }}-${{ matrix.db }}"}}
        return Planned(f"unit [db={n}]", spec=group, matrix={"db": n}, base="unit")

    story.accept(database("one"), database("two"), branch="main")
    story.accept(database("one"), branch="main")
    story.accept(database("one"), branch="feature")
    assert len([story.begin() for _ in range(3)]) == 3
    assert story.claim() is None


def test_a_newer_stage_of_a_group_may_cancel_the_older_one(story, db):
    group = {"concurrency": {"group": "preview", "cancel_superseded": True}}
    first = story.accept(stage("a", **group), stage("after", "a"))
    lease, begun = story.begin()
    second = story.accept(stage("a", **group))
    third = story.accept(stage("a", **group))
    assert story.statuses(second) == {"a": "cancelled"}
    assert story.status(second) == "cancelled"
    assert runs.stopping(db, [begun.id]) == {begun.id}
    runs.finish(lease, GOOD)
    assert story.statuses(first) == {"a": "cancelled", "after": "skipped"}
    assert story.work() == ["a"]
    assert story.status(third) == "succeeded"


def test_many_runs_accepted_at_once_share_one_slot(story, db):
    def accept():
        story.accept(stage("a"), group="main")

    threads = [threading.Thread(target=accept) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    order = []
    while lease := story.claim():
        run, _, _ = runs.begin(lease, worker="worker")
        assert story.claim() is None
        order.append(run.id)
        runs.finish(lease, GOOD)
    assert order == sorted(run.id for run in runs.listing(db))
