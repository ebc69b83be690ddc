"""Our images and cache stay within a budget, and others' are left alone."""

from __future__ import annotations

import uuid

import pytest

from pipeline import builds
from runners import image_budget, images
from runners.engines import ContainerSpec
from runners.image_store import CacheEntry
from tests.runners.yard import BASE, yard


def test_names_are_readable_legal_and_apart():
    assert images.tag_of("main") == "main"
    tags = {
        images.tag_of(branch) for branch in ("feature/x", "feature-x", "Feature-X", "feature/X", "ä", "ö", "", "-", ".")
    }
    assert len(tags) == 9
    assert images.name("0123456789", "my__app", "test-") == "pipewright/01234567/my-app/test"
    assert len(images.cache_tag("s" * 63, "b" * 300)) <= 128


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("pipewright/01234567/hello/image:main", True),
        ("127.0.0.1:5461/shop:pipe-0123", True),
        ("pipewright/debian:12", False),
        ("pipewright/89abcdef/hello/image:main", False),
        ("shop:latest", False),
    ],
)
def test_only_names_that_we_gave_are_ours(name, ours):
    assert image_budget.is_our_name(name, "0123456789") == ours


@pytest.mark.parametrize(
    ("description", "created", "used", "ours"),
    [
        ("[runtime 3/3] COPY app.py .", 105, 205, True),  # made by our first build, last used by our second
        ("[5/9] COPY app.py .", 105, 150, False),  # somebody else used it since
        ("[5/9] COPY app.py .", 50, 105, False),  # somebody else made it
        ("mount / from exec /bin/sh -c make all", 105, 106, True),
        ("mount / from exec /bin/sh -c make", 105, 106, False),
        ("[1/2] COPY other .", 105, 106, False),
        ('cached mount /c from exec /bin/sh -c x with id "01234567-hello-trusted//c"', 1, 2, True),
        ('cached mount /c from exec /bin/sh -c x with id "89abcdef-hello-trusted//c"', 105, 106, False),
        ("local source for context", 105, 106, False),
        ("pulled from docker.io/library/debian", 105, 106, False),
    ],
)
def test_only_cache_that_our_builds_made_and_last_used_is_ours(description, created, used, ours):
    texts = ("COPY app.py .", "RUN --mount=type=cache,target=/c --network=none make all")
    times = ((100.0, 110.0), (200.0, 210.0))
    steps = [{"text": text, "started": begin, "finished": end} for text in texts for begin, end in times]
    entry = CacheEntry("id", description, 1, created, used, False)
    assert image_budget._Known(steps, "0123456789").made(entry) == ours


@pytest.fixture
def place(tmp_path):
    with yard(tmp_path) as made:
        yield made


def built(place, megabytes: int, stage: str = "image") -> str:
    """Build an image with a layer of its own; the tag of the branch moves on, so each is of a stage of its own."""
    noise = f"head -c {megabytes}000000 /dev/urandom > /noise; echo {uuid.uuid4()}"
    place.write({"Dockerfile": f"FROM {BASE}\nRUN {noise}\n"})
    return place.build(stages={stage: {"build": {}}}, do=stage).image.id


@pytest.mark.docker
def test_the_longest_unused_goes_first_and_what_must_stay_stays(place):
    kept, old, busy, recent = (built(place, 4, name) for name in ("kept", "old", "busy", "recent"))
    container = ContainerSpec(
        name=f"pipe-test-{uuid.uuid4().hex[:12]}", image=busy, labels={"pipewright.installation": place.db.installation}
    )
    place.engine.create(container)
    builds.use(place.db, recent)
    foreign = {image.id for image in place.store.listing({})} - {kept, old, busy, recent}
    done = image_budget.trim(place.store, place.db, budget_bytes=13_000_000, keep=lambda image: image == kept)
    assert done.images == [old]
    assert done.before_bytes >= 16_000_000 > 13_000_000 >= done.after_bytes
    here = {image.id for image in place.store.listing({})}
    assert {kept, busy, recent} <= here
    assert old not in here
    assert old not in {image for image, _, _ in builds.images(place.db)}
    assert foreign <= here


@pytest.mark.docker
def test_without_a_budget_all_that_may_go_goes_with_its_cache(place):
    image = built(place, 2)
    place.store.name(image, f"someone/{uuid.uuid4().hex}", "mine")
    named = place.store.listing({"pipewright.installation": place.db.installation})[0].names
    done = image_budget.trim(place.store, place.db, budget_bytes=0, keep=lambda image: False)
    assert done.images == []  # somebody gave it a name of his own
    for name in named:
        if name.startswith("someone/"):
            place.store.remove(name)
    done = image_budget.trim(place.store, place.db, budget_bytes=0, keep=lambda image: False)
    assert done.images == [image]
    assert done.cache_entries >= 1  # the layer's own, once no image holds it


@pytest.mark.docker
def test_what_runs_and_promotions_need_must_stay(place):
    from pipeline import environments, promotions, runs
    from pipeline.model import Image, Outcome, Status

    needed, old = built(place, 1, "needed"), built(place, 1, "old")
    stages = {"image": {"build": {}}, "push": {"push": {"image": "x", "to": "y"}, "needs": ["image"]}}
    with place.work(stages, "image", scope="elsewhere") as work:
        runs.finish(work.lease, Outcome(status=Status.SUCCEEDED, image=Image(id=needed)))
        run = work.run
    assert image_budget.must_stay(place.db, place.engine) == {needed}
    standing = environments.ensure(place.db, place.settings, "hello", "test", {})
    release = {"images": {"web": old}, "config_hash": ""}
    promotions.request(place.db, standing, run, release=release, policy={}, by="t")
    assert image_budget.must_stay(place.db, place.engine) == {needed, old}
    done = image_budget.trim(place.store, place.db, budget_bytes=0, keep={needed, old}.__contains__, dry_run=True)
    assert done.images == []
    done = image_budget.trim(place.store, place.db, budget_bytes=0, keep={needed}.__contains__, dry_run=True)
    assert done.images == [old]
    assert place.store.id_of(old) == old
