"""Ctrl-C while a run is under way: once cancels it and cleans up, twice leaves at once.

A signal handler must not wait for anything: it starts a thread, or ends the process.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from pipeline.cli.exits import Exit

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LEAVING = b"\r\n\x1b[?25hleft at once; `pipe run --resume` takes it up, `pipe gc` removes what is left\r\n"
_LEAVING_PLAIN = b"\nleft at once; `pipe run --resume` takes it up, `pipe gc` removes what is left\n"


class Interrupts:
    """While open, the first signal calls `cancel` in a thread, the second ends the process. For the main thread."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        self._before: dict[signal.Signals, object] = {}
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]
        if self._thread:
            self._thread.join()

    @property
    def heard(self) -> bool:
        """Tell whether somebody wants it to end."""
        return self._thread is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._cancel, name="cancel", daemon=True)
            self._thread.start()
        elif number == signal.SIGINT:
            terminal = os.isatty(2)
            os.write(2, _LEAVING if terminal else _LEAVING_PLAIN)
            os._exit(Exit.CANCELLED)
