"""Which files of a workspace a pattern names, and how they are opened: below the root, and through no link.

What stands in a workspace was written by the commands of a stage. A pattern therefore never leaves the workspace, and a
link is never followed, at whatever place of the path and at whatever moment it appears.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from fnmatch import translate
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pipeline.reports.values import Refused

_MAGIC = re.compile(r"[*?\[]")
_DEPTH = 32
_ENTRIES = 500_000
_PLAIN = "let the commands write the report itself as a plain file"
_NO_LINKS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def find(root: Path, pattern: str, most: int) -> list[str]:
    """List the files that a pattern matches, relative to `root` and sorted. Raises Refused when there is none."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if pattern.startswith("/") or ".." in parts or not parts:
        raise Refused("the pattern leaves the workspace", "write it relative to the workspace, without `..`")
    found: set[str] = set()
    for name in _Walk(root).expand("", tuple(parts)):
        found.add(name)
        if len(found) > most:
            raise Refused(f"more than {most} files match", "narrow the pattern")
    if not found:
        raise Refused(
            f"no test report matches this pattern in {root}",
            "check that the commands write the report, to a path inside the workspace, and that the pattern names it",
        )
    return sorted(found)


class _Walk:
    """Expands one pattern; counts what it looks at, so that no workspace keeps it busy for ever."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._looked = 0

    def expand(self, directory: str, parts: tuple[str, ...], depth: int = 0) -> Iterator[str]:
        """Yield the files below `directory` (empty, or ending in a slash) that the parts of a pattern match."""
        head, rest = parts[0], parts[1:]
        if head == "**":
            yield from self.expand(directory, rest or ("*",), depth)
            head, rest = "*", parts
        literal = not _MAGIC.search(head)
        matches = head.__eq__ if literal else re.compile(translate(head)).match
        for entry in self._entries(directory):
            if not matches(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                if rest and depth < _DEPTH and (literal or entry.name != ".git"):
                    yield from self.expand(f"{directory}{entry.name}/", rest, depth + 1)
            elif not rest or (literal and entry.is_symlink()):
                yield directory + entry.name

    def _entries(self, directory: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self._root}/{directory}") as found:
                entries = list(islice(found, _ENTRIES + 1))
        except OSError:
            return []
        self._looked += len(entries)
        if self._looked > _ENTRIES:
            raise Refused(f"more than {_ENTRIES} files lie below the pattern", "name the directory of the reports")
        return entries


def open_below(root: Path, name: str) -> BinaryIO:
    """Open a file below root, each part of its path without following a link. Raises Refused."""
    *parents, last = name.split("/")
    try:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for parent in parents:
                inner = os.open(parent, _NO_LINKS | os.O_DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = inner
            descriptor = os.open(last, _NO_LINKS, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Refused("it is a symbolic link, and links are not followed", _PLAIN) from None
        raise Refused(f"it can not be opened ({error.strerror})", "check its owner and permissions") from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    raise Refused("it is not a regular file", _PLAIN)
