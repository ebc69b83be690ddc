"""Tidying up behind what is done: in the background of what comes next, and awaited before the process ends.

Only for removing things that nothing depends on any more; what must be recorded is never done here.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from pipeline.errors import PipeError

log = logging.getLogger(__name__)


class Cleanup:
    """Runs removals one after the other in a thread of its own; the thread begins with the first of them."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def later(self, remove: Callable[[], object]) -> None:
        """Do `remove` soon. It must be idempotent; what it raises is logged and does not stop the others."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="cleanup", daemon=True)
                self._thread.start()
            self._tasks.put(remove)

    def all_later(self, removals: Later) -> None:
        """Do what was put off, in its order."""
        for remove in removals.take():
            self.later(remove)

    def join(self) -> None:
        """Wait until everything given so far is removed; afterwards it may be used again."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread:
                self._tasks.put(None)
        if thread:
            thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except PipeError as error:
                log.warning("cleanup.failed", extra={"error": str(error)})
            except Exception:
                log.exception("cleanup.broke")


class Later:
    """What an attempt wants removed once its outcome is recorded: until then it is the proof of what happened."""

    def __init__(self) -> None:
        self._removals: list[Callable[[], object]] = []

    def later(self, remove: Callable[[], object]) -> None:
        """Put off `remove`. It must be idempotent."""
        self._removals.append(remove)

    def take(self) -> list[Callable[[], object]]:
        """Return what was put off, and forget it."""
        removals, self._removals = self._removals, []
        return removals
