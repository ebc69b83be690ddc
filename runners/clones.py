"""Make a self-contained clone out of a mirror: its own objects, refs and checkout, sharing no inode with anything.

Plain copies, since a stage may be root in what is made of them. What lies over the commit is `working_tree`'s.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline.model import Event
from pipeline.settings import passed_on
from runners import git, process
from runners.mirrors import Mirror

_COPY_SECONDS = 3600
_SMALL_FILES, _SMALL_BYTES = 64, 8 << 20


def clone(mirror: Mirror, tree: Path, event: Event, *, depth: int | None = None) -> None:
    """Make a clone of the mirror at the event's commit in the empty folder `tree`, sharing nothing with the mirror."""
    sha = git.check_sha(event.sha)
    write_git(tree, sha, mirror.origin)
    refs = mirror.refs
    if depth is None:
        copy_into(mirror.path / "objects", tree / ".git")
        if (mirror.path / "shallow").exists():
            copy_into(mirror.path / "shallow", tree / ".git")
    else:
        fetch = ("fetch", "--quiet", f"--depth={depth}", "--no-write-fetch-head", "--", mirror.path.as_uri(), sha)
        git.expect(git.strict(*fetch, at=tree, timeout_seconds=_COPY_SECONDS), f"{tree} can not be cloned")
        refs = "\n".join(line for line in refs.splitlines() if line.startswith(sha) or line.endswith(f" {sha}"))
    write_refs(tree, event, refs)
    done = git.strict("read-tree", "-u", "--reset", sha, at=tree, timeout_seconds=_COPY_SECONDS)
    git.expect(done, f"commit {sha[:12]} can not be checked out", hint="Is there room on the disk?")


def write_git(tree: Path, sha: str, origin: str) -> None:
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


def write_refs(tree: Path, event: Event, listing: str) -> None:
    """Write the refs of a mirror's listing as a clone has them, the event's branch, and HEAD."""
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


def copy_into(source: Path, into: Path) -> None:
    """Copy a file or folder into a folder, sharing no inode with it."""
    if _is_small(source):  # no program needs to be started for it
        shutil.copytree(source, into / source.name, dirs_exist_ok=True, copy_function=shutil.copyfile)
        return
    command = ("cp", "-R", "--preserve=timestamps", "--reflink=auto", "--", str(source), f"{into}/")
    git.expect(
        process.run(command, env=passed_on(), timeout_seconds=_COPY_SECONDS),
        f"{source} can not be copied to {into}",
        hint="Is there room on the disk?",
    )


def _is_small(folder: Path) -> bool:
    count = size = 0
    for place, _, names in os.walk(folder):
        count += len(names)
        size += sum(Path(place, name).lstat().st_size for name in names)
        if count > _SMALL_FILES or size > _SMALL_BYTES:
            return False
    return folder.is_dir()


def copy_tree(source: Path, to: Path) -> None:
    """Copy a tree as it is to a place that does not exist yet: times, modes and links, no shared inode."""
    command = ("cp", "-a", "--reflink=auto", "-T", "--", str(source), str(to))
    git.expect(
        process.run(command, env=passed_on(), timeout_seconds=_COPY_SECONDS),
        f"{source} can not be copied to {to}",
        hint="Is there room on the disk?",
    )
