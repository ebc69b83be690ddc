"""Wake-up without polling: whoever waits for the record to change is rung after the commit.

Inside a process it is a condition; between processes it is `LISTEN` on PostgreSQL and, on
SQLite, a look at `PRAGMA data_version` (microseconds, no lock) every `GLANCE_SECONDS`. A ring says
only "something was committed"; what it was is read from the tables.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

GLANCE_SECONDS = 0.05
CHANNEL = "pipewright"


class Bell:
    """Counts the rings; `wait` returns as soon as the count has moved on."""

    def __init__(
        self,
        *,
        glance: Callable[[], int] | None = None,
        listen: Callable[[Bell], None] | None = None,
        let_go: Callable[[], object] | None = None,
    ) -> None:
        """Take what lets other processes be heard: `glance` returns a number that changes, `listen` rings us."""
        self._condition = threading.Condition()
        self._count = 0
        self._glance = glance
        self._glanced: int | None = None
        self._listen = listen
        self._let_go = let_go
        self._thread: threading.Thread | None = None
        self.closed = threading.Event()

    def count(self) -> int:
        """Return how often it rang; take it before looking at the tables, and give it to `wait`."""
        self._start()
        return self._count

    def ring(self) -> None:
        """Wake everybody who waits."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait(self, seen: int, *, timeout: float) -> int:
        """Wait until it has rung since `seen` was counted, at most `timeout` seconds; return the count."""
        self._start()
        deadline = time.monotonic() + timeout
        with self._condition:
            while self._count == seen and not self.closed.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._condition.wait(min(left, GLANCE_SECONDS) if self._glance else left)
                self._look()
            return self._count

    def close(self) -> None:
        """Let everybody go; waiting afterwards returns at once."""
        self.closed.set()
        self.ring()
        with self._condition:
            let_go, self._let_go, self._glance = self._let_go, None, None
        if let_go:
            let_go()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(10)

    def _start(self) -> None:
        with self._condition:
            if self._glance and self._glanced is None:
                self._glanced = self._glance()
            listen, self._listen = self._listen, None
            if listen and not self.closed.is_set():
                self._thread = threading.Thread(target=listen, args=(self,), name="bell", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        if self._glance:
            now = self._glance()
            if now != self._glanced:
                self._glanced = now
                self._count += 1
                self._condition.notify_all()
