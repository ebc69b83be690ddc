"""One frozen tree per run: a self-contained clone of the commit, with the working tree's changes laid over it.

Every attempt of a run starts from a copy of the same snapshot, so that all stages see the same files
while a person goes on editing. It is made beside its place and renamed: a snapshot that is there is
whole. It shares no inode with the mirror or the working tree, since a stage may be root in its copy.
Copies for attempts, and their removal, are `workspace`'s.

A repository without commits gives its files and an empty `.git`; a folder in no repository gives its
files alone, without what its `.gitignore` names.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.definition import Checkout
from pipeline.model import Event
from pipeline.settings import Settings
from runners import clones, git, mirrors, repository, submodules, working_tree

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LFS_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen tree; `prefix` is the folder in it where the pipeline's file lies, "" for its top."""

    path: Path
    prefix: str

    @property
    def folder(self) -> Path:
        """Return the folder in which the pipeline's file lies."""
        return self.path / self.prefix


def take(settings: Settings, event: Event, source: Path, place: Path, name: str, checkout: Checkout) -> Snapshot:
    """Return the snapshot of `source` under `place` for these options, made now if it is not there; idempotent.

    Its folder is called `name`: the builder recognises files that it was sent before by that name.

    Raises:
        Unavailable: the repository can not be read, or the disk is full.
        DefinitionError: the repository's URL or ref, or what a submodule says, is not allowed.
    """
    options = hashlib.sha256(repr(checkout).encode()).hexdigest()[:8]
    home = place / f"source-{options}"
    with mirrors.locked(place / f"source-{options}.lock"):
        prefix = _finished(home)
        if prefix is None:
            making = place / f"making-{options}"
            for old in (home, making):
                shutil.rmtree(old, ignore_errors=True)
            making.mkdir(parents=True)
            found = repository.locate(source)
            _make(settings, event, found, making / name, checkout)
            prefix = found.prefix
            (making / "made").write_text(json.dumps([_boot(), prefix]))
            making.rename(home)
    return Snapshot(home / name, prefix)


def _finished(home: Path) -> str | None:
    """Return the prefix of one that was finished since the machine started: after a power cut, files may be empty."""
    try:
        boot, prefix = json.loads((home / "made").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return str(prefix) if boot == _boot() else None


def _boot() -> str:
    return _BOOT.read_text() if _BOOT.exists() else ""


def _make(settings: Settings, event: Event, found: repository.Place, tree: Path, checkout: Checkout) -> None:
    tree.mkdir()
    if found.top is None:
        working_tree.copy_all(found.folder, tree, git_dir=mirrors.empty(settings))
        return
    if event.sha == git.ZERO:
        clones.write_git(tree, git.ZERO, "")
        clones.write_refs(tree, event, "")
        working_tree.copy_all(found.top, tree)
        return
    clones.clone(mirrors.of_here(settings, found, event.sha), tree, event, depth=checkout.depth)
    if checkout.lfs:
        _fill_lfs(found.top, tree)
    working_tree.lay_over(found.top, tree, event.sha, changes=event.dirty)
    if checkout.submodules:
        submodules.fill(settings, found.top, tree)


def _fill_lfs(top: Path, tree: Path) -> None:
    """Put the large files in place of their pointers, out of what the repository here already holds."""
    common = Path(git.own("rev-parse", "--git-common-dir", at=top).text)
    stored = (top / common).resolve() / "lfs" / "objects"
    if stored.is_dir():
        (tree / ".git/lfs").mkdir()
        clones.copy_into(stored, tree / ".git/lfs")
    git.expect(git.strict("lfs", "version", at=tree), "`checkout.lfs` needs git-lfs", hint="Install git-lfs here.")
    git.expect(git.strict("lfs", "install", "--local", "--skip-repo", at=tree), "git-lfs can not be set up")
    done = git.strict("lfs", "checkout", at=tree, timeout_seconds=_LFS_SECONDS)
    git.expect(done, "the large files can not be put in place", hint="Fetch them here first: `git lfs fetch`.")
