"""What each kind of stage does: `run`, `build`, `push`, `promote`, one module each.

A stage takes `Work` and returns an `Outcome`; it may be called again for the same attempt
after a crash, and must then look before it acts. It never decides about retries or
about what comes next: that is `pipeline.runs`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.definition import Stage
from pipeline.model import Attempt, Run, StageRun
from runners.cleanup import Later

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.logs import LogWriter
    from pipeline.queue import Lease
    from pipeline.settings import Settings
    from runners.engines import Engine
    from runners.sandboxes import Sandboxes


@dataclass(frozen=True, kw_only=True)
class Work:
    """One attempt at one stage, with everything that its hands need."""

    settings: Settings
    db: Database
    engine: Engine
    lease: Lease
    run: Run
    stage: StageRun
    attempt: Attempt
    spec: Stage  # `stage.spec`, validated, with `${{ }}` filled in
    log: LogWriter
    secrets: Mapping[str, str]  # the stage's own, by name
    source: Path  # the repository or working tree that the run is about: its top folder
    project: str  # the folder of the definition within it ("" for the top): where stages work and contexts begin
    workspaces: Path  # where this attempt's workspace may lie (`.pipe/`)
    env: Mapping[str, str]  # PIPE_*, definition, inputs, matrix and stage, merged in that order
    deadline: float  # epoch seconds at which the attempt has timed out
    cancelled: threading.Event
    resumed: bool = False  # the attempt had begun under another process
    cleanup: Later = field(default_factory=Later)  # removals, done in the background once the outcome is recorded
    sandboxes: Sandboxes | None = None  # the worker's; without them a stage makes one for itself

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the labels of every object that this attempt makes."""
        return {
            "pipewright.installation": self.db.installation,
            "pipewright.run": str(self.run.id),
            "pipewright.stage": str(self.stage.id),
            "pipewright.attempt": str(self.attempt.id),
        }

    @property
    def key(self) -> str:
        """Return the prefix of the names of every object that this attempt makes."""
        return f"pipe-{self.db.installation[:8]}-{self.run.id}-{self.stage.position}-{self.attempt.number}"
