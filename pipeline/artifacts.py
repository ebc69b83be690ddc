"""The store of artifacts: contents under their SHA-256, names only in the database.

No name from a stage ever becomes a path of ours. A content is written before a row names it, and removed after
no row does; what a crash leaves over is swept. Which files a stage keeps is the runners' business.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from sqlalchemy import delete, insert, select

from pipeline import tar
from pipeline.errors import NotFound, StageFailed, Unavailable
from pipeline.schema import artifacts, stages

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.queue import Lease
    from pipeline.settings import Settings

GRACE_SECONDS = 3600.0  # how old a content without a row must be to be swept: its row may be under way
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One file in the store, with the name that it had."""

    path: str
    size_bytes: int
    sha256: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(Stored):
    """One artifact of a stage."""

    id: int
    stage_id: int
    stage: str
    attempt: int
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What `keep` did: the files that are stored, and (name, why) of every member that was refused."""

    files: tuple[Stored, ...]
    refused: tuple[tuple[str, str], ...]


def put(settings: Settings, content: Path | Iterable[bytes]) -> tuple[str, int]:
    """Store a content and return its SHA-256 and its size. Raises Unavailable."""
    folder = settings.artifacts
    digest, size = hashlib.sha256(), 0
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = folder / f".draft-{os.getpid()}-{threading.get_ident()}"
        try:
            with draft.open("wb") as file:
                for chunk in _read(content) if isinstance(content, Path) else content:
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                file.flush()
                os.fdatasync(file.fileno())
            target = _place(settings, digest.hexdigest())
            target.parent.mkdir(exist_ok=True, mode=0o700)
            draft.replace(target)  # also where it is already: the same content, with a new date
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(
            f"artifacts can not be stored in {folder}: {error.strerror}",
            hint="free some space (`pipe gc`, `df -h`), or give the folder to this user",
        ) from error
    return digest.hexdigest(), size


def keep(settings: Settings, archive: Iterable[bytes], *, limits: tar.Limits | None = None) -> Kept:
    """Store the regular files of a tar archive; what else it holds is refused member by member.

    Of two members with one name the later one counts. Raises Unavailable, and StageFailed for a broken archive.
    """
    found: dict[str, Stored] = {}
    refused: list[tuple[str, str]] = []
    try:
        for member in tar.files(archive, lambda name, why: refused.append((name, why)), limits=limits):
            key, size = put(settings, member.chunks)
            found[member.path] = Stored(path=member.path, size_bytes=size, sha256=key, mode=member.mode)
    except tar.ArchiveRefused as error:
        raise StageFailed(
            f"the archive of the artifacts is refused: {error}", hint="keep fewer or smaller files"
        ) from error
    return Kept(tuple(found.values()), tuple(refused))


def record(lease: Lease, attempt: int, files: Sequence[Stored], *, keep_seconds: float | None) -> None:
    """Name stored files as artifacts of the lease's stage and the attempt with this number.

    Recorded again, the later ones count. Raises LeaseLost.
    """
    stage_id = lease.ref
    expires_at = None if keep_seconds is None else lease.db.now() + keep_seconds
    rows = [
        {
            "stage_id": stage_id,
            "attempt": attempt,
            "path": file.path.encode(errors="surrogateescape").decode(errors="replace"),  # a name that is not UTF-8
            "size_bytes": file.size_bytes,
            "sha256": file.sha256,
            "mode": file.mode,
            "expires_at": expires_at,
        }
        for file in files
    ]
    with lease.db.write() as tx:
        lease.guard(tx)
        tx.execute(delete(artifacts).where(artifacts.c.stage_id == stage_id, artifacts.c.attempt == attempt))
        if rows:
            tx.execute(insert(artifacts), list({row["path"]: row for row in rows}.values()))


def of_run(db: Database, run_id: int) -> list[Artifact]:
    """Return the artifacts of a run's stages (of their last attempts), by stage and path."""
    return _select(db, stages.c.run_id == run_id)


def of_stage(db: Database, stage_id: int) -> list[Artifact]:
    """Return the artifacts of a stage's last attempt, by path."""
    return _select(db, stages.c.id == stage_id)


def _select(db: Database, condition: object) -> list[Artifact]:
    query = (
        select(artifacts, stages.c.name.label("stage"))
        .select_from(artifacts.join(stages, artifacts.c.stage_id == stages.c.id))
        .where(condition, artifacts.c.attempt == stages.c.attempts)  # type: ignore[arg-type]
        .order_by(stages.c.position, stages.c.id, artifacts.c.path)
    )
    with db.read() as connection:
        return [Artifact(**row._mapping) for row in connection.execute(query)]


def get(settings: Settings, sha256: str) -> BinaryIO:
    """Open a content for reading. Raises NotFound."""
    try:
        return _place(settings, sha256).open("rb")
    except FileNotFoundError as error:
        raise NotFound(
            f"the artifact {sha256[:12]} is not in the store", hint="it has expired; run the stage again"
        ) from error


def pack(settings: Settings, files: Iterable[Stored]) -> Iterator[bytes]:
    """Yield a tar archive of stored files, at the paths that they had. Raises NotFound."""

    def contents(file: Stored) -> Iterator[bytes]:
        with get(settings, file.sha256) as content:
            while chunk := content.read(1024 * 1024):
                yield chunk

    yield from tar.pack(tar.Member(file.path, file.size_bytes, file.mode, contents(file)) for file in files)


def expire(db: Database, settings: Settings) -> int:
    """Forget artifacts whose time is over, and remove contents that nothing names any more; return the bytes freed."""
    with db.write() as tx:
        tx.execute(delete(artifacts).where(artifacts.c.expires_at <= db.now()))
    return sweep(db, settings)


def sweep(db: Database, settings: Settings, *, grace_seconds: float = GRACE_SECONDS) -> int:
    """Remove contents that no row names and that are older than the grace; return the bytes freed."""
    freed = 0
    for path in sorted(settings.artifacts.glob("*")):
        if path.is_dir():
            freed += sum(_sweep(db, file, grace_seconds) for file in sorted(path.iterdir()))
        elif path.name.startswith(".draft-"):
            freed += _remove_old(path, db.now() - grace_seconds)
    return freed


def _sweep(db: Database, file: Path, grace_seconds: float) -> int:
    """Remove one content unless it is named or young; looked at once more while nobody else writes."""
    if not _KEY.fullmatch(file.name):
        return 0
    named = select(artifacts.c.id).where(artifacts.c.sha256 == file.name).limit(1)
    with db.read() as connection:
        if connection.execute(named).first():
            return 0
    with db.write() as tx:
        return 0 if tx.execute(named).first() else _remove_old(file, db.now() - grace_seconds)


def _remove_old(file: Path, before: float) -> int:
    try:
        found = file.stat()
        if found.st_mtime >= before:
            return 0
        file.unlink()
    except FileNotFoundError:
        return 0
    return found.st_size


def _place(settings: Settings, sha256: str) -> Path:
    if not _KEY.fullmatch(sha256):
        raise NotFound(f"{sha256[:80]!r} is not the key of an artifact", hint="a key is 64 hexadecimal digits")
    return settings.artifacts / sha256[:2] / sha256


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            yield chunk
