"""Names of processes that work on their own runs: unique for all time, and whether they still live."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.settings import Settings


def scope(settings: Settings) -> str:
    """Name this process so that no later one is mistaken for it."""
    return f"{settings.hostname}:{os.getpid()}:{_started(os.getpid())}"


def alive(scope: str, hostname: str) -> bool:
    """Tell whether the process of a scope still lives; one on another host is believed to."""
    host, pid, started = scope.rsplit(":", 2)
    return host != hostname or (started != "" and _started(int(pid)) == started)


def _started(pid: int) -> str:
    """Return when a process began, in ticks since the machine did; "" when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name in parentheses may hold anything
    return "" if fields[0] == "Z" else fields[19]
