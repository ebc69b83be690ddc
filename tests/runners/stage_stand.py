"""What the tests of command stages stand on: a real record, a real engine, and stages done as a worker does them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline import logs, queue, runs
from pipeline.db import Database
from pipeline.definition import Definition, Stage, as_data
from pipeline.masking import Masker
from pipeline.model import Event, Outcome
from pipeline.settings import Settings
from runners import repository
from runners.cleanup import Cleanup, Later
from runners.engines.docker import DockerEngine
from runners.sandboxes import Sandboxes
from runners.stages import Work, run
from tests.runners.stand import repository as make_repository
from tests.runners.stand import settings_in

IMAGE = "pipewright/debian:12"


@dataclass
class Stand:
    """One installation with a repository, on a real engine."""

    settings: Settings
    db: Database
    engine: DockerEngine
    source: Path
    sandboxes: Sandboxes
    cleanup: Cleanup = field(default_factory=Cleanup)

    def event(self, **more: Any) -> Event:
        from dataclasses import replace

        return replace(repository.event(self.source), **more)

    def accept(self, stages: Mapping[str, Mapping[str, Any]], **event: Any) -> int:
        """Take a pipeline of command stages in; return the run's id."""
        return accept(self.db, self.event(**event), stages)

    def work(self, *, cancelled: threading.Event | None = None, secrets: Mapping[str, str] | None = None) -> Work:
        """Claim the next stage and return the work on it, as the worker of this process."""
        return claimed(self, cancelled=cancelled, secrets=secrets)

    def do(self, work: Work) -> Outcome:
        """Do the stage and record its outcome, as `execution` does, and tidy up."""
        try:
            outcome = run.execute(work)
        finally:
            work.log.close()
        runs.finish(work.lease, outcome, lines=work.log.lines)
        self.cleanup.all_later(work.cleanup)
        return outcome

    def run(self, spec: Mapping[str, Any], *, secrets: Mapping[str, str] | None = None, **event: Any) -> Done:
        """Do one stage of one run."""
        self.accept({"one": spec}, **event)
        work = self.work(secrets=secrets)
        return Done(self.do(work), self.text(work), work)

    def text(self, work: Work) -> str:
        return "\n".join(line.text for line in logs.read(self.settings, work.attempt.id))

    def left(self) -> list[str]:
        """Return what is still there of this installation, sandboxes aside, once everything was tidied up."""
        self.cleanup.join()
        mine = {"label": [f"pipewright.installation={self.db.installation}"]}
        with self.engine._daemon.asked("looking") as client:
            found = [row["Names"][0] for row in client.containers(all=True, filters=mine)]
            found += [row["Name"] for row in client.networks(filters=mine)]
            found += [row["Name"] for row in client.volumes(filters=mine)["Volumes"] or []]
        return [name for name in found if "-sandbox" not in name]


@dataclass
class Done:
    outcome: Outcome
    log: str
    work: Work


def accept(db: Database, event: Event, stages: Mapping[str, Mapping[str, Any]]) -> int:
    planned = []
    for position, (name, spec) in enumerate(stages.items()):
        stage = Stage.model_validate({"image": IMAGE, **{key: value for key, value in spec.items() if key != "needs"}})
        needs = [{"stage": other, "optional": False} for other in spec.get("needs", [])]
        planned.append(
            SimpleNamespace(
                position=position, name=name, base=name, kind="run", spec=as_data(stage), matrix={}, needs=needs,
                line=1, skip_reason="",
            )
        )  # fmt: skip
    text = Definition.model_validate({"version": 1, "name": "hello", "stages": {"x": {"image": "x", "run": "x"}}})
    plan = SimpleNamespace(
        definition=as_data(text),
        stages=planned,
        event=event,
        environments={},
        path="pipe.yml",
        text="",
        concurrency=None,
    )
    return runs.accept(db, plan, scope="here", by="tester").id


def claimed(
    stand: Stand, *, cancelled: threading.Event | None = None, secrets: Mapping[str, str] | None = None, name: str = "w"
) -> Work:
    lease = queue.claim(stand.db, owner=name, scope="here", lease_seconds=600.0)
    assert lease is not None
    a_run, stage, attempt = runs.begin(lease, worker=name)
    spec = Stage.model_validate(stage.spec)
    return Work(
        settings=stand.settings,
        db=stand.db,
        engine=stand.engine,
        lease=lease,
        run=a_run,
        stage=stage,
        attempt=attempt,
        spec=spec,
        log=logs.open_log(stand.settings, attempt.id, Masker((secrets or {}).values())),
        secrets=secrets or {},
        source=stand.source,
        project="",
        workspaces=stand.source / ".pipe",
        env={"CI": "true", "PIPE_RUN": str(a_run.id), **spec.env},
        deadline=attempt.started_at + 3600,
        cancelled=cancelled or threading.Event(),
        resumed=attempt.worker != name,
        cleanup=Later(),
        sandboxes=stand.sandboxes,
    )


def opened(home: Path, source: Path, *, owner: str = "w", **more: str) -> Stand:
    settings = settings_in(home, **more)
    db = Database.open(settings)
    engine = DockerEngine(settings, db.installation)
    boxes = Sandboxes(
        engine, installation=db.installation, image=settings.base_image, owner=owner, alive=lambda owner: owner == "w"
    )
    return Stand(settings, db, engine, source, boxes)


@contextmanager
def standing(tmp: Path, files: dict[str, str] | None = None, **more: str) -> Iterator[Stand]:
    """A stand whose every container, network and volume is gone afterwards."""
    source = make_repository(tmp / f"shop-{uuid.uuid4().hex[:6]}", files or {"a.txt": "a\n"})
    stand = opened(tmp / "home", source, **more)
    try:
        yield stand
    finally:
        stand.cleanup.join()
        stand.sandboxes.close()
        for container in stand.engine.find({}):
            stand.engine.remove(container.id)
        stand.engine.remove_network(f"pipe-{stand.db.installation[:8]}-sandbox")
        stand.engine.close()
        stand.db.close()
