"""Runs told as stories: plans in a few words, and workers that do what the story says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert, select

from pipeline import queue, runs
from pipeline.db import Database
from pipeline.model import Event, Outcome, Run, StageRun, Status
from pipeline.schema import environments, promotions


@dataclass(frozen=True)
class Planned:
    """A stage as a plan has it."""

    name: str
    needs: tuple[Mapping[str, Any], ...] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)
    matrix: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "run"
    base: str = ""
    position: int = 0
    line: int = 1
    skip_reason: str = ""


@dataclass(frozen=True)
class APlan:
    """A plan as `accept` takes it."""

    stages: tuple[Planned, ...]
    event: Event
    definition: Mapping[str, Any]
    environments: Mapping[str, Any] = field(default_factory=dict)
    path: str = "pipe.yml"
    text: str = "version: 1\n"
    concurrency: Mapping[str, Any] | None = None


def stage(name: str, *needs: str, skip: str = "", kind: str = "run", matrix: Any = None, **spec: Any) -> Planned:
    """Plan a stage. A need that ends in `?` is optional; `when="failed"` is a status."""
    needed = tuple({"stage": need.rstrip("?"), "optional": need.endswith("?")} for need in needs)
    if "when" in spec:
        spec["when"] = [{"status": status} for status in spec["when"].split()]
    base = name.partition(" ")[0]
    return Planned(name, needed, spec, matrix or {}, kind, base, skip_reason=skip)


def plan(*stages: Planned, group: str = "", supersede: bool = False, sha: str = "a" * 40, **definition: Any) -> APlan:
    """Plan a run of the pipeline `shop` for a push to main."""
    numbered = tuple(
        Planned(s.name, s.needs, s.spec, s.matrix, s.kind, s.base, number, number + 1, s.skip_reason)
        for number, s in enumerate(stages)
    )
    branch, dirty = definition.pop("branch", "main"), definition.pop("dirty", False)
    event = Event(
        kind="push",
        repository="/src/shop",
        ref=f"refs/heads/{branch}",
        sha=sha,
        branch=branch,
        by="ada",
        dirty=dirty,
    )
    concurrency = {"group": group, "cancel_superseded": supersede} if group else None
    return APlan(numbered, event, {"name": "shop", **definition}, concurrency=concurrency)


GOOD = Outcome(status=Status.SUCCEEDED)
BAD = Outcome(status=Status.FAILED, cause="failed", reason="exit 1", exit_code=1)
BROKEN = Outcome(status=Status.ERRORED, cause="image_pull", reason="no such image")
WAITS = Outcome(status=Status.WAITING, reason="promotion 1 is requested")


class Story:
    """Accepts runs and works on them, with outcomes by the stage's name (default: good)."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def accept(self, *stages: Planned, by: str = "ada", scope: str = "", **more: Any) -> Run:
        """Take a plan of these stages in."""
        alive = more.pop("alive", lambda scope: True)
        return runs.accept(self.db, plan(*stages, **more), by=by, scope=scope, alive=alive)

    def claim(self, *, scope: str = "", labels: tuple[str, ...] = ("linux",)) -> queue.Lease | None:
        """Claim the next job."""
        return queue.claim(self.db, owner="worker", scope=scope, labels=labels)

    def begin(self, *, scope: str = "") -> tuple[queue.Lease, StageRun]:
        """Claim and begin the next stage."""
        lease = self.claim(scope=scope)
        assert lease is not None, "there is no job"
        return lease, runs.begin(lease, worker="worker")[1]

    def begin_all(self) -> dict[str, queue.Lease]:
        """Begin everything that may start now."""
        found = {}
        while lease := self.claim():
            found[runs.begin(lease, worker="worker")[1].name] = lease
        return found

    def work(self, outcomes: Mapping[str, Outcome] | None = None, *, scope: str = "") -> list[str]:
        """Do every job that may be done, one after the other; return the stages in the order in which they ran."""
        order = []
        while lease := self.claim(scope=scope):
            _, begun, _ = runs.begin(lease, worker="worker")
            order.append(begun.name)
            runs.finish(lease, (outcomes or {}).get(begun.name, GOOD))
        return order

    def statuses(self, run: Run) -> dict[str, str]:
        """Return the status of each stage by name."""
        return {one.name: one.status.value for one in runs.stages(self.db, run.id)}

    def status(self, run: Run) -> str:
        """Return the status of the run."""
        return runs.get(self.db, run.id).status.value

    def stage(self, run: Run, name: str) -> StageRun:
        """Return one stage by name."""
        return next(one for one in runs.stages(self.db, run.id) if one.name == name)


def promotion(db: Database, run: Run, stage_id: int, status: str, phase: str = "") -> int:
    """Put a promotion on record as the swap does."""
    with db.write() as tx:
        place = tx.execute(select(environments.c.id)).scalar()
        if place is None:
            place = tx.execute(
                insert(environments).values(application="shop", name="test", spec={}, epoch=0)
            ).inserted_primary_key[0]
        row = {"environment_id": place, "kind": "deploy", "status": status, "phase": phase, "run_id": run.id}
        row |= {"stage_id": stage_id, "release": {}, "binding": "x", "policy": {}, "evidence": {}}
        return tx.execute(insert(promotions).values(**row, requested_by="ada", requested_at=1.0)).inserted_primary_key[
            0
        ]
