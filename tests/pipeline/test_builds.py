"""Builds on record: the one before, and which images were not used for longest."""

from __future__ import annotations

import pytest

from pipeline import builds, queue, runs
from pipeline.errors import LeaseLost
from tests.pipeline.story import GOOD, Story, stage


@pytest.fixture
def build(db):
    """Build an image on a branch, as a stage does."""
    story = Story(db)

    def one(image_id, branch="main", base="image", **more):
        story.accept(stage(base, kind="build"), branch=branch)
        lease, _ = story.begin()
        values = {"files": {"app.py": "1"}, "steps": [{"text": "COPY", "hit": True}]} | more
        runs.record_build(lease, pipeline="shop", base=base, branch=branch, image_id=image_id, **values)
        runs.finish(lease, GOOD)

    return one


def previous(db, *arguments):
    found = runs.previous_build(db, "shop", "image", *arguments)
    return found and found["image_id"]


def test_the_last_build_of_the_branch_comes_first_then_that_of_the_default_branch(db, build):
    assert previous(db, "feature", "main") is None
    build("sha256:1")
    build("sha256:2")
    assert previous(db, "feature", "main") == "sha256:2"
    assert previous(db, "feature") is None
    build("sha256:3", branch="feature")
    assert previous(db, "feature", "main") == "sha256:3"
    assert previous(db, "main", "main") == "sha256:2"
    build("sha256:4", base="other")
    assert previous(db, "main", "main") == "sha256:2"


def test_what_went_in_is_kept(db, build):
    build("sha256:1", files={"files": {"a": ["x", 1, 2]}}, steps=[{"why": "app.py changed"}])
    found = runs.previous_build(db, "shop", "image", "main")
    assert found["files"] == {"files": {"a": ["x", 1, 2]}}
    assert found["steps"] == [{"why": "app.py changed"}]


def test_recorded_again_after_a_crash_the_later_one_counts(db):
    story = Story(db)
    story.accept(stage("image", kind="build"))
    lease, _ = story.begin()
    for image_id in ("sha256:1", "sha256:2"):
        builds.record(lease, pipeline="shop", base="image", branch="main", image_id=image_id, files={}, steps=[])
    assert [image for image, _, _ in builds.images(db)] == ["sha256:2"]


def test_whoever_lost_the_lease_records_no_build(db):
    story = Story(db)
    story.accept(stage("image", kind="build"))
    lease, _ = story.begin()
    with db.write() as tx:
        queue.withdraw(tx, kind="stage", ref=lease.ref)
    with pytest.raises(LeaseLost):
        builds.record(lease, pipeline="shop", base="image", branch="main", image_id="x", files={}, steps=[])
    assert builds.images(db) == []


def test_the_longest_unused_image_comes_first(db, build, clock):
    for number in (1, 2, 3):
        build(f"sha256:{number}", size_bytes=number * 100)
        clock.leap(60)
    builds.use(db, "sha256:1")
    assert [(image, size) for image, _, size in builds.images(db)] == [
        ("sha256:2", 200),
        ("sha256:3", 300),
        ("sha256:1", 100),
    ]
    builds.forget(db, "sha256:2")
    assert [image for image, _, _ in builds.images(db)] == ["sha256:3", "sha256:1"]
