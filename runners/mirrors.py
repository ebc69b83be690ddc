"""One bare mirror per repository, under a file lock. What is made out of it for a run is `snapshots`.

A mirror only grows: what a run was told to take stays there although its branch moves on. Stages
never see a mirror; they get copies that share nothing with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DefinitionError, Unavailable
from pipeline.settings import Settings
from runners import git, repository

_FETCH_SECONDS = 1800
_PACKS = 24  # more are joined: each costs a look-up and a file to copy
_REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_FORMAT = "--format=%(objectname) %(refname) %(*objectname)"
_FETCH = (
    "fetch",
    "--quiet",
    "--prune",
    "--force",
    "--update-shallow",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file lock at `path`, among threads and processes; the kernel frees it when we die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror as it is for one run; a line of `refs` is object, name, and what a tag stands for."""

    path: Path
    refs: str
    origin: str = ""  # the plain URL that a clone names, if there is one


def of_here(settings: Settings, here: repository.Place, sha: str) -> Mirror:
    """Return the mirror of a repository on this machine, holding `sha`, its branches and its tags.

    Nothing is fetched while its refs are as they were the last time.

    Raises:
        Unavailable: git can not read it, or it does not hold `sha`.
    """
    assert here.top is not None
    said = f"the repository {here.top} can not be read"
    place = _place(settings, here.top.name, str(here.common))
    with locked(place.with_suffix(".lock")):
        _ensure(place, sha)
        listed = git.own("for-each-ref", _FORMAT, "refs/heads", "refs/tags", at=here.top)
        state = [sha, git.expect(listed, said).text]
        stamp = place / "pipe-state"
        known = json.loads(stamp.read_text()) if stamp.exists() else {}
        if known.get("state") != state:
            _clear_locks(place)
            refs = (*_REFS, "+HEAD:refs/pipe/head")
            done = git.strict(*_FETCH, "--", str(here.top), *refs, at=place, timeout_seconds=_FETCH_SECONDS)
            git.expect(done, said, hint="Does `git fsck` find it sound?")
            _require(place, sha, str(here.top))
            _join_packs(place)
            known = {"state": state, "refs": _refs(place), "origin": _origin(here.top)}
            stamp.write_text(json.dumps(known))
        return Mirror(place, known["refs"], known["origin"])


def _refs(place: Path) -> str:
    return git.expect(git.strict("for-each-ref", _FORMAT, at=place), f"the mirror {place} can not be read").text


def _origin(top: Path) -> str:
    """Return where the repository came from, if that is a plain URL: one with a password in it is not handed on."""
    url = git.own("config", "--get", "remote.origin.url", at=top).text
    try:
        return git.check_url(url) if url else ""
    except DefinitionError:
        return ""


def of_url(settings: Settings, url: str, *, ref: str, sha: str, login: tuple[str, str] | None = None) -> Mirror:
    """Return the mirror of a repository elsewhere, holding `sha`, fetched only when it is missing.

    Raises:
        DefinitionError: the URL, ref or commit id is not on the allow-list.
        Unavailable: it can not be reached, the login is refused, or it does not hold `sha`.
    """
    git.check_url(url), git.check_sha(sha), git.check_ref(ref)
    place = _place(settings, url.rstrip("/").rpartition("/")[2], url)
    with locked(place.with_suffix(".lock")):
        _ensure(place, sha)
        if not holds(place, sha):
            _clear_locks(place)
            done = git.strict(
                *_FETCH,
                "--",
                url,
                *_REFS,
                f"+{ref}:{ref}",
                at=place,
                url=url,
                login=login,
                timeout_seconds=_FETCH_SECONDS,
            )
            git.expect(
                done,
                f"the repository {git.printable(url)} can not be fetched",
                hint="Can this machine reach it, and is its login (for ssh: key and known_hosts) right?",
            )
            _require(place, sha, url)
            _join_packs(place)
        return Mirror(place, _refs(place), url)


def holds(mirror: Path, sha: str) -> bool:
    """Tell whether the mirror holds that commit."""
    return git.strict("cat-file", "-e", f"{sha}^{{commit}}", at=mirror).ok


def empty(settings: Settings) -> Path:
    """Return an empty bare repository: through it git lists what it would ignore in a folder that has none."""
    place = settings.mirrors / "empty.git"
    with locked(place.with_suffix(".lock")):
        _ensure(place, git.ZERO)
    return place


def _place(settings: Settings, name: str, identity: str) -> Path:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name.removesuffix(".git"))[:40].lstrip(".-") or "repository"
    return settings.mirrors / f"{plain}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.git"


def _ensure(place: Path, sha: str) -> None:
    if (place / "HEAD").exists():  # git writes it last
        return
    place.mkdir(parents=True, exist_ok=True)
    kind = "sha256" if len(sha) == 64 else "sha1"
    git.expect(git.strict("init", "--quiet", "--bare", f"--object-format={kind}", at=place), f"{place} can not be made")


def _require(place: Path, sha: str, where: str) -> None:
    if not holds(place, sha):
        raise Unavailable(
            f"{git.printable(where)} holds no commit {sha[:12]} that a branch or tag reaches",
            hint="Was it pushed, or was its branch deleted meanwhile?",
        )


def _clear_locks(place: Path) -> None:
    """Remove lock files of a git that was killed: whoever holds our lock is alone here."""
    for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*"):
        for path in place.glob(pattern):
            path.unlink(missing_ok=True)


def _join_packs(place: Path) -> None:
    if len(list((place / "objects/pack").glob("*.pack"))) > _PACKS:
        done = git.strict("repack", "-d", "-q", "--geometric=2", at=place, timeout_seconds=_FETCH_SECONDS)
        git.expect(done, f"the mirror {place} can not be repacked")
