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
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.definition import Checkout
from pipeline.errors import DefinitionError
from pipeline.model import Event
from pipeline.settings import Settings, passed_on
from runners import git, mirrors, process, repository, submodules, working_tree

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_COPY_SECONDS = 3600


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
    found = repository.locate(source)
    snapshot = Snapshot(home / name, found.prefix)
    with mirrors.locked(place / f"source-{options}.lock"):
        if _is_whole(home):
            return snapshot
        making = place / f"making-{options}"
        for old in (home, making):
            shutil.rmtree(old, ignore_errors=True)
        making.mkdir(parents=True)
        _make(settings, event, found, making / name, checkout)
        (making / "boot").write_text(_boot())
        making.rename(home)
    return snapshot


def _is_whole(home: Path) -> bool:
    """Tell whether it was finished since the machine started: after a power cut, files may be empty."""
    try:
        return (home / "boot").read_text() == _boot()
    except FileNotFoundError:
        return False


def _boot() -> str:
    return _BOOT.read_text() if _BOOT.exists() else ""


def _make(settings: Settings, event: Event, found: repository.Place, tree: Path, checkout: Checkout) -> None:
    tree.mkdir()
    if found.top is None:
        working_tree.copy_all(found.folder, tree, git_dir=mirrors.empty(settings))
        return
    if event.sha == git.ZERO:
        _write_git(tree, git.ZERO, "")
        _write_refs(tree, event, "")
        working_tree.copy_all(found.top, tree)
        return
    mirror = mirrors.of_here(settings, found.top, event.sha)
    clone(mirror, tree, event, depth=checkout.depth, origin=_origin(found.top))
    if checkout.lfs:
        _fill_lfs(found.top, tree)
    working_tree.lay_over(found.top, tree, event.sha, changes=event.dirty)
    if checkout.submodules:
        submodules.fill(settings, found.top, tree)


def clone(mirror: Path, tree: Path, event: Event, *, depth: int | None = None, origin: str = "") -> None:
    """Make a clone of the mirror at the event's commit in the empty folder `tree`, sharing nothing with the mirror."""
    sha = git.check_sha(event.sha)
    listing = git.strict("for-each-ref", "--format=%(objectname) %(refname) %(*objectname)", at=mirror)
    _write_git(tree, sha, origin)
    refs = listing.text
    if depth is None:
        _copy(mirror / "objects", tree / ".git")
        if (mirror / "shallow").exists():
            _copy(mirror / "shallow", tree / ".git")
    else:
        fetch = ("fetch", "--quiet", f"--depth={depth}", "--no-write-fetch-head", "--", mirror.as_uri(), sha)
        git.expect(git.strict(*fetch, at=tree, timeout_seconds=_COPY_SECONDS), f"{tree} can not be cloned")
        refs = "\n".join(line for line in refs.splitlines() if line.startswith(sha) or line.endswith(f" {sha}"))
    _write_refs(tree, event, refs)
    done = git.strict("read-tree", "-u", "--reset", sha, at=tree, timeout_seconds=_COPY_SECONDS)
    git.expect(done, f"commit {sha[:12]} can not be checked out", hint="Is there room on the disk?")


def _write_git(tree: Path, sha: str, origin: str) -> None:
    """Write the skeleton of `.git` by hand: cheaper than asking git, and without hooks or a template."""
    folder = tree / ".git"
    for part in ("objects", "refs/heads", "refs/tags"):
        (folder / part).mkdir(parents=True)
    lines = ["[core]", "\trepositoryformatversion = " + ("1" if len(sha) == 64 else "0"), "\tbare = false"]
    lines += ["\tfilemode = true", "\tlogallrefupdates = true"]
    # a copy of the tree counts as unchanged by size and time alone, whatever its inodes and owner are
    lines += ["\tcheckStat = minimal", "\ttrustctime = false"]
    lines += ["[extensions]", "\tobjectformat = sha256"] if len(sha) == 64 else []
    if origin:
        lines += ['[remote "origin"]', f"\turl = {origin}", "\tfetch = +refs/heads/*:refs/remotes/origin/*"]
    (folder / "config").write_text("\n".join(lines) + "\n")
    (folder / "HEAD").write_text("ref: refs/heads/main\n")


def _write_refs(tree: Path, event: Event, listing: str) -> None:
    folder, sha = tree / ".git", event.sha
    packed = ["# pack-refs with: peeled fully-peeled"]
    for line in listing.splitlines():
        name, ref, peeled = line.split(" ")
        if ref.startswith(("refs/heads/", "refs/tags/")):
            packed.append(f"{name} {ref.replace('refs/heads/', 'refs/remotes/origin/', 1)}")
            packed += [f"^{peeled}"] if peeled else []
    branch = git.check_ref(f"refs/heads/{event.branch}") if event.branch else ""
    if branch and sha != git.ZERO:
        packed.append(f"{sha} {branch}")
    (folder / "packed-refs").write_text("\n".join(packed) + "\n")
    (folder / "HEAD").write_text(f"ref: {branch}\n" if branch else f"{sha}\n")


def _origin(top: Path) -> str:
    """Return where the repository came from, if that is a plain URL: one with a password in it is not handed on."""
    url = git.own("config", "--get", "remote.origin.url", at=top).text
    try:
        return git.check_url(url) if url else ""
    except DefinitionError:
        return ""


def _fill_lfs(top: Path, tree: Path) -> None:
    """Put the large files in place of their pointers, out of what the repository here already holds."""
    common = Path(git.own("rev-parse", "--git-common-dir", at=top).text)
    stored = (top / common).resolve() / "lfs" / "objects"
    if stored.is_dir():
        (tree / ".git/lfs").mkdir()
        _copy(stored, tree / ".git/lfs")
    git.expect(git.strict("lfs", "version", at=tree), "`checkout.lfs` needs git-lfs", hint="Install git-lfs here.")
    git.expect(git.strict("lfs", "install", "--local", "--skip-repo", at=tree), "git-lfs can not be set up")
    done = git.strict("lfs", "checkout", at=tree, timeout_seconds=_COPY_SECONDS)
    git.expect(done, "the large files can not be put in place", hint="Fetch them here first: `git lfs fetch`.")


def _copy(source: Path, into: Path) -> None:
    command = ("cp", "-R", "--preserve=timestamps", "--reflink=auto", "--", str(source), f"{into}/")
    git.expect(
        process.run(command, env=passed_on(), timeout_seconds=_COPY_SECONDS),
        f"{source} can not be copied to {into}",
        hint="Is there room on the disk?",
    )


def copy_tree(source: Path, to: Path) -> None:
    """Copy a tree as it is to a place that does not exist yet: times, modes and links, no shared inode."""
    command = ("cp", "-a", "--reflink=auto", "-T", "--", str(source), str(to))
    git.expect(
        process.run(command, env=passed_on(), timeout_seconds=_COPY_SECONDS),
        f"{source} can not be copied to {to}",
        hint="Is there room on the disk?",
    )
