"""This process as a worker of its own: `pipe run`, with the same engine and code path as a server's worker.

Its jobs carry its scope (host, process, start of the process), so nobody else claims them; when the
process is gone, `resume` takes them over. What a person sees of it is the command line's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import environments, laptop, queue, runs
from pipeline.db import Database
from pipeline.faults import arm
from pipeline.model import Run, Status
from runners import journal, workspace
from runners.cleanup import Cleanup
from runners.hands import Hands, Source, source_of
from runners.sandboxes import Sandboxes
from runners.scopes import alive, scope
from runners.worker import Worker

if TYPE_CHECKING:
    from pipeline.runs import Plan
    from pipeline.settings import Settings
    from runners.engines import Engine
    from runners.head_start import HeadStart

__all__ = ["Local", "alive", "scope", "source"]


_MIND_AFTER_SECONDS = 1.0


class Local:
    """The record, the engine and a worker, all in this process. Use it as a context manager."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        engine: Engine,
        *,
        secrets_file: Path | None = None,
        sandboxes: Sandboxes | None = None,
        files: HeadStart | None = None,
    ) -> None:
        arm(settings.crash_at)
        journal.keep(settings)
        self.settings = settings
        self.db = db
        self.scope = scope(settings)
        self._secrets_file = secrets_file
        self.hands = Hands(
            settings=settings,
            db=db,
            engine=engine,
            name=self.scope,
            scope=self.scope,
            secrets=self._secrets,
            source=source,
            cleanup=Cleanup(),
            sandboxes=sandboxes
            or Sandboxes(
                engine, installation=db.installation, image=settings.base_image, owner=self.scope, alive=self.alive
            ),
        )
        self.worker = Worker(self.hands, capacity=settings.capacity)
        self._files = files
        self._leave = threading.Event()
        self._minder = threading.Thread(target=self._look_after, name="minder")
        self._thread = threading.Thread(target=self.worker.work, args=(self._leave.is_set,), name="worker")

    def __enter__(self) -> Local:
        self._thread.start()
        if environments.listing(self.db):
            self._minder.start()
        return self

    def _look_after(self) -> None:
        """Bring back what should be live and is not, for instance after a reboot; a short command is not held up."""
        if not self._leave.wait(_MIND_AFTER_SECONDS):
            from runners import mending

            mending.look_after(self.hands)

    def __exit__(self, *_: object) -> None:
        """Wait for what is under way, tidy up, and leave."""
        self._leave.set()
        self.db.bell.ring()
        if self._minder.ident is not None:
            self._minder.join()
        self._thread.join()

    def accept(self, plan: Plan) -> Run:
        """Take a plan in as a run of this process. Raises Unavailable where no engine answers: nothing is begun."""
        self.hands.engine.check()
        if any(stage.kind == "run" and not stage.skip_reason for stage in plan.stages):
            self.hands.sandboxes.ahead()
        run = runs.accept(self.db, plan, scope=self.scope, by=self.settings.user, alive=self.alive)
        if self._files:
            self._files.give(workspace.run_folder(source(run).workspaces, self.db.installation, run.id))
        return run

    def resume(self, run_id: int) -> Run:
        """Take a run over whose process is gone. Raises NotFound, Conflict, and Unavailable without an engine."""
        self.hands.engine.check()
        return runs.resume(self.db, run_id, scope=self.scope, alive=self.alive, by=self.settings.user)

    def cancel(self, run_id: int, *, reason: str = "") -> None:
        """Cancel a run and tell its hands at once."""
        runs.cancel(self.db, run_id, by=self.settings.user, reason=reason)
        self.worker.stop_run(run_id)

    def quiet(self, run_id: int) -> bool:
        """Tell whether nothing more happens to a run by itself: it is over, or it waits for a person."""
        # Idleness is looked at first: a job that ends between the two looks has moved the run by then.
        idle = self.worker.idle and queue.pending(self.db, scope=self.scope) == 0
        status = runs.get(self.db, run_id).status
        return status.final or (status == Status.WAITING and idle)

    def alive(self, scope: str) -> bool:
        """Tell whether the process of a scope still lives."""
        return alive(scope, self.settings.hostname)

    def _secrets(self, run: Run, names: Iterable[str]) -> Mapping[str, str]:
        return laptop.secrets(names, folder=source(run).top, named=self._secrets_file)


def source(run: Run) -> Source:
    """Return where a local run's files are: the definition's own folder."""
    return source_of(run.event.repository)
