"""From a file to a finished run: what the language plans is what the record accepts."""

from __future__ import annotations

import pytest

from pipeline import loading, runs
from pipeline import plan as planning
from pipeline.model import Event, Status
from tests.pipeline.story import BAD, Story

TEXT = """
version: 1
name: shop
concurrency: {group: "${{ git.ref }}", cancel_superseded: true}
defaults: {retry: {max: 1, on: [failed]}}
stages:
  lint:
    needs: []
    image: python:3.12
    run: ruff check .
    allow_failure: true
    retry: {max: 0}
  unit:
    needs: []
    image: python:3.12
    matrix: {shard: [1, 2, 3], fail_fast: false, max_parallel: 2}
    run: pytest
  docs:
    needs: []
    when: [{branch: docs}]
    image: python:3.12
    run: make docs
  publish:
    needs: [{stage: docs, optional: true}, unit, lint]
    image: python:3.12
    run: ./publish
  tell:
    needs: [unit]
    when: [{status: failed, event: push}, {status: always, event: tag}]
    image: python:3.12
    run: ./tell
"""


@pytest.fixture
def accepted(db, tmp_path):
    """Load, plan and accept the definition for a push to main."""
    path = tmp_path / "pipe.yml"
    path.write_text(TEXT)
    event = Event(kind="push", repository=str(tmp_path), ref="refs/heads/main", sha="a" * 40, branch="main")
    return lambda: runs.accept(db, planning.plan(loading.load(path), event), by="ada")


def test_a_definition_goes_through(db, accepted):
    story = Story(db)
    run = accepted()
    assert story.work({"lint": BAD}) == ["lint", "unit [shard=1]", "unit [shard=2]", "unit [shard=3]", "publish"]
    statuses = story.statuses(run)
    assert (statuses["lint"], statuses["docs"], statuses["tell"]) == ("failed", "skipped", "skipped")
    assert "docs" in story.stage(run, "docs").reason
    assert story.status(run) == "succeeded"
    assert runs.definition_text(db, run.id)[1] == TEXT


def test_a_failing_combination_is_tried_again_and_told_of(db, accepted):
    story = Story(db)
    run = accepted()
    order = story.work({"unit [shard=2]": BAD})
    assert order.count("unit [shard=2]") == 2
    assert order[-1] == "tell"
    assert story.statuses(run)["publish"] == "skipped"
    assert story.status(run) == "failed"


def test_a_newer_push_supersedes_the_older_one(db, accepted):
    first, second = accepted(), accepted()
    assert runs.get(db, first.id).status == Status.CANCELLED
    assert Story(db).work()
    assert runs.get(db, second.id).status == Status.SUCCEEDED
