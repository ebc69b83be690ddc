"""Folders kept between runs of one pipeline: taken by renaming, mounted as they are, put back by renaming.

Nothing is packed, unpacked or copied where the same branch runs again, which is the common case; renaming is also the
lock, so two attempts never share a cache, and each of several parallel ones soon has its own. What another branch may
only borrow (the default branch's, or the same branch's under another key) is copied. What was killed half-way is
not put back where it lies in the workspace; tools that cache in a home folder expect to be killed.

A run that is not trusted reads a copy of the default branch's caches and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import StageFailed, Unavailable
from pipeline.settings import passed_on
from runners import process
from runners.engines import Mount
from runners.stages.user import User

if TYPE_CHECKING:
    from pipeline.definition import Cache
    from runners.stages import Work

_KEPT = 4  # per branch and key: as many parallel attempts find one of their own
_COPY_SECONDS = 600
_EMPTY_TAR_BYTES = 2048
_FORBIDDEN = frozenset({"/", "/proc", "/sys", "/dev", "/etc", "/run", "/run/secrets", "/workspace", "/pipe"})


@dataclass(frozen=True)
class Taken:
    """A cache as this attempt uses it: one folder on this machine per path in the container."""

    cache: Cache
    home: Path  # of this branch and key; free ones lie in it
    folder: Path  # this attempt's
    targets: tuple[str, ...]  # absolute paths in the container
    found: str  # "", "same", or from where it was copied

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """Return what the stage's container mounts."""
        return tuple(
            Mount(source=str((self.folder / str(number)).resolve()), target=target)
            for number, target in enumerate(self.targets)
        )

    @property
    def empty(self) -> list[str]:
        """Return the paths in which nothing is."""
        return [path for number, path in enumerate(self.cache.paths) if not _holds(self.folder, number)]


class Caches:
    """The caches of one attempt. `root` is the workspace's folder in the container where commands start."""

    def __init__(self, work: Work, folder: Path, root: str, user: User, *, default_branch: str) -> None:
        self._work = work
        self._folder = folder  # where commands start, on this machine: key files lie in it
        self._root = root
        self._user = user
        self._default = default_branch
        self._top = work.settings.home / "caches"
        self.taken: list[Taken] = []

    def take(self) -> list[Taken]:
        """Take every cache of the stage, and say what was found. Raises StageFailed for a path that is not allowed."""
        for number, cache in enumerate(self._work.spec.cache):
            targets = tuple(self._target(path) for path in cache.paths)
            home = self._home(self._work.run.event.branch, cache)
            folder = self._top / "used" / f"{self._work.key}-{number}"
            found = "same" if folder.exists() else self._fill(cache, home, folder)
            for index in range(len(targets)):
                self._give(folder / str(index))
            self.taken.append(Taken(cache, home, folder, targets, found))
            said = {"": "cache: nothing kept yet", "same": "cache: found"}.get(found, f"cache: found, of {found}")
            self._work.log.say(f"{said} ({', '.join(cache.paths)})")
        return self.taken

    def send(self, container: str) -> None:
        """Copy them into a created container, for an engine that does not see this machine's files."""
        for taken in self.taken:
            for number, target in enumerate(taken.targets):
                packed = taken.folder / f"{number}.tar"
                parent = str(PurePosixPath(target).parent)
                self._work.engine.copy_in(container, "/", _folders(parent, self._user))
                if packed.exists():
                    with packed.open("rb") as archive:
                        self._work.engine.copy_in(container, parent, archive)

    def fetch(self, container: str) -> None:
        """Copy them out of a container that has ended, packed as they come: what lies in them is trusted in nothing."""
        for taken in self.taken:
            for number, target in enumerate(taken.targets):
                packed = taken.folder / f"{number}.tar"
                archive = self._work.engine.copy_out(container, target)
                packed.unlink(missing_ok=True)
                if archive is not None:
                    with packed.open("wb") as file:
                        file.writelines(archive)

    def put_back(self, *, killed: bool) -> None:
        """Let later runs have them; `killed` says that the commands did not end by themselves."""
        for taken in self.taken:
            for path in [] if killed else taken.empty:
                self._work.log.say(f"warning: the cache path `{path}` caught nothing")
            inside = any(target.startswith("/workspace/") for target in taken.targets)
            everything_empty = len(taken.empty) == len(taken.targets)
            if not self._may_write(taken.cache) or (killed and inside) or everything_empty:
                self._forget(taken.folder)
                continue
            taken.home.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(OSError):  # put back already, before a crash
                taken.folder.rename(taken.home / f"{self._work.db.now():017.6f}-{self._work.key}")
            for old in _newest_first(taken.home)[_KEPT:]:
                self._forget(old)

    def _may_write(self, cache: Cache) -> bool:
        return self._work.run.trusted and cache.policy == "pull_push"

    def _forget(self, folder: Path) -> None:
        """Remove a folder without being waited for; it is out of others' reach at once."""
        gone = self._top / "gone" / f"{folder.name}-{os.getpid()}"
        gone.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)
            self._work.cleanup.later(lambda: _remove(gone))

    def _fill(self, cache: Cache, home: Path, folder: Path) -> str:
        """Make this attempt's folder out of the best that is there; return where that came from."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        if self._may_write(cache):
            for free in _newest_first(home):
                with contextlib.suppress(OSError):  # another attempt was quicker
                    free.rename(folder)
                    return "same"
        for source, told in self._others(cache, home):
            if _copied(source, folder):
                return told
        folder.mkdir()
        return ""

    def _others(self, cache: Cache, home: Path) -> Iterator[tuple[Path, str]]:
        """Yield what may be copied, the best first, and how it is called."""
        branch = self._work.run.event.branch
        homes: list[tuple[Path, str]] = []
        if not self._may_write(cache) and self._work.run.trusted:
            homes.append((home, f"the branch {branch}"))
        homes.append((self._home(self._default, cache), f"the default branch {self._default}"))
        siblings = [(home.parent, f"the branch {branch}, with another key")] if self._work.run.trusted else []
        siblings.append((self._home(self._default, cache).parent, f"the branch {self._default}, with another key"))
        for parent, told in siblings:
            homes += [(other, told) for other in _newest_first(parent)]
        for place, told in homes:
            for free in _newest_first(place)[:1]:
                yield free, told

    def _home(self, branch: str, cache: Cache) -> Path:
        """Return where the free caches of a branch lie: pipeline, paths, branch, then key."""
        paths = _hash(*cache.paths, cache.key.prefix, str(self._user.uid))
        return self._top / self._work.run.pipeline / paths / _hash(branch) / self._key(cache)

    def _key(self, cache: Cache) -> str:
        digests = []
        for pattern in cache.key.files:
            names = sorted(path for path in self._folder.glob(pattern) if path.is_file() and not path.is_symlink())
            digests += [f"{path.relative_to(self._folder)} {_digest(path)}" for path in names]
        return _hash(*digests)

    def _target(self, path: str) -> str:
        """Return the path in the container. Raises StageFailed for one that can not be a cache."""
        if path == "~" or path.startswith("~/"):
            path = f"{self._user.home}{path[1:]}"
        whole = PurePosixPath(self._root, path)
        if ".." in whole.parts or str(whole) in _FORBIDDEN or str(whole) == self._root:
            raise StageFailed(
                f"the cache path `{path}` is not allowed",
                hint="name a folder below the workspace, below `~`, or another one that holds nothing else",
            )
        return str(whole)

    def _give(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, self._user.uid, self._user.gid)


def _newest_first(home: Path) -> list[Path]:
    try:
        return sorted(home.iterdir(), key=lambda path: path.stat().st_mtime if path.exists() else 0, reverse=True)
    except OSError:
        return []


def _copied(source: Path, folder: Path) -> bool:
    """Copy a free cache; False when it was taken away meanwhile, so that the copy may not be whole."""
    making = folder.with_name(f"{folder.name}.making")
    _remove(making)
    command = ("cp", "-a", "--reflink=auto", "--", str(source), str(making))
    done = process.run(command, env=passed_on(), timeout_seconds=_COPY_SECONDS)
    if not done.ok or not source.exists():
        _remove(making)
        return False
    making.rename(folder)
    return True


def _holds(folder: Path, number: int) -> bool:
    packed = folder / f"{number}.tar"
    try:
        with os.scandir(folder / str(number)) as entries:
            return next(entries, None) is not None or (packed.exists() and packed.stat().st_size > _EMPTY_TAR_BYTES)
    except PermissionError:
        return True
    except OSError:
        return False


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise Unavailable(f"{folder} can not be removed", hint="remove it as root")


def _folders(path: str, user: User) -> io.BytesIO:
    """Return an archive of the folders that lead to `path`: a file can only be copied into one that is there."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder in [*reversed(PurePosixPath(path).parents), PurePosixPath(path)]:
            info = tarfile.TarInfo(str(folder).lstrip("/"))
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            if folder.is_relative_to(user.home):
                info.uid, info.gid = user.uid, user.gid
            if info.name:
                tar.addfile(info)
    archive.seek(0)
    return archive


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
