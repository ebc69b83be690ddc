"""Named crash points: where the process kills itself when a test asks for it. Never active otherwise.

`PIPE_CRASH_AT=name` or `name:3` (the third time the point is passed). SIGKILL, because that is what
the promise is about: no handler, no flush, no goodbye.
"""

from __future__ import annotations

import os
import signal
import threading

_name = ""
_left = 0
_lock = threading.Lock()


def arm(crash_at: str) -> None:
    """Choose the point (`name` or `name:n`) at which this process dies; an empty string disarms."""
    global _name, _left
    with _lock:
        _name, _, count = crash_at.partition(":")
        _left = int(count or 1)


def point(name: str) -> None:
    """Pass a crash point."""
    if name != _name:
        return
    global _left
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
