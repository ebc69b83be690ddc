"""Carry images as files, for hosts that reach no registry: the archive of `docker save`, checked down to each layer.

An image is its id, the hash of its configuration, which names the hash of every layer: an archive is
loaded only when all of them hold, and only when it brings the image that was asked for. Format: the
`manifest.json` of Docker's image archives, which OCI layouts written by newer engines hold as well.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.errors import DefinitionError, NotFound, Unavailable
from runners.image_store import ImageStore

_JSON_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Carried:
    """An image in an archive."""

    id: str
    names: tuple[str, ...]


def save(store: ImageStore, names: list[str], path: Path) -> list[Carried]:
    """Write images to a file, whole or not at all, and return what is in it.

    Raises:
        NotFound: there is no such image.
        Unavailable: the disk is full.
    """
    missing = [name for name in names if store.id_of(name) is None]
    if missing:
        raise NotFound(f"there is no image {missing[0]} here", hint="`pipe show RUN` tells the images of a run.")
    making = path.with_name(path.name + ".part")
    try:
        with making.open("wb") as file, store.saved(names) as chunks:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        found = check(making)
        making.rename(path)
    except OSError as error:
        raise Unavailable(f"{path} can not be written: {error.strerror}", hint="Is there room on the disk?") from error
    finally:
        making.unlink(missing_ok=True)
    return found


def load(store: ImageStore, path: Path, *, expect: str = "") -> list[Carried]:
    """Check an archive, load it, and return what it brought; `expect` is the id that one of its images must have.

    Raises:
        DefinitionError: the file is no archive of images, is damaged, or holds another image than expected.
    """
    found = check(path)
    if expect and expect not in {image.id for image in found}:
        held = ", ".join(image.id for image in found)
        raise DefinitionError(f"{path} does not hold the image {expect}", hint=f"It holds {held}.")
    with path.open("rb") as file:
        store.load(file)
    missing = [image.id for image in found if store.id_of(image.id) is None and not _came(store, image)]
    if missing:
        raise Unavailable(f"the engine did not take {missing[0]} from {path}", hint="What does the engine's log say?")
    return found


def _came(store: ImageStore, image: Carried) -> bool:
    """Tell whether the engine knows the image by name: with containerd's store its id is another one."""
    return any(store.id_of(name) for name in image.names)


def check(path: Path) -> list[Carried]:
    """Return the images of an archive whose every layer is what its configuration says. Raises DefinitionError."""
    try:
        with tarfile.open(path, mode="r:") as archive:
            members = {member.name: member for member in archive if member.isfile()}
            entries = _json(archive, members, "manifest.json")
            if not isinstance(entries, list) or not entries:
                raise _Damaged("its manifest names no image")
            return [_checked(archive, members, entry) for entry in entries]
    except FileNotFoundError as error:
        raise DefinitionError(f"there is no file {path}") from error
    except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, _Damaged) as error:
        raise DefinitionError(
            f"{path} is not a whole archive of images: {error}",
            hint="Was it written by `pipe image save` and copied whole?",
        ) from error


class _Damaged(Exception):
    """What an archive says of itself does not hold."""


def _checked(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], entry: Mapping[str, Any]) -> Carried:
    name = str(entry["Config"])
    config = _read(archive, members, name)
    layers = [str(layer) for layer in entry["Layers"]]
    expected = [str(digest) for digest in json.loads(config)["rootfs"]["diff_ids"]]
    if len(layers) != len(expected):
        raise _Damaged("layers are missing")
    for layer, digest in zip(layers, expected, strict=True):
        if _digest(archive, _member(archive, members, layer)) != digest:
            raise _Damaged(f"the layer {digest} is damaged")
    image = f"sha256:{hashlib.sha256(config).hexdigest()}"
    if Path(name).name.removesuffix(".json") != image.removeprefix("sha256:"):
        raise _Damaged("the configuration is damaged")
    return Carried(image, tuple(entry.get("RepoTags") or ()))


def _member(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> IO[bytes]:
    if name not in members:  # older engines write a layer twice as a link; theirs is read at its first place
        linked = archive.getmember(name)
        name = os.path.normpath(Path(name).parent / linked.linkname) if linked.issym() else linked.linkname
    file = archive.extractfile(members[name])
    if file is None:
        raise _Damaged(f"{name} is no file")
    return file


def _read(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> bytes:
    if members[name].size > _JSON_BYTES:
        raise _Damaged(f"{name} is too large")
    return _member(archive, members, name).read()


def _json(archive: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], name: str) -> Any:
    return json.loads(_read(archive, members, name))


def _digest(archive: tarfile.TarFile, file: IO[bytes]) -> str:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    digest = hashlib.sha256()
    stream: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
