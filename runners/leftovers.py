"""What ended runs have left behind: containers, networks, volumes, workspaces. Found first, removed when asked.

Nothing of a run that is not over is touched, nothing without this installation's label, and nothing that is
live or warm: that belongs to promotions, which carry no run's label. Artifacts and images have budgets of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline import runs
from runners import workspace
from runners.hands import WORKSPACES

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.settings import Settings
    from runners.engines import Engine

RUN = "pipewright.run"
_MANY = 10_000
_FOLDER = re.compile(r"run-([0-9a-f]{8})-(\d+)")


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that nobody needs any more."""

    kind: Literal["container", "network", "volume", "workspace"]
    name: str  # of the thing, or the folder
    run: int


def find(db: Database, engine: Engine) -> list[Leftover]:
    """Return what ended runs left behind. Raises Unavailable."""
    under_way = {run.id for run in runs.unfinished(db)}
    return [one for one in (*_made(engine), *_workspaces(db)) if one.run not in under_way]


def remove(settings: Settings, engine: Engine, leftover: Leftover) -> None:
    """Remove one; idempotent. Raises Unavailable."""
    if leftover.kind == "container":
        engine.remove(leftover.name)
    elif leftover.kind == "network":
        engine.remove_network(leftover.name)
    elif leftover.kind == "volume":
        engine.remove_volume(leftover.name)
    else:
        labels = {RUN: str(leftover.run)}
        workspace.remove_folder(Path(leftover.name), engine, settings.base_image, labels)


def sweep(db: Database, settings: Settings, engine: Engine, project: Path, *, keep: int) -> None:
    """Remove the workspaces of ended runs of a project, but not those of the run `keep`. Raises Unavailable."""
    under_way = {run.id for run in runs.unfinished(db)} | {keep}
    for one in _in_project(db, project):
        if one.run not in under_way:
            remove(settings, engine, one)


def _made(engine: Engine) -> Iterator[Leftover]:
    """Yield what runs made on the engine, containers first: the others can only be removed without them."""
    for container in engine.find({}):
        yield from _of_run("container", container.name, container.labels)
    for name, labels in engine.networks({}).items():
        yield from _of_run("network", name, labels)
    for name, labels in engine.volumes({}).items():
        yield from _of_run("volume", name, labels)


def _of_run(
    kind: Literal["container", "network", "volume"], name: str, labels: Mapping[str, str]
) -> Iterator[Leftover]:
    if (number := labels.get(RUN, "")).isdigit():
        yield Leftover(kind, name, int(number))


def _workspaces(db: Database) -> Iterator[Leftover]:
    """Yield the folders of runs beside every definition that this installation knows."""
    projects = {run.event.repository for run in runs.listing(db, limit=_MANY)}
    for project in sorted(projects):
        if project.startswith("/"):
            yield from _in_project(db, Path(project))


def _in_project(db: Database, project: Path) -> Iterator[Leftover]:
    for path in sorted((project / WORKSPACES).glob("run-*")):
        match = _FOLDER.fullmatch(path.name)
        if match and match[1] == db.installation[:8] and not path.is_symlink():
            yield Leftover("workspace", str(path), int(match[2]))
