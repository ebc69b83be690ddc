"""A container to look around in: a stage's image, variables, user, limits, and a copy of its workspace as it was left.

Nothing that is done in it changes the attempt, which stays as it is, or the record. Secrets are not put into it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import expressions
from pipeline.definition import Stage
from pipeline.errors import Conflict, NotFound
from pipeline.model import Attempt, Run, StageRun
from pipeline.settings import passed_on
from runners import clones, execution, process
from runners.engines import ContainerSpec, Mount
from runners.stages import cell, shell
from runners.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.settings import Settings
    from runners.engines import Engine
    from runners.hands import Source

ROLE = "shell"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is looked at: a stage of a run, its last attempt, and the workspace that this left (None: it has none)."""

    run: Run
    stage: StageRun
    attempt: Attempt
    spec: Stage
    workspace: Workspace | None


def scene(db: Database, run: Run, stage: StageRun, source: Source) -> Scene:
    """Find what is left of a stage's last attempt. Raises NotFound and Conflict."""
    from pipeline import runs

    if stage.kind not in ("run", "build"):
        raise Conflict(f"`{stage.name}` is a {stage.kind}: it has no container to look around in")
    tries = runs.attempts(db, stage.id)
    if not tries:
        raise NotFound(f"`{stage.name}` of run {run.id} never began", hint=f"`pipe show {run.id}` tells why")
    spec = Stage.model_validate(expressions.fill(stage.spec, execution.context(db, run, stage)))
    if stage.kind == "build" and stage.image is None:
        raise Conflict(f"`{stage.name}` made no image", hint=f"`pipe logs {run.id} {stage.base}` tells why")
    return Scene(run=run, stage=stage, attempt=tries[-1], spec=spec, workspace=_left(db, run, stage, tries[-1], source))


def _left(db: Database, run: Run, stage: StageRun, attempt: Attempt, source: Source) -> Workspace | None:
    """Return the workspace of an attempt, where it has not been removed."""
    home = source.workspaces / f"run-{db.installation[:8]}-{run.id}" / f"{stage.position}-{attempt.number}"
    path = home / run.pipeline
    return Workspace(path=path, prefix=source.project) if path.is_dir() else None


def enter(settings: Settings, engine: Engine, found: Scene, installation: str) -> int:
    """Open a shell in the terminal, and return its exit code when it is left. Raises Unavailable."""
    name = f"pipe-{installation[:8]}-shell-{secrets.token_hex(4)}"
    with _copied(found.workspace) as place, _container(engine, name, found, place):
        env = passed_on() | ({"DOCKER_HOST": settings.engine_url} if settings.engine_url else {})
        words = ("docker", "exec", "--interactive", "--tty", name, *shell.argv(found.spec.shell))
        return process.foreground(words, env=env)


@contextmanager
def _copied(workspace: Workspace | None) -> Iterator[Workspace | None]:
    """Give a copy of the workspace that may be changed, and remove it afterwards."""
    if workspace is None:
        yield None
        return
    copy = workspace.path.parent / f"shell-{secrets.token_hex(4)}"
    clones.copy_tree(workspace.path, copy)
    try:
        yield Workspace(path=copy, prefix=workspace.prefix, env=workspace.env)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


@contextmanager
def _container(engine: Engine, name: str, found: Scene, place: Workspace | None) -> Iterator[None]:
    spec = found.spec
    resources = spec.resources
    env = execution.environment(found.run, found.stage, found.attempt, spec)
    image = found.stage.image.reference if found.stage.image and spec.kind == "build" else spec.image or ""
    wish = ContainerSpec(
        name=name,
        image=image,
        entrypoint=shell.argv(spec.shell),  # it waits for an input that never comes, and so stays
        stdin=True,
        env={**(place.env if place else {}), **env, "PIPE_WORKSPACE": cell.ROOT},
        labels={cell.ROLE: ROLE, "pipewright.run": str(found.run.id)},
        workdir=cell.workdir(place, spec.workdir) if place else "",
        user=spec.user or "",
        mounts=(Mount(source=str(Path(place.path).resolve()), target=cell.ROOT),) if place else (),
        network="none" if spec.network == "none" else "bridge",
        cpus=resources.cpus if resources else None,
        memory_bytes=resources.memory if resources else None,
    )
    engine.create(wish)
    try:
        engine.start(name)
        yield
    finally:
        engine.remove(name)
