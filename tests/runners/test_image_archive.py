"""An image travels as a file to a host without a registry, and is the same digest there, or is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import uuid
from dataclasses import replace

import pytest

from pipeline import settings as settings_module
from pipeline.errors import DefinitionError, NotFound, Unavailable
from pipeline.model import Image
from runners import image_archive, local_registry, process
from runners.registry import Registry, Repository
from tests.runners.yard import free_port, yard


@pytest.fixture
def place(tmp_path):
    with yard(tmp_path) as made:
        made.write({"Dockerfile": "FROM scratch\nCOPY noise /noise\n", "noise": os.urandom(500_000).hex()})
        yield made


@pytest.fixture
def pushed(place) -> Image:
    return place.push(place.build().image.id, tags=("v1", "v2")).image


def registry_of(place, name: str = "shop") -> Registry:
    return Registry(Repository(local_registry.host(place.settings), name), place.settings)


@pytest.mark.docker
def test_an_image_travels_as_a_file_and_is_the_same_digest_there(place, pushed, tmp_path):
    path = tmp_path / "shop.tar"
    carried = image_archive.Carried("shop", pushed.digest, ("v1", "v2"))
    assert image_archive.save([pushed], lambda image: registry_of(place), path) == [carried]
    there = replace(place, settings=replace(place.settings, registry_port=free_port()))
    place.engine.remove(f"pipe-registry-{place.db.installation[:8]}")
    place.engine.remove_volume(f"pipe-registry-{place.db.installation[:8]}")  # another host: nothing of it is here
    local_registry.ensure(there.engine, there.settings, there.db.installation)
    assert image_archive.load(path, lambda image: registry_of(there, image.name), expect=pushed.digest) == [carried]
    assert image_archive.load(path, lambda image: registry_of(there, image.name)) == [carried]
    registry = registry_of(there)
    assert registry.head("v1") == registry.head("v2") == pushed.digest
    assert registry.get(pushed.digest).config == pushed.id
    registry.close()
    for name in [name for image in place.store.listing({}) if image.id == pushed.id for name in image.names]:
        place.store.remove(name)
    assert place.store.id_of(pushed.id) is None
    assert place.engine.pull(f"{local_registry.host(there.settings)}/shop@{pushed.digest}") == pushed.id


@pytest.mark.docker
def test_docker_itself_can_load_the_file(place, pushed, tmp_path):
    path = tmp_path / "shop.tar"
    image_archive.save([replace(pushed, tags=(f"t{uuid.uuid4().hex}",))], lambda image: registry_of(place), path)
    done = process.run(["docker", "load", "--input", str(path)], env=settings_module.passed_on())
    assert done.ok, done
    name = done.text.rpartition(": ")[2]
    assert place.store.id_of(name) == pushed.id
    place.store.remove(name)


@pytest.mark.docker
def test_a_changed_byte_and_another_image_are_refused_before_anything_is_sent(place, pushed, tmp_path):
    path = tmp_path / "shop.tar"
    image_archive.save([pushed], lambda image: registry_of(place), path)

    def nowhere(image: image_archive.Carried) -> Registry:
        raise AssertionError("nothing may be sent")

    with pytest.raises(DefinitionError, match="does not hold the image sha256:00"):
        image_archive.load(path, nowhere, expect="sha256:" + "0" * 64)
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        layer = max((member for member in archive if member.isfile()), key=lambda member: member.size)
    data[layer.offset_data + layer.size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DefinitionError, match="damaged"):
        image_archive.load(path, nowhere)


@pytest.mark.docker
def test_an_image_that_its_registry_lost_is_named_and_leaves_no_file(place, pushed, tmp_path):
    lost = replace(pushed, digest="sha256:" + "0" * 64)
    with pytest.raises(NotFound, match="no longer in its registry"):
        image_archive.save([lost], lambda image: registry_of(place), tmp_path / "x.tar")
    with pytest.raises(Unavailable, match="can not be written"):
        image_archive.save([pushed], lambda image: registry_of(place), tmp_path / "none/x.tar")
    assert list(tmp_path.glob("x.tar*")) == []


LAYER, CONFIG = b"layer", b"{}"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def manifest(config: bytes = CONFIG, layer: bytes = LAYER, **more: object) -> bytes:
    parts = [{"digest": digest(data), "size": len(data)} for data in (config, layer)]
    return json.dumps({"config": parts[0], "layers": parts[1:]} | more).encode()


def index(*manifests: bytes, name: object = "shop") -> bytes:
    entries = [
        {"mediaType": "m", "digest": digest(data), "size": len(data), "annotations": {"pipewright.name": name}}
        for data in manifests
    ]
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def archive(*blobs: bytes, **files: bytes) -> bytes:
    out = io.BytesIO()
    named = {f"blobs/{digest(data).replace(':', '/')}": data for data in blobs}
    named |= {name.replace("_json", ".json"): data for name, data in files.items()}
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, data in named.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


WHOLE = archive(CONFIG, LAYER, manifest(), index_json=index(manifest()))
DAMAGED = {
    "empty": b"",
    "no tar": b"no archive",
    "nothing in it": archive(),
    "no index": archive(CONFIG, LAYER, manifest()),
    "an index that is none": archive(index_json=b"["),
    "an index of another kind": archive(index_json=b"{}"),
    "an index of nothing": archive(index_json=index()),
    "a deep index": archive(index_json=b"[" * 100000),
    "a missing manifest": archive(CONFIG, LAYER, index_json=index(manifest())),
    "a missing layer": archive(CONFIG, manifest(), index_json=index(manifest())),
    "a missing configuration": archive(LAYER, manifest(), index_json=index(manifest())),
    "a manifest of nothing": archive(b"{}", b"null", index_json=index(b"null")),
    "a path as digest": archive(index_json=index(manifest()).replace(b"sha256:", b"../../")),
    "cut short": WHOLE[:1500],
}


def test_a_whole_archive_is_taken(tmp_path):
    (tmp_path / "a.tar").write_bytes(WHOLE)
    assert image_archive.check(tmp_path / "a.tar") == [image_archive.Carried("shop", digest(manifest()), ())]


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_not_whole_is_refused(tmp_path, kind):
    (tmp_path / "a.tar").write_bytes(DAMAGED[kind])
    with pytest.raises(DefinitionError, match="not a whole archive"):
        image_archive.check(tmp_path / "a.tar")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DefinitionError, match="there is no file"):
        image_archive.check(tmp_path / "a.tar")
