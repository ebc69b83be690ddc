"""What a build is given: the files of its context, by content, without what `.dockerignore` leaves out.

Only for telling people which file broke the cache: what the builder is sent is decided by the builder.
A file whose size and time are as before is not read again. The patterns are those of Docker's
`.dockerignore` (Go's filepath.Match, `**`, `!`), where the last one that matches decides.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

_MOST_FILES = 20_000  # beyond that, which file it was is not told
_IGNORE_BYTES = 1 << 20

Files = Mapping[str, tuple[str, int, int]]
"""Path -> hash of content and mode, size in bytes, time in nanoseconds."""


def pattern(text: str) -> re.Pattern[str]:
    """Return a regular expression for one path pattern of Docker's: `*` `?` `[a-z]` `**`."""
    out, at = "", 0
    text = os.path.normpath(text.strip().lstrip("/"))
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*" and text.startswith("*", at):
            at += 1
            at += text.startswith("/", at)
            out += ".*" if at >= len(text) else "(?:.*/)?"
        elif char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[" and "]" in text[at:]:
            end = text.index("]", at)
            out += f"[{text[at:end]}]"
            at = end + 1
        elif char == "\\" and at < len(text):
            out += re.escape(text[at])
            at += 1
        else:
            out += re.escape(char)
    return re.compile(out, re.S)


class Ignore:
    """What a context leaves out."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Read the lines of a `.dockerignore`."""
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in lines:
            text = line.strip()
            if text and not text.startswith("#"):
                kept = text.startswith("!")
                self._rules.append((not kept, pattern(text[1:] if kept else text)))
        self.has_exceptions = any(not ignored for ignored, _ in self._rules)

    def leaves_out(self, path: str) -> bool:
        """Tell whether a path, relative to the context, stays behind."""
        parts = path.split("/")
        names = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        out = False
        for ignored, rule in self._rules:
            if ignored != out and any(rule.fullmatch(name) for name in names):
                out = ignored
        return out


def ignore_of(context: Path, dockerfile: Path) -> Ignore:
    """Return what this build leaves out: the Dockerfile's own ignore file counts before the context's."""
    for path in (dockerfile.with_name(dockerfile.name + ".dockerignore"), context / ".dockerignore"):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        with os.fdopen(handle, errors="replace") as file:
            return Ignore(file.read(_IGNORE_BYTES).splitlines())
    return Ignore(())


def files(context: Path, ignore: Ignore, known: Files) -> dict[str, tuple[str, int, int]] | None:
    """Return every file of the context, read only where `known` does not know it; None when there are too many."""
    found: dict[str, tuple[str, int, int]] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(context / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                left_out = ignore.leaves_out(path)
                if entry.is_dir(follow_symlinks=False):
                    if not left_out or ignore.has_exceptions:
                        folders.append(path)
                elif not left_out:
                    if len(found) >= _MOST_FILES:
                        return None
                    found[path] = _seen(entry, known.get(path))
    return found


def _seen(entry: os.DirEntry[str], known: tuple[str, int, int] | None) -> tuple[str, int, int]:
    facts = entry.stat(follow_symlinks=False)
    if known and (known[1], known[2]) == (facts.st_size, facts.st_mtime_ns):
        return known[0], known[1], known[2]
    return _content(entry.path, facts), facts.st_size, facts.st_mtime_ns


def _content(path: str, facts: os.stat_result) -> str:
    if stat.S_ISLNK(facts.st_mode):
        return hashlib.sha256(b"link:" + os.fsencode(Path(path).readlink())).hexdigest()[:20]
    if not stat.S_ISREG(facts.st_mode):
        return "special"
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(b"x" if facts.st_mode & stat.S_IXUSR else b"-")
    return digest.hexdigest()[:20]


def differing(before: Files, now: Files, sources: Iterable[str]) -> list[str]:
    """Return the paths, below any of the sources of a COPY, whose content differs or that are on one side only."""
    rules = [pattern(source) for source in sources]
    return sorted(
        path
        for path in before.keys() | now.keys()
        if (path in before) != (path in now) or before[path][0] != now[path][0]
        if any(_below(rule, path) for rule in rules)
    )


def _below(rule: re.Pattern[str], path: str) -> bool:
    parts = path.split("/")
    return rule.pattern == r"\." or any(rule.fullmatch("/".join(parts[:depth])) for depth in range(1, len(parts) + 1))
