"""Runs that are run again, and local runs taken over from a dead process."""

from __future__ import annotations

import pytest

from pipeline import artifacts, runs
from pipeline.errors import Conflict, LeaseLost
from pipeline.model import Image, Outcome, Status
from tests.pipeline.story import BAD, GOOD, Story, stage


@pytest.fixture
def story(db):
    return Story(db)


def test_a_whole_run_is_run_again(story, db):
    first = story.accept(stage("a"), stage("b", "a"), stage("c", skip="only for tags"))
    story.work({"b": BAD})
    again = runs.retry(db, first.id, by="bob")
    assert (again.retry_of, again.event) == (first.id, first.event)
    assert story.work() == ["a", "b"]
    assert story.statuses(again) == {"a": "succeeded", "b": "succeeded", "c": "skipped"}
    assert story.status(first) == "failed"


def test_only_what_failed_is_run_again_with_what_succeeded_taken_over(story, db, settings):
    first = story.accept(stage("build", kind="build"), stage("unit", "build"), stage("push", "unit"))
    lease, _ = story.begin()
    stored = artifacts.keep(settings, [])
    key, size = artifacts.put(settings, [b"report"])
    files = [artifacts.Stored(path="report.txt", size_bytes=size, sha256=key)]
    artifacts.record(lease, 1, files, keep_seconds=None)
    image = Image(id="sha256:1")
    runs.finish(lease, Outcome(status=Status.SUCCEEDED, image=image, outputs={"V": "1"}))
    story.work({"unit": BAD})
    again = runs.retry(db, first.id, failed_only=True, by="bob")
    assert story.work() == ["unit", "push"]
    taken = story.stage(again, "build")
    assert (taken.status, taken.image, taken.outputs) == (Status.SUCCEEDED, image, {"V": "1"})
    assert taken.reason == f"taken over from run {first.id}"
    assert [found.path for found in artifacts.of_run(db, again.id)] == ["report.txt"]
    assert stored.files == ()
    assert story.status(again) == "succeeded"


def test_there_must_be_something_to_run_again(story, db):
    run = story.accept(stage("a"))
    with pytest.raises(Conflict, match="not over"):
        runs.retry(db, run.id, by="bob")
    story.work()
    with pytest.raises(Conflict, match="nothing failed"):
        runs.retry(db, run.id, failed_only=True, by="bob")
    assert len(runs.listing(db)) == 1


def test_a_local_run_is_resumed_from_its_dead_process(story, db):
    run = story.accept(stage("a"), stage("b", "a"), scope="laptop:1:1")
    zombie, begun = story.begin(scope="laptop:1:1")
    runs.resume(db, run.id, scope="laptop:2:2", alive=lambda scope: False, by="ada")
    lease = story.claim(scope="laptop:2:2")
    _, again, attempt = runs.begin(lease, worker="new")
    assert (again.id, attempt.number) == (begun.id, 1)
    with pytest.raises(LeaseLost):
        zombie.renew()
    runs.finish(lease, GOOD)
    assert story.work(scope="laptop:2:2") == ["b"]
    assert story.status(run) == "succeeded"


def test_what_lives_or_is_over_or_is_a_servers_is_not_resumed(story, db):
    local = story.accept(stage("a"), scope="laptop:1:1")
    server = story.accept(stage("a"))
    for run, alive, why in ((local, True, "still being worked on"), (server, False, "not a local run")):
        with pytest.raises(Conflict, match=why):
            runs.resume(db, run.id, scope="laptop:2:2", alive=lambda scope, alive=alive: alive, by="ada")
    story.work(scope="laptop:1:1")
    with pytest.raises(Conflict, match="over"):
        runs.resume(db, local.id, scope="laptop:2:2", alive=lambda scope: False, by="ada")
