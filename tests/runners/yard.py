"""Stages as a worker does them: a real database, a real engine, real images; cleaned up by label afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import logs, queue, runs
from pipeline.db import Database
from pipeline.definition import Stage
from pipeline.errors import PipeError
from pipeline.masking import Masker
from pipeline.model import Event, Outcome, Run, Status
from pipeline.settings import Settings
from runners.engines.docker import DockerEngine
from runners.image_store import ImageStore
from runners.stages import Work
from runners.stages import build as build_stage
from runners.stages import push as push_stage
from tests.runners.stand import repository, settings_in

BASE = "pipewright/debian:12"


@dataclass(frozen=True)
class Planned:
    """A stage as a plan has it."""

    position: int
    name: str
    base: str
    kind: str
    spec: Mapping[str, Any]
    matrix: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[Mapping[str, Any], ...] = ()
    line: int = 1
    skip_reason: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan of independent stages."""

    definition: Mapping[str, Any]
    stages: tuple[Planned, ...]
    event: Event
    environments: Mapping[str, Any] = field(default_factory=dict)
    path: str = "pipe.yml"
    text: str = ""
    concurrency: None = None


@dataclass
class Yard:
    """One installation with its own project."""

    settings: Settings
    db: Database
    engine: DockerEngine
    project: Path
    store: ImageStore
    said: str = ""  # by the last stage

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            (self.project / name).write_text(text)

    @contextmanager
    def work(
        self,
        stages: Mapping[str, Any],
        do: str,
        *,
        event: Event | None = None,
        filled: Any = None,
        scope: str = "here",
        secrets: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Iterator[Work]:
        """Accept a run of these stages and begin the one to do; `filled` is its spec with `${{ }}` filled in."""
        from runners import repository as here

        event = event or here.event(self.project)
        planned = tuple(
            Planned(n, name, name, next(k for k in ("run", "build", "push") if k in spec), spec)
            for n, (name, spec) in enumerate(stages.items())
        )
        run = runs.accept(self.db, Plan({"name": "hello", "stages": stages}, planned, event), scope=scope, by="t")
        lease = self._lease(run, do, scope)
        spec = Stage.model_validate(filled or stages[do])
        try:
            with begun(self.db, self.settings, self.engine, self.project, lease, spec, secrets or {}, **more) as work:
                yield work
        finally:
            self.said = "\n".join(line.text for line in logs.read(self.settings, work.attempt.id))

    def _lease(self, run: Run, do: str, scope: str) -> queue.Lease:
        wanted = next(stage.id for stage in runs.stages(self.db, run.id) if stage.name == do)
        while lease := queue.claim(self.db, owner="yard", scope=scope):
            if lease.ref == wanted:
                return lease
        raise AssertionError(f"no job of {do}")

    def build(self, spec: Mapping[str, Any] | None = None, **more: Any) -> Outcome:
        """Build one stage `image` of a fresh run."""
        stages = more.pop("stages", {"image": {"build": dict(spec or {})}})
        with self.work(stages, more.pop("do", "image"), **more) as work:
            try:
                return build_stage.execute(work)
            except PipeError as error:
                work.log.say(str(error))
                raise

    def push(
        self,
        image: str,
        to: str = "registry.example/shop",
        tags: tuple[str, ...] = (),
        written: tuple[str, ...] | None = None,
        **more: Any,
    ) -> Outcome:
        """Push an image as the stage `push` of a fresh run that would have built it; `written`: tags not filled in."""
        spec = {"image": "${{ stages.image.image }}", "to": to, "tags": list(tags if written is None else written)}
        stages = {"image": {"build": {}}, "push": {"push": spec, "needs": []}}
        filled = {"push": spec | {"image": image, "tags": list(tags)}}
        with self.work(stages, "push", filled=filled, **more) as work:
            return push_stage.execute(work)


@contextmanager
def begun(
    db: Database,
    settings: Settings,
    engine: DockerEngine,
    top: Path,
    lease: queue.Lease,
    spec: Stage | None = None,
    secrets: Mapping[str, str] | None = None,
    **more: Any,
) -> Iterator[Work]:
    """Begin the attempt that a lease is about, or take it over."""
    run, stage, attempt = runs.begin(lease, worker="yard")
    log = logs.open_log(settings, attempt.id, Masker((secrets or {}).values()))
    try:
        yield Work(
            settings=settings,
            db=db,
            engine=engine,
            lease=lease,
            run=run,
            stage=stage,
            attempt=attempt,
            spec=spec or Stage.model_validate(stage.spec),
            log=log,
            secrets=secrets or {},
            source=top,
            workspaces=top / ".pipe",
            env={},
            deadline=time.time() + 300,
            cancelled=threading.Event(),
            **({"project": ""} | more),
        )
    finally:
        log.close()


def do_next(db: Database, settings: Settings, engine: DockerEngine, project: Path, scope: str) -> Outcome:
    """Do the next job of a scope to its recorded end, as a worker does."""
    lease = queue.claim(db, owner=str(os.getpid()), scope=scope)
    assert lease
    with begun(db, settings, engine, project, lease) as work:
        outcome = {"build": build_stage, "push": push_stage}[work.stage.kind].execute(work)
        runs.finish(lease, outcome)
    return outcome


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def yard(tmp_path: Path) -> Iterator[Yard]:
    """Give an installation, and remove everything that it made."""
    installation_home = tmp_path / "home"
    settings = settings_in(installation_home, PIPE_REGISTRY_PORT=str(free_port()))
    db = Database.open(settings)
    engine = DockerEngine(settings, db.installation)
    project = repository(tmp_path / f"project-{uuid.uuid4().hex[:6]}", {"Dockerfile": f"FROM {BASE}\n"})
    with ImageStore(settings) as store:
        try:
            yield Yard(settings, db, engine, project, store)
        finally:
            labels = {"pipewright.installation": db.installation}
            for container in engine.find(labels):
                engine.remove(container.id)
            for image in store.listing(labels):
                for name in (*image.names, image.id):
                    store.remove(name)
            engine.remove_volume(f"pipe-registry-{db.installation[:8]}")
            engine.close()
            db.close()
            shutil.rmtree(tmp_path, ignore_errors=True)


def changed(work: Work, **what: Any) -> Work:
    """Return the same work with something else in it."""
    return replace(work, **what)


__all__ = ["BASE", "Status", "Yard", "changed", "free_port", "yard"]
