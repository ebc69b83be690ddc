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

WORKSPACES = ".pipe"  # in a project's folder
Secrets = Callable[[Run, Iterable[str]], Mapping[str, str]]
"""Return the values of the named secrets for a run; raises NotFound that names what is missing and where to put it."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a run's files are: the repository's top folder, the definition's folder in it, and the workspaces'."""

    top: Path
    project: str
    workspaces: Path


def source_of(repository: str) -> Source:
    """Return where the files of a repository on this machine are: the definition's own folder, and `.pipe` in it."""
    top = Path(repository)
    return Source(top=top, project="", workspaces=top / WORKSPACES)


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
