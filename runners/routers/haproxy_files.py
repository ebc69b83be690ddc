"""What the proxy must know after a restart, on disk: the registry of routes and one map per environment.

Every write is temporary file, fsync, rename, fsync of the folder, under one lock per proxy. A map carries
the epoch of its last owner in a comment. Whether the running proxy agrees is the router's question.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import NeedsAttention, Unavailable
from runners.routers.haproxy_config import Entry, from_data, to_data


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One environment's map as it stands on disk; the values are names of backends."""

    epoch: int = 0
    live: str = ""
    idle: str = ""
    warm: str = ""
    fell_back: bool = False  # the proxy changed `live` by itself, and nobody has looked at it yet

    @property
    def pairs(self) -> dict[str, str]:
        """Return the keys that the proxy knows."""
        return {k: v for k, v in (("live", self.live), ("idle", self.idle), ("warm", self.warm)) if v}


def write_durably(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a file so that after a power loss either the old or the new text is there."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise Unavailable(
            f"can not write {path}: {error.strerror}", hint="free some space or mend the folder's rights, then retry"
        ) from error


@contextlib.contextmanager
def locked(folder: Path, *, timeout_seconds: float = 20.0) -> Iterator[None]:
    """Hold the proxy's lock; the kernel gives it back when its holder dies. Raises Unavailable after the timeout."""
    try:
        (folder / "maps").mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"can not write in {folder}: {error.strerror}", hint="mend the folder's rights or free some space"
        ) from error
    with file:
        give_up = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    file.seek(0)
                    raise Unavailable(
                        f"another process ({file.read().strip() or 'unknown'}) holds {folder / 'lock'}",
                        hint="let it go on or end it; nothing was changed",
                    ) from None
                time.sleep(0.01)
        with contextlib.suppress(OSError):  # only for the message above; a full disk may still be read from
            file.truncate(0)
            file.write(f"pid {os.getpid()}")
            file.flush()
        yield


def read_registry(folder: Path) -> dict[str, Entry]:
    """Return the recorded environments by key. Raises NeedsAttention when the file is not readable."""
    try:
        text = (folder / "routes.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        return {key: from_data(data) for key, data in json.loads(text).items()}
    except (ValueError, KeyError, TypeError) as error:
        raise NeedsAttention(
            f"{folder / 'routes.json'} is damaged: {error}",
            hint="restore the file from a backup; the running proxy goes on as it is",
        ) from error


def write_registry(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Record the environments."""
    data = {key: to_data(entries[key]) for key in sorted(entries)}
    write_durably(folder / "routes.json", json.dumps(data, indent=1) + "\n")


def read_map(folder: Path, key: str) -> Recorded | None:
    """Return an environment's map as recorded, or None when there is none."""
    try:
        lines = (folder / "maps" / f"{key}.map").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    words = [line.lstrip("# ").split() for line in lines]
    found = {pair[0]: pair[1] for pair in words if len(pair) == 2}
    return Recorded(
        epoch=int(found.get("epoch", 0)),
        live=found.get("live", ""),
        idle=found.get("idle", ""),
        warm=found.get("warm", ""),
        fell_back=found.get("fell_back") == "yes",
    )


def write_map(folder: Path, key: str, recorded: Recorded) -> None:
    """Record an environment's map: the truth after a restart of the proxy."""
    lines = [f"# epoch {recorded.epoch}"]
    if recorded.fell_back:
        lines.append("# fell_back yes")
    lines += [f"{name} {value}" for name, value in recorded.pairs.items()]
    write_durably(folder / "maps" / f"{key}.map", "\n".join(lines) + "\n")


def remove_map(folder: Path, key: str) -> None:
    """Forget an environment's map; idempotent."""
    (folder / "maps" / f"{key}.map").unlink(missing_ok=True)
