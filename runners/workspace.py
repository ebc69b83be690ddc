"""The folder in which one attempt works: a copy of its run's snapshot, owned by the stage's user.

A copy is made beside its place and renamed: one that is there is whole, and belongs to its attempt
also after a crash. What lies in it was written by a stage and is trusted in nothing; no link in it is
followed, and what a stage left as root is removed by a container that is root as well.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.definition import Checkout
from pipeline.errors import PipeError, Unavailable
from pipeline.model import Status
from pipeline.settings import passed_on
from runners import clones, head_start, process, snapshots
from runners.engines import ContainerSpec, Mount

if TYPE_CHECKING:
    from runners.engines import Engine
    from runners.stages import Work

_LONG_SECONDS = 0.05  # of a copy
_REMOVE_SECONDS = 600
_BLOCK_BYTES = 1 << 20
_GIT_IN_CONTAINER = {
    # the stage's user may be another one than the owner of the files: git is told that this is meant
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Where an attempt's files are on this machine, and what its container must know of them."""

    path: Path  # mounted whole
    prefix: str = ""  # the folder of the pipeline's file in it: where commands start
    env: Mapping[str, str] = field(default_factory=lambda: dict(_GIT_IN_CONTAINER))

    @property
    def folder(self) -> Path:
        """Return the folder on this machine in which commands start."""
        return self.path / self.prefix


def prepare(work: Work, *, owner: tuple[int, int] | None = None) -> Workspace:
    """Return the attempt's workspace, made now if it is not there; `owner` is the stage's user and group id.

    With `checkout: false` it is an empty folder. Owners are changed only where this process is root.

    Raises:
        Unavailable: the repository can not be read, or the disk is full.
    """
    home = _home(work) / f"{work.stage.position}-{work.attempt.number}"
    place = home / _name(work)
    prefix = ""
    checkout = work.spec.checkout
    if isinstance(checkout, Checkout):
        frozen = snapshot(work)
        prefix = frozen.prefix
        if not place.exists():
            making = home / "making"
            home.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(making, ignore_errors=True)
            _fill(work, frozen.path, making)
            _give(work, making, owner)
            making.rename(place)
    elif not place.exists():
        place.mkdir(parents=True, mode=0o755)
        _give(work, place, owner)
    return Workspace(path=place, prefix=prefix)


def snapshot(work: Work) -> snapshots.Snapshot:
    """Return the run's frozen tree for this stage's `checkout`: to read, never to write. Builds need no copy."""
    checkout = work.spec.checkout if isinstance(work.spec.checkout, Checkout) else Checkout()
    folder = _home(work)
    taken = snapshots.take(work.settings, work.run.event, work.source, folder, _name(work), checkout)
    return replace(taken, prefix=str(PurePosixPath(taken.prefix, work.project)).removeprefix("."))


def ahead(work: Work) -> threading.Thread:
    """Copy the run's snapshot in the background for whichever attempt with the same `checkout` comes next."""
    thread = threading.Thread(target=_make_spare, args=(work,), name="workspace-ahead", daemon=True)
    thread.start()
    return thread


def remove(
    workspace: Workspace, engine: Engine | None = None, *, image: str = "", labels: Mapping[str, str] | None = None
) -> None:
    """Remove an attempt's workspace; idempotent. What root left there needs `engine` and an `image` with `rm`.

    Raises:
        Unavailable: something can not be removed.
    """
    remove_folder(workspace.path.parent, engine, image, labels or {})


def forget_run(workspaces: Path, installation: str, run: int, engine: Engine, *, image: str) -> None:
    """Remove everything of a run: its snapshot, spares, and workspaces still there; idempotent. Raises Unavailable."""
    labels = {"pipewright.installation": installation, "pipewright.run": str(run)}
    remove_folder(run_folder(workspaces, installation, run), engine, image, labels)


def pack(workspace: Workspace) -> Iterator[bytes]:
    """Yield the workspace as a tar archive, for an engine that does not see this machine's files."""
    chunks: list[bytes] = []

    class Sink:
        def write(self, data: bytes) -> int:
            chunks.append(bytes(data))
            return len(data)

    with tarfile.open(fileobj=Sink(), mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BLOCK_BYTES) as archive:  # type: ignore[call-overload]
        for folder, folders, files in os.walk(workspace.path):
            for name in sorted([*folders, *files]):
                path = Path(folder, name)
                archive.add(path, arcname=str(path.relative_to(workspace.path)), recursive=False)
                yield from chunks
                chunks.clear()
    yield from chunks


def _home(work: Work) -> Path:
    """Return the folder of the attempt's run, with what was begun for it."""
    head_start.hide(work.workspaces)
    folder = run_folder(work.workspaces, work.db.installation, work.run.id)
    head_start.collect(folder)
    return folder


def run_folder(workspaces: Path, installation: str, run: int) -> Path:
    """Return where all files of a run lie."""
    return workspaces / f"run-{installation[:8]}-{run}"


def _name(work: Work) -> str:
    return work.run.pipeline


def _fill(work: Work, frozen: Path, making: Path) -> None:
    """Copy the snapshot, or take a copy made ahead; where copying takes long, the next one is made meanwhile."""
    begun = time.monotonic()
    taken = _take_spare(frozen, making)
    if not taken:
        clones.copy_tree(frozen, making)
    if (taken or time.monotonic() - begun > _LONG_SECONDS) and _more_come(work):
        ahead(work)


def _more_come(work: Work) -> bool:
    from pipeline import runs

    stages = runs.stages(work.db, work.run.id)
    return any(stage.kind == "run" and stage.status == Status.QUEUED for stage in stages)


def _spare(path: Path) -> Path:
    return path.parent / f"spare-{os.getpid()}"


def _make_spare(work: Work) -> None:
    try:
        frozen = snapshot(work).path
        making = frozen.parent / f"making-spare-{os.getpid()}-{threading.get_ident()}"
        if not _spare(frozen).exists():
            clones.copy_tree(frozen, making)
            making.rename(_spare(frozen))
    except (PipeError, OSError):  # whoever needs a copy then makes it, and meets the error where it can be told
        return


def _take_spare(frozen: Path, to: Path) -> bool:
    try:
        _spare(frozen).rename(to)
    except OSError:
        return False
    return True


def _give(work: Work, place: Path, owner: tuple[int, int] | None) -> None:
    if owner is None or owner == (os.geteuid(), os.getegid()):
        return
    change = ("-R", "--no-dereference", f"{owner[0]}:{owner[1]}", "--")
    if os.geteuid() == 0:
        done = process.run(("chown", *change, str(place)), env=passed_on(), timeout_seconds=_REMOVE_SECONDS)
        if not done.ok:
            raise Unavailable(f"{place} can not be given to user {owner[0]}: {done.complaint}")
    elif owner[0] != 0:  # root in the container may write everywhere
        inside = f"/there/{place.name}"
        if not _as_root(work.engine, work.settings.base_image, work.labels, place.parent, ("chown", *change, inside)):
            raise Unavailable(f"{place} can not be given to user {owner[0]}", hint="Run as root, or as that user.")


def remove_folder(folder: Path, engine: Engine | None, image: str, labels: Mapping[str, str]) -> None:
    """Remove a folder of workspaces; idempotent. Raises Unavailable when something can not be removed."""
    command = ("rm", "-rf", "--one-file-system", "--", str(folder))
    done = process.run(command, env=passed_on(), timeout_seconds=_REMOVE_SECONDS)
    if done.ok:
        return
    if engine is None:
        raise Unavailable(f"{folder} can not be removed: {done.complaint}", hint="Remove it as root.")
    command = ("rm", "-rf", "--one-file-system", "--", f"/there/{folder.name}")
    if not _as_root(engine, image, labels, folder.parent, command) or folder.exists():
        raise Unavailable(f"{folder} can not be removed, not even by a container", hint="Remove it as root.")


def _as_root(engine: Engine, image: str, labels: Mapping[str, str], folder: Path, command: tuple[str, ...]) -> bool:
    """Run a command in a container that is root and has a folder of ours at /there; tell whether it succeeded."""
    spec = ContainerSpec(
        name=f"pipe-tidy-{os.urandom(6).hex()}",
        image=image,
        entrypoint=command[:1],
        command=command[1:],
        labels=labels,
        user="0:0",
        mounts=(Mount(source=str(folder.resolve()), target="/there"),),
    )
    container = engine.create(spec)
    try:
        engine.start(container)
        ended = engine.wait(container, timeout_seconds=_REMOVE_SECONDS)
    finally:
        engine.remove(container)
    return ended is not None and ended.code == 0
