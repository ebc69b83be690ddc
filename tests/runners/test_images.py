"""Our images and cache stay within a budget, others' are left alone; archives are whole or refused."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import uuid

import pytest

from pipeline import builds
from pipeline.errors import DefinitionError, NotFound
from runners import image_archive, image_budget, images
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
    ("description", "ours"),
    [
        ("[runtime 3/3] COPY app.py .", True),
        ("[5/9] COPY app.py .", True),
        ("mount / from exec /bin/sh -c make all", True),
        ('cached mount /c from exec /bin/sh -c x with id "01234567-hello-trusted//c"', True),
        ('cached mount /c from exec /bin/sh -c x with id "89abcdef-hello-trusted//c"', False),
        ("mount / from exec /bin/sh -c make", False),
        ("[1/2] COPY other .", False),
        ("local source for context", False),
        ("pulled from docker.io/library/debian", False),
    ],
)
def test_only_cache_of_our_instructions_is_ours(description, ours):
    known = {"COPY app.py .", "RUN --mount=type=cache,target=/c --network=none make all"}
    entry = CacheEntry("id", description, 1, 1.0, False)
    assert image_budget._is_ours(entry, known, "0123456789") == ours


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


@pytest.mark.docker
def test_an_image_travels_as_a_file(place, tmp_path):
    image = built(place, 1)
    name = next(iter(place.store.listing({"pipewright.installation": place.db.installation}))).names[0]
    path = tmp_path / "image.tar"
    assert image_archive.save(place.store, [name], path) == [image_archive.Carried(image, (name,))]
    assert place.store.remove(name)
    assert place.store.id_of(image) is None
    other = "sha256:" + "0" * 64
    with pytest.raises(DefinitionError, match="does not hold the image"):
        image_archive.load(place.store, path, expect=other)
    assert place.store.id_of(image) is None
    assert image_archive.load(place.store, path, expect=image)[0].id == image
    assert place.store.id_of(name) == image


@pytest.mark.docker
def test_a_changed_byte_in_a_layer_is_found_before_anything_is_loaded(place, tmp_path):
    image = built(place, 1)
    path = tmp_path / "image.tar"
    image_archive.save(place.store, [image], path)
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        layer = max((member for member in archive if member.isfile()), key=lambda member: member.size)
    data[layer.offset_data + layer.size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DefinitionError, match="damaged"):
        image_archive.load(place.store, path)


@pytest.mark.docker
def test_an_image_that_is_not_here_can_not_be_saved(place, tmp_path):
    with pytest.raises(NotFound, match="there is no image nothing:1"):
        image_archive.save(place.store, ["nothing:1"], tmp_path / "x.tar")
    assert list(tmp_path.glob("x.tar*")) == []


def archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", ".").replace("_dir_", "/"))
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


LAYER = b"layer"
CONFIG = json.dumps({"rootfs": {"diff_ids": [f"sha256:{hashlib.sha256(LAYER).hexdigest()}"]}}).encode()
NAME = f"{hashlib.sha256(CONFIG).hexdigest()}__json"


def manifest(config: str = NAME, layers: object = ("l",)) -> bytes:
    return json.dumps([{"Config": config.replace("__", "."), "Layers": layers, "RepoTags": None}]).encode()


def test_an_archive_of_an_older_engine_is_read_as_well(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(archive(manifest__json=manifest(), l=LAYER, **{NAME: CONFIG}))
    assert image_archive.check(path)[0].id == f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        archive(),
        archive(manifest__json=b"{}"),
        archive(manifest__json=b"[]"),
        archive(manifest__json=b"["),
        archive(manifest__json=manifest()),
        archive(manifest__json=manifest(), l=b"other", **{NAME: CONFIG}),
        archive(manifest__json=manifest(layers=[]), l=LAYER, **{NAME: CONFIG}),
        archive(manifest__json=manifest(layers=["../l"]), l=LAYER, **{NAME: CONFIG}),
        archive(manifest__json=manifest("x"), l=LAYER, x=CONFIG),
        archive(manifest__json=b"[" * 100000),
        archive(manifest__json=manifest(), l=LAYER, **{NAME: CONFIG})[:700],
    ],
)
def test_what_is_no_whole_archive_is_refused(tmp_path, data):
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(DefinitionError, match="not a whole archive"):
        image_archive.check(path)
