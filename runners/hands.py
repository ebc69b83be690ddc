"""What every job is given: the settings, the memory, the engine, and where secrets and sources are found.

A value with no behaviour of its own; `worker` passes it to whatever does a job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.model import Run

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.settings import Settings
    from runners.cleanup import Cleanup
    from runners.engines import Engine
    from runners.sandboxes import Sandboxes

Secrets = Callable[[Run, Iterable[str]], Mapping[str, str]]
"""Return the values of the named secrets for a run; raises NotFound that names what is missing and where to put it."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a run's files are: the repository's top folder, the definition's folder in it, and the workspaces'."""

    top: Path
    project: str
    workspaces: Path


@dataclass(frozen=True, kw_only=True)
class Hands:
    """One worker's means."""

    settings: Settings
    db: Database
    engine: Engine
    name: str  # who holds the leases: host, pid and start of the process
    scope: str  # "" for a server's queue, else the local process that alone may claim
    secrets: Secrets
    source: Callable[[Run], Source]
    cleanup: Cleanup
    sandboxes: Sandboxes
