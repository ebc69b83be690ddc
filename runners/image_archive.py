"""Carry pushed images as files to hosts that reach no registry, known there by the same digest.

A file is an OCI image layout in a tar, which `docker load` reads as well: manifests and layers exactly as the
registry holds them. Before anything of it is used, every blob must be what its name says, and every manifest
complete; since a digest names them all, whoever knows the digest can trust the rest. Format: the OCI Image Layout.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.errors import DefinitionError, NotFound, Unavailable
from pipeline.model import Image
from runners import images
from runners.registry import Manifest, Registry

_NAME = "pipewright.name"  # the repository's name without its host
_TAGS = "pipewright.tags"
_REFERENCE = "org.opencontainers.image.ref.name"
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_JSON_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_DAMAGE = (tarfile.TarError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Carried:
    """An image in a file."""

    name: str
    digest: str
    tags: tuple[str, ...]


def save(pushed: list[Image], open_registry: Callable[[Image], Registry], path: Path) -> list[Carried]:
    """Write pushed images to a file, whole or not at all, and return what is in it.

    Raises:
        NotFound: a registry no longer holds one of them.
        Unavailable: a registry can not be reached, or the disk is full.
    """
    making = path.with_name(f"{path.name}.part")
    try:
        with making.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                _write(archive, pushed, open_registry)
            file.flush()
            os.fsync(file.fileno())
        found = check(making)
        making.rename(path)
    except OSError as error:
        raise Unavailable(f"{path} can not be written: {error.strerror}", hint="Is there room on the disk?") from error
    finally:
        making.unlink(missing_ok=True)
    return found


def load(path: Path, open_registry: Callable[[Carried], Registry], *, expect: str = "") -> list[Carried]:
    """Check a file, put its images into registries, and return what it brought.

    `open_registry` says where an image goes; `expect` is a digest that one of them must have.

    Raises:
        DefinitionError: the file is no archive of images, is damaged, or holds another image than expected.
        Unavailable: a registry can not be reached, or does not take an image.
    """
    found = check(path)
    if expect and expect not in {image.digest for image in found}:
        held = ", ".join(f"{image.name}@{image.digest}" for image in found)
        raise DefinitionError(f"{path} does not hold the image {expect}", hint=f"It holds {held}.")
    with tarfile.open(path, mode="r:") as archive:
        layout = _Layout(archive)
        for image in found:
            registry = open_registry(image)
            try:
                _bring(layout, registry, image)
            finally:
                registry.close()
    return found


def check(path: Path) -> list[Carried]:
    """Return the images of a file in which every blob is what its name says. Raises DefinitionError."""
    try:
        with tarfile.open(path, mode="r:") as archive:
            layout = _Layout(archive)
            layout.check()
            return layout.images()
    except FileNotFoundError as error:
        raise DefinitionError(f"there is no file {path}") from error
    except (OSError, EOFError, *_DAMAGE) as error:
        said = f"{path} is not a whole archive of images: {error}"
        raise DefinitionError(said, hint="Was it made by `pipe image save` and copied whole?") from error


def _write(archive: tarfile.TarFile, pushed: list[Image], open_registry: Callable[[Image], Registry]) -> None:
    _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    index, legacy, written = [], [], set[str]()
    for image in pushed:
        registry = open_registry(image)
        try:
            manifest = registry.get(image.digest)
            if manifest is None:
                raise NotFound(f"{image.reference} is no longer in its registry", hint="`pipe retry` builds it again.")
            for digest, size in _blobs(manifest):
                if digest not in written:
                    _fetch(archive, registry, digest, size)
                    written.add(digest)
        finally:
            registry.close()
        if manifest.digest not in written:
            _add(archive, _path(manifest.digest), manifest.body)
            written.add(manifest.digest)
        name = registry.repository.name
        index.append(_described(image, name, manifest))
        paths = [_path(digest) for digest, _ in _blobs(manifest)]
        names = [f"{name}:{tag}" for tag in image.tags]
        legacy.append({"Config": paths[0], "RepoTags": names or None, "Layers": paths[1:]})
    _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": index}).encode())
    _add(archive, "manifest.json", json.dumps(legacy).encode())


def _described(image: Image, name: str, manifest: Manifest) -> dict[str, Any]:
    annotations = {_NAME: name, _TAGS: " ".join(image.tags)}
    annotations |= {_REFERENCE: image.tags[0]} if image.tags else {}
    return {
        "mediaType": manifest.type,
        "digest": manifest.digest,
        "size": len(manifest.body),
        "annotations": annotations,
    }


def _blobs(manifest: Manifest) -> list[tuple[str, int]]:
    """Return digest and size of an image's configuration and layers, in this order."""
    told = json.loads(manifest.body)
    if "config" not in told:
        raise DefinitionError(f"{manifest.digest} is an index of several platforms, which can not be carried as a file")
    return [(str(part["digest"]), int(part["size"])) for part in (told["config"], *told["layers"])]


def _fetch(archive: tarfile.TarFile, registry: Registry, digest: str, size: int) -> None:
    info = tarfile.TarInfo(_path(digest))
    info.size = size
    with registry.blob(digest) as chunks, tempfile.TemporaryFile() as file:
        for chunk in chunks:
            file.write(chunk)
        if file.tell() != size:
            raise Unavailable(f"{registry.repository} gave {file.tell()} of {size} bytes of {digest}", cause="registry")
        file.seek(0)
        archive.addfile(info, file)


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


class _Layout:
    """An image layout in an open tar. Raises ValueError and its kin for what does not hold."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members: Mapping[str, tarfile.TarInfo] = {m.name: m for m in archive if m.isfile()}

    def images(self) -> list[Carried]:
        """Return what the index names."""
        entries = json.loads(self._text("index.json"))["manifests"]
        if not entries:
            raise ValueError("it names no image")
        return [self._image(entry) for entry in entries]

    def _image(self, entry: Mapping[str, Any]) -> Carried:
        told = entry.get("annotations") or {}
        return Carried(str(told[_NAME]), str(entry["digest"]), tuple(str(told.get(_TAGS) or "").split()))

    def check(self) -> None:
        """Look at every blob, and for every part of every manifest."""
        for name in self._members:
            if (match := _BLOB.fullmatch(name)) and self._digest(name) != match[1]:
                raise ValueError(f"the blob {match[1]} is damaged")
        for image in self.images():
            for digest, size in _blobs(self.manifest(image.digest)):
                if self._members[_path(digest)].size != size:
                    raise ValueError(f"the blob {digest} is incomplete")

    def manifest(self, digest: str) -> Manifest:
        """Return the manifest of a digest."""
        body = self._text(_path(digest))
        types = [str(entry["mediaType"]) for entry in json.loads(self._text("index.json"))["manifests"]
                 if entry["digest"] == digest]  # fmt: skip
        return Manifest(types[0], body)

    @contextmanager
    def blob(self, digest: str) -> Iterator[tuple[IO[bytes], int]]:
        """Open a blob, with its size."""
        member = self._members[_path(digest)]
        file = self._archive.extractfile(member)
        if file is None:
            raise ValueError(f"the blob {digest} is no file")
        with file:
            yield file, member.size

    def _text(self, name: str) -> bytes:
        if self._members[name].size > _JSON_BYTES:
            raise ValueError(f"{name} is too large")
        file = self._archive.extractfile(self._members[name])
        return file.read() if file else b""

    def _digest(self, name: str) -> str:
        digest = hashlib.sha256()
        with self.blob("sha256:" + name.rpartition("/")[2]) as (file, _):
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()


def _bring(layout: _Layout, registry: Registry, image: Carried) -> None:
    manifest = layout.manifest(image.digest)
    for digest, _ in _blobs(manifest):
        if not registry.has_blob(digest):
            with layout.blob(digest) as (file, size):
                registry.upload(digest, file, size)
    for tag in (images.content_tag(manifest.config), *image.tags):
        registry.put(tag, manifest)
