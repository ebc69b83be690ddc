"""Read small files of a repository that may hold anything: what is missing, huge or odd is empty text."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_MOST_BYTES = 256 * 1024
_MOST_NAMES = 2000


def text_of(path: Path) -> str:
    """Return the text of a regular file, at most 256 KiB of it; an empty string for anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return ""
    with os.fdopen(handle, "rb") as file:
        return file.read(_MOST_BYTES).decode("utf-8", "replace")


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; nothing where it can not be read."""
    try:
        return sorted(os.listdir(folder))[:_MOST_NAMES]  # noqa: PTH208
    except OSError:
        return []
