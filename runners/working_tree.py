"""Bring the user's working tree into a tree of ours: changes, new files, deletions, modes, links, times.

What the repository ignores stays behind, as does `.pipe`. Times are taken over, so that the builder
is not sent again what it has; modes are git's two, 644 and 755.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import Unavailable
from runners import git, git_index
from runners.process import Completed

_LIST_SECONDS = 600
_OURS = ".pipe"


def lay_over(top: Path, tree: Path, sha: str, *, changes: bool) -> None:
    """Make `tree`, checked out at `sha`, equal to the working tree at `top`; without `changes` only its times."""
    changed, new = _differences(top, sha)
    if changes:
        for path in changed:
            if not os.path.lexists(top / path):
                _remove(tree, path)
        for path in [*changed, *_files(top, new)]:
            _place(top, tree, path)
    git_index.take_times(top, tree, sha=sha, but=changed)


def copy_all(folder: Path, tree: Path, *, git_dir: Path | None = None) -> None:
    """Copy every file that is not ignored; `git_dir` is an empty repository, for a folder that is in none."""
    for path in _listed(folder, git_dir):
        _place(folder, tree, path)


def _names(done: Completed) -> set[str]:
    return {os.fsdecode(name) for name in done.out.split(b"\0") if name}


def _differences(top: Path, sha: str) -> tuple[set[str], set[str]]:
    """Return the tracked paths whose content is not that of `sha`, and the untracked paths."""
    said = f"the working tree {top} can not be compared"
    options = ("--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=all")
    told = git.expect(git.own("status", *options, at=top, timeout_seconds=_LIST_SECONDS), said)
    entries = [entry for entry in os.fsdecode(told.out).split("\0") if entry]
    new = {entry[2:] for entry in entries if entry.startswith("? ")}
    if f"# branch.oid {sha}" in entries:
        return {_path(entry) for entry in entries if entry[0] in "1u"}, new
    options = ("--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "-z")
    compared = git.own("diff", *options, sha, "--", at=top, timeout_seconds=_LIST_SECONDS)
    return _names(git.expect(compared, said)), new


def _path(entry: str) -> str:
    """Return the path of a line of `git status --porcelain=v2`, which stands behind 8 or, unmerged, 10 other fields."""
    return entry.split(" ", 8 if entry[0] == "1" else 10)[-1]


def _files(top: Path, listed: Iterable[str]) -> Iterable[str]:
    """Yield paths, and in place of a repository inside the tree (`path/`) the files that it does not ignore."""
    for path in listed:
        if _OURS in path.split("/"):
            continue
        if path.endswith("/"):
            yield from (path + file for file in _listed(top / path, None))
        else:
            yield path


def _listed(folder: Path, git_dir: Path | None) -> Iterable[str]:
    options = ("-z", "--others", "--exclude-standard")
    if git_dir is None:
        done = git.own("ls-files", "--cached", *options, at=folder, timeout_seconds=_LIST_SECONDS)
    else:
        place = (f"--git-dir={git_dir}", f"--work-tree={folder}")
        done = git.own(*place, "ls-files", *options, at=folder, timeout_seconds=_LIST_SECONDS)
    return _files(folder, _names(git.expect(done, f"the files of {folder} can not be listed")))


def _place(top: Path, tree: Path, path: str) -> None:
    """Copy one file or link; one that vanished meanwhile is left out, as are sockets and the like."""
    here, there = top / path, tree / path
    try:
        seen = here.lstat()
        if not stat.S_ISREG(seen.st_mode) and not stat.S_ISLNK(seen.st_mode):
            return
        _clear(tree, path)
        if stat.S_ISLNK(seen.st_mode):
            there.symlink_to(here.readlink())
        else:
            shutil.copyfile(here, there, follow_symlinks=False)
            there.chmod(0o755 if seen.st_mode & stat.S_IXUSR else 0o644)
        os.utime(there, ns=(seen.st_mtime_ns, seen.st_mtime_ns), follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise Unavailable(
            f"{here} can not be copied: {error.strerror}",
            hint="Make it readable, or name it in .gitignore; is there room on the disk?",
        ) from error


def _clear(tree: Path, path: str) -> None:
    """Make way for a file at `path`: real folders above it, nothing at it. No link is ever followed."""
    at = tree
    for part in path.split("/")[:-1]:
        at = at / part
        if at.is_symlink() or at.is_file():
            at.unlink()
        if not at.is_dir():
            at.mkdir()
            at.chmod(0o755)
    _remove(tree, path)


def _remove(tree: Path, path: str) -> None:
    there, at = tree / path, tree
    for part in path.split("/")[:-1]:
        at = at / part
        if at.is_symlink():  # a folder that became a link: what was below it went with it
            return
    if there.is_dir() and not there.is_symlink():
        shutil.rmtree(there)
    elif os.path.lexists(there):
        there.unlink()
