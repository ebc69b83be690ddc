"""Runs: accepted whole, worked on by workers that may die, decided by the outcomes of their stages."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import select

from pipeline import queue, runs
from pipeline.db import Database
from pipeline.errors import DefinitionError, LeaseLost, NotFound
from pipeline.model import Image, Outcome, Status
from pipeline.schema import history
from tests.pipeline.story import BAD, BROKEN, GOOD, Story, plan, stage


@pytest.fixture
def story(db):
    return Story(db)


def moves(db, run):
    return [(move.name or move.entity, move.old, move.new) for move in runs.events(db, run.id)]


# --- accepting and going through ------------------------------------------------------------------------------------


def test_stages_run_in_the_order_of_their_needs_and_the_run_succeeds(story):
    run = story.accept(stage("a"), stage("b", "a"), stage("c", "a"), stage("d", "b", "c"))
    assert run.status == Status.QUEUED
    assert story.work() == ["a", "b", "c", "d"]
    assert story.status(run) == "succeeded"


def test_every_move_is_told_once_and_in_order(story, db):
    run = story.accept(stage("a"), stage("b", "a"))
    story.work({"a": BAD})
    assert moves(db, run) == [
        ("run", "", "queued"),
        ("run", "queued", "running"),
        ("a", "queued", "running"),
        ("a", "running", "failed"),
        ("b", "queued", "skipped"),
        ("run", "running", "failed"),
    ]
    first = runs.events(db, run.id)[3]
    assert (first.by, first.reason) == ("worker", "exit 1")
    assert [move.new for move in runs.events(db, run.id, after=first.id)] == ["skipped", "failed"]


def test_a_run_keeps_what_it_was_made_of(story, db):
    run = runs.accept(db, plan(stage("a")), by="ada")
    assert runs.get(db, run.id) == run
    assert run.event.by == "ada"
    assert runs.definition_text(db, run.id) == ("pipe.yml", "version: 1\n")


def test_an_attempt_has_a_container_name_that_is_recorded_before_anything_is_made(story, db):
    run = story.accept(stage("a"))
    lease, begun = story.begin()
    (attempt,) = runs.attempts(db, begun.id)
    assert attempt.container == f"pipe-{db.installation[:8]}-{run.id}-0-1"
    assert attempt.status == Status.RUNNING
    runs.finish(lease, Outcome(status=Status.FAILED, cause="failed", exit_code=7, commands=({"text": "x"},)), lines=12)
    (attempt,) = runs.attempts(db, begun.id)
    assert (attempt.status, attempt.exit_code, attempt.lines, attempt.commands) == ("failed", 7, 12, ({"text": "x"},))


def test_what_a_stage_gives_is_kept(story):
    run = story.accept(stage("build", kind="build"))
    image = Image(id="sha256:1", repository="localhost:5461/shop", digest="sha256:2", tags=("a", "b"))
    story.work({"build": Outcome(status=Status.SUCCEEDED, outputs={"V": "1"}, image=image, result={"hits": 3})})
    found = story.stage(run, "build")
    assert (found.outputs, found.image, found.result) == ({"V": "1"}, image, {"hits": 3})
    assert found.started_at is not None
    assert found.finished_at >= found.started_at


def test_a_plan_without_stages_is_refused_and_leaves_nothing(story, db):
    with pytest.raises(DefinitionError):
        story.accept()
    assert runs.listing(db) == []


def test_what_is_not_there_is_not_found(db):
    for look in (runs.get, runs.stage, runs.definition_text):
        with pytest.raises(NotFound):
            look(db, 999)


def test_labels_of_a_stage_reach_its_job(story):
    story.accept(stage("a", runs_on=["gpu"]), stage("b", runs_on="linux"))
    assert story.work() == ["b"]


# --- retries --------------------------------------------------------------------------------------------------------


def test_a_stage_is_tried_again_for_the_causes_it_names(story, db, clock):
    run = story.accept(stage("a", retry={"max": 2, "on": ["failed"]}), stage("b", "a"))
    assert story.work({"a": BAD}) == ["a", "a", "a"]
    assert story.stage(run, "a").attempts == 3
    assert [a.status.value for a in runs.attempts(db, story.stage(run, "a").id)] == ["failed"] * 3
    assert story.statuses(run) == {"a": "failed", "b": "skipped"}


def test_a_machines_failure_is_tried_again_after_a_pause(story, db, clock):
    run = story.accept(stage("a"), defaults={"retry": {"max": 1, "on": ["image_pull"]}})
    assert story.work({"a": BROKEN}) == ["a"]
    assert story.statuses(run) == {"a": "queued"}
    assert story.status(run) == "running"
    clock.leap(2)
    assert story.work() == ["a"]
    assert story.status(run) == "succeeded"


def test_a_cause_that_is_not_named_is_not_tried_again(story):
    run = story.accept(stage("a", retry={"max": 3}), stage("b"))
    assert story.work({"a": BAD}) == ["a", "b"]
    assert story.status(run) == "failed"


@pytest.mark.parametrize("own", [{"max": 0}, {}])
def test_a_stages_own_word_on_retries_outweighs_the_default(story, own):
    story.accept(stage("a", retry=own), defaults={"retry": {"max": 5, "on": ["failed"]}})
    assert story.work({"a": BAD}) == ["a"]


# --- workers that die -----------------------------------------------------------------------------------------------


def test_another_worker_goes_on_with_the_same_attempt(story, db, clock):
    run = story.accept(stage("a"))
    lost, begun = story.begin()
    clock.leap(16)
    assert [job.ref for job in runs.reap(db)] == [begun.id]
    lease = queue.claim(db, owner="heir")
    _, again, attempt = runs.begin(lease, worker="heir")
    assert (again.status, attempt.number, attempt.worker) == (Status.RUNNING, 1, "worker")
    assert runs.attempts(db, begun.id)[0].worker == "heir"
    for late in (lambda: runs.finish(lost, BAD), lambda: runs.begin(lost, worker="worker")):
        with pytest.raises(LeaseLost):
            late()
    runs.finish(lease, GOOD)
    assert story.status(run) == "succeeded"


def test_a_stage_that_ends_its_workers_is_errored_and_the_run_goes_on_to_its_end(story, db, clock):
    run = story.accept(stage("poison"), stage("after", "poison"))
    for _ in range(3):
        story.begin()
        clock.leap(16)
        runs.reap(db)
    found = story.stage(run, "poison")
    assert (found.status, found.cause) == (Status.ERRORED, "runner_lost")
    assert "3 times" in found.reason
    assert runs.attempts(db, found.id)[-1].status == Status.ERRORED
    assert story.statuses(run)["after"] == "skipped"
    assert story.status(run) == "errored"


def test_a_clock_that_leaps_ahead_takes_no_lease_from_the_living(settings, monkeypatch):
    database = Database.open(settings)
    told = Story(database)
    run = told.accept(stage("a"))
    lease, _ = told.begin()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)  # as after a night asleep
    lease.check()
    assert runs.reap(database) == []
    lease.renew()
    runs.finish(lease, GOOD)
    assert told.status(run) == "succeeded"
    assert not database.steady(15)
    database.close()


def test_a_clock_that_was_set_back_keeps_no_dead_workers_lease_alive(story, db, clock):
    story.accept(stage("a"))
    story.begin()
    clock.leap(-3600)
    assert runs.reap(db) == []
    clock.leap(16)
    assert [job.owner for job in runs.reap(db)] == ["worker"]


def test_nothing_is_reaped_while_leases_live(story, db):
    story.accept(stage("a"))
    story.begin()
    assert runs.reap(db) == []


# --- looking --------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first(story, db):
    ids = [story.accept(stage("a")).id for _ in range(5)]
    assert [run.id for run in runs.listing(db, limit=2)] == [ids[4], ids[3]]
    assert [run.id for run in runs.listing(db, pipeline="shop", before=ids[1])] == [ids[0]]
    assert runs.listing(db, pipeline="other") == []
    assert [run.id for run in runs.unfinished(db)] == ids


def test_the_last_durations_are_those_of_the_last_success(story, db, clock):
    for seconds, outcome in ((10, GOOD), (20, GOOD), (99, BAD)):
        story.accept(stage("a"))
        lease, _ = story.begin()
        clock.leap(seconds)
        lease.renew()
        runs.finish(lease, outcome)
    assert runs.last_durations(db, "shop") == {"a": pytest.approx(20, abs=5)}
    assert runs.last_durations(db, "other") == {}


def test_each_change_leaves_exactly_one_history_row(story, db):
    run = story.accept(stage("a", retry={"max": 1, "on": ["failed"]}), stage("b", "a"))
    story.work({"a": BAD})
    with db.read() as connection:
        rows = connection.execute(select(history.c.entity, history.c.ref, history.c.old, history.c.new)).all()
    current = {}
    for entity, ref, old, new in rows:
        assert current.get((entity, ref), "" if entity == "run" else "queued") == old
        current[entity, ref] = new
    assert {ref: new for (entity, ref), new in current.items() if entity == "stage"} == {
        one.id: one.status for one in runs.stages(db, run.id)
    }
