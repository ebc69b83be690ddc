"""The worker: takes jobs under leases, gives each a thread, renews the leases and watches for cancelling.

What a job means is `execution`'s (stages), `promotion`'s and `retirement`'s. One worker may serve
one scope (a local run: only its own process claims its jobs) or everything that a server queued.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from pipeline import queue, runs
from pipeline.errors import LeaseLost, PipeError
from runners.hands import Hands

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
WATCH_SECONDS = 0.5  # how soon a cancelling from another process is noticed


@dataclass
class Task:
    """A job under way: its lease, its thread, and the event that tells its hands to stop."""

    lease: queue.Lease
    stop: threading.Event = field(default_factory=threading.Event)
    lost: bool = False
    thread: threading.Thread | None = None
    renewed_at: float = field(default_factory=time.monotonic)


# kind of job -> where `do(hands, lease, stop)` is; imported when the first of its kind comes
DOERS = {"stage": "runners.execution", "promotion": "runners.promotion", "retire": "runners.retirement"}
FOR_ANYBODY = ("retire", "promotion")  # without a scope they need nothing of a certain process


class Worker:
    """Works until told to stop; see `work`."""

    def __init__(self, hands: Hands, *, capacity: int, lease_seconds: float = LEASE_SECONDS) -> None:
        self.hands = hands
        self.capacity = capacity
        self.lease_seconds = lease_seconds
        self._tasks: dict[tuple[int, int], Task] = {}  # by job and token: a lost one may still be on its way out
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def work(self, until: Callable[[], bool]) -> None:
        """Take jobs until `until()`; then wait for those under way and for what is tidied up behind them."""
        beat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        beat.start()
        bell = self.hands.db.bell
        try:
            while True:
                heard = bell.count()  # before looking at anything: whoever rings after it is heard
                if until():
                    break
                if not self._takes_one():
                    bell.wait(heard, timeout=WATCH_SECONDS)
        finally:
            for task in self._under_way():
                if task.thread:
                    task.thread.join()
            self._ended.set()
            closing = threading.Thread(target=self.hands.sandboxes.close, name="sandboxes-close")
            closing.start()
            self.hands.cleanup.join()
            closing.join()

    def stop_run(self, run_id: int) -> None:
        """Tell the hands that work on a run to stop, without waiting for the watch."""
        for task in self._under_way():
            if task.lease.run_id == run_id:
                task.stop.set()

    @property
    def idle(self) -> bool:
        """Tell whether nothing is under way."""
        return not self._tasks

    def _takes_one(self) -> bool:
        try:
            return self._take_one()
        except PipeError as error:  # the record is away for a moment, or the disk is full: look again later
            log.warning("claim.failed", extra={"error": str(error)})
            return False

    def _take_one(self) -> bool:
        if len(self._tasks) >= self.capacity:
            return False
        lease = self._claim(self.hands.scope)
        if lease is None and self.hands.scope:  # what fell due after its own process had left
            lease = self._claim("", kinds=FOR_ANYBODY)
        if lease is None:
            return False
        task = Task(lease)
        task.thread = threading.Thread(target=self._do, args=(task,), name=f"{lease.kind}-{lease.ref}")
        with self._lock:
            self._tasks[lease.job_id, lease.token] = task
        task.thread.start()
        return True

    def _claim(self, scope: str, kinds: Sequence[str] = ()) -> queue.Lease | None:
        hands = self.hands
        return queue.claim(hands.db, owner=hands.name, scope=scope, kinds=kinds, lease_seconds=self.lease_seconds)

    def _do(self, task: Task) -> None:
        lease = task.lease
        try:
            import_module(DOERS[lease.kind]).do(self.hands, lease, task.stop)
        except LeaseLost:
            log.warning("job.lease_lost", extra={"job": lease.job_id, "kind": lease.kind, "ref": lease.ref})
        except PipeError as error:
            log.error("job.failed", extra={"job": lease.job_id, "kind": lease.kind, "error": str(error)})
            self._give_up(lease)
        except Exception:
            log.exception("job.broke", extra={"job": lease.job_id, "kind": lease.kind})
            self._give_up(lease)
        finally:
            with self._lock:
                self._tasks.pop((lease.job_id, lease.token), None)
            self.hands.db.bell.ring()

    def _give_up(self, lease: queue.Lease) -> None:
        """Count it as a lost lease, so that a job which breaks its worker is set aside after some tries."""
        try:
            queue.abandon(self.hands.db, lease, after_seconds=4.0**lease.losses)  # what was away may be back
        except LeaseLost:
            pass
        except PipeError as error:  # nobody renews it any more: it runs out by itself
            log.warning("job.not_given_back", extra={"job": lease.job_id, "error": str(error)})

    def _under_way(self) -> list[Task]:
        with self._lock:
            return list(self._tasks.values())

    def _beat(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            try:
                self._renew()
                self._watch()
                if lost := [job for job in runs.reap(self.hands.db) if job.kind == "promotion"]:
                    import_module(DOERS["retire"]).buried(self.hands, lost)
            except PipeError as error:  # the database is away for a moment: the next beat tries again
                log.warning("heartbeat.failed", extra={"error": str(error)})
            except Exception:  # without this thread every lease would run out
                log.exception("heartbeat.broke")

    def _renew(self) -> None:
        for task in self._under_way():
            if time.monotonic() - task.renewed_at < self.lease_seconds / 3:
                continue
            try:
                task.lease.renew()
                task.renewed_at = time.monotonic()
            except LeaseLost:
                task.lost = True
                task.stop.set()

    def _watch(self) -> None:
        tasks = {t.lease.ref: t for t in self._under_way() if t.lease.kind == "stage" and not t.stop.is_set()}
        for stage_id in runs.stopping(self.hands.db, tasks) if tasks else ():
            tasks[stage_id].stop.set()
