"""The verbs of a run: accept, look, cancel, retry, resume. Each public one opens its transaction.

A run is accepted whole: itself, its stages, the jobs of those that may start, history. The verbs of a
worker are `attempts`, the questions of views `chronicle`; they are found here too, with `builds` and `artifacts`.
What follows from a change is `progress`; test results are `results`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import insert, select, update

from pipeline import progress, queue, records
from pipeline.artifacts import record as record_artifacts
from pipeline.attempts import begin, finish, finish_waiting, reap, wake_promotion
from pipeline.builds import previous as previous_build
from pipeline.builds import record as record_build
from pipeline.chronicle import (
    Move,
    attempts,
    cancelling,
    definition_text,
    events,
    get,
    last_durations,
    listing,
    stage,
    stages,
    stopping,
    unfinished,
)
from pipeline.db import inserted, moment
from pipeline.errors import Conflict, DefinitionError
from pipeline.model import Event, Run, Status
from pipeline.readiness import Skip
from pipeline.schema import artifacts
from pipeline.schema import attempts as attempts_table
from pipeline.schema import runs as runs_table
from pipeline.schema import stages as stages_table

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.db import Database

__all__ = [
    "Move",
    "abandon",
    "accept",
    "attempts",
    "begin",
    "cancel",
    "cancelling",
    "definition_text",
    "events",
    "finish",
    "finish_waiting",
    "get",
    "last_durations",
    "listing",
    "previous_build",
    "reap",
    "record_artifacts",
    "record_build",
    "resume",
    "retry",
    "stage",
    "stages",
    "stopping",
    "unfinished",
]

_OPEN = (Status.QUEUED, Status.RUNNING, Status.WAITING)


class PlannedStage(Protocol):
    """What `accept` takes of a stage. Of `spec["when"]` only the items are left that hold for the event."""

    @property
    def position(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def spec(self) -> Mapping[str, Any]: ...
    @property
    def matrix(self) -> Mapping[str, Any]: ...
    @property
    def needs(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def line(self) -> int: ...
    @property
    def skip_reason(self) -> str: ...


class Plan(Protocol):
    """What `accept` takes: a definition expanded for one event, all as plain data."""

    @property
    def definition(self) -> Mapping[str, Any]: ...
    @property
    def stages(self) -> Sequence[PlannedStage]: ...
    @property
    def event(self) -> Event: ...
    @property
    def environments(self) -> Mapping[str, Any]: ...
    @property
    def path(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def concurrency(self) -> Mapping[str, Any] | None: ...


def accept(
    db: Database, plan: Plan, *, scope: str = "", by: str, alive: Callable[[str], bool] = lambda scope: True
) -> Run:
    """Take a plan in as a run: one transaction with its stages, the jobs of those that may start, and history.

    `alive` tells whether the process of a local scope still lives: a dead one's run gives up its group.
    """
    if not plan.stages:
        raise DefinitionError(
            f"{plan.path}: there are no stages", hint="add one under `stages:`; `pipe init` shows how"
        )
    group = plan.concurrency
    values: dict[str, Any] = {
        "pipeline": plan.definition["name"],
        "event": records.event_data(plan.event),
        "repository": plan.event.repository,
        "branch": plan.event.branch,
        "sha": plan.event.sha,
        "trusted": plan.event.trusted,
        "definition_path": plan.path,
        "definition_text": plan.text,
        "definition": dict(plan.definition),
        "environments": dict(plan.environments),
        "concurrency_group": f"{plan.definition['name']}/{group['group']}" if group else None,
        "cancel_superseded": bool(group and group.get("cancel_superseded")),
    }
    with db.write() as tx:
        run_id = _insert_run(tx, {**values, "scope": scope}, by=by)
        tx.execute(insert(stages_table), [_planned(run_id, stage, moment(tx)) for stage in plan.stages])
        _clear_group(tx, run_id, alive)
        return progress.settle(tx, run_id)


def _insert_run(tx: Connection, values: Mapping[str, Any], *, by: str) -> int:
    row = {**values, "status": Status.QUEUED, "created_at": moment(tx)}
    run_id = inserted(tx, runs_table, row)
    records.note(tx, "run", run_id, run_id, "", Status.QUEUED, by=by)
    return run_id


def _planned(run_id: int, stage: PlannedStage, now: float) -> dict[str, Any]:
    skipped = bool(stage.skip_reason)
    return {
        "run_id": run_id,
        "position": stage.position,
        "name": stage.name,
        "base": stage.base,
        "kind": stage.kind,
        "spec": dict(stage.spec),
        "matrix": dict(stage.matrix),
        "needs": [dict(need) for need in stage.needs],
        "line": stage.line,
        "allow_failure": bool(stage.spec.get("allow_failure")),
        "status": Status.SKIPPED if skipped else Status.QUEUED,
        "cause": Skip.PLAN.value if skipped else "",
        "reason": stage.skip_reason,
        "finished_at": now if skipped else None,
        "outputs": {},
        "result": {},
    }


def _clear_group(tx: Connection, run_id: int, alive: Callable[[str], bool]) -> None:
    """Cancel older runs of the group: superseded ones, and those whose process is gone."""
    new = tx.execute(select(runs_table).where(runs_table.c.id == run_id)).one()
    if new.concurrency_group is None:
        return
    same = runs_table.c.concurrency_group == new.concurrency_group
    older = select(runs_table.c.id, runs_table.c.scope).where(
        same, runs_table.c.id < run_id, runs_table.c.status.in_(_OPEN)
    )
    for row in tx.execute(older.order_by(runs_table.c.id)).all():
        if row.scope and not alive(row.scope):
            _abandon(tx, row.id, f"its process is gone, and run {run_id} has begun")
        elif new.cancel_superseded and not progress.has_begun_promotion(tx, row.id):
            _cancel(tx, row.id, by="queue", reason=f"superseded by run {run_id}")


def cancel(db: Database, run_id: int, *, by: str, reason: str = "") -> Run:
    """Cancel a run: recorded first, final, and stronger than any outcome that comes later.

    What is queued ends at once; what runs is ended by its worker; a promotion that has begun goes on
    to a safe end. Raises NotFound, and Conflict when the run is over.
    """
    with db.write() as tx:
        run = records.get_run(tx, run_id)
        if run.status.final:
            raise Conflict(f"run {run_id} is over: {run.status}", hint="there is nothing to cancel")
        return _cancel(tx, run_id, by=by, reason=reason or f"cancelled by {by}")


def _cancel(tx: Connection, run_id: int, *, by: str, reason: str) -> Run:
    from pipeline import promotion_records  # through it comes pydantic, which those who only look do without

    run = records.get_run(tx, run_id)
    if run.cancel_requested_at is None:
        values = {"cancel_requested_at": moment(tx), "cancel_by": by, "reason": reason}
        tx.execute(update(runs_table).where(runs_table.c.id == run_id).values(**values))
        records.note(tx, "run", run_id, run_id, run.status, "cancelling", by=by, reason=reason)
    promotion_records.cancel_waiting(tx, run_id, by=by, reason=reason)
    for each in records.get_stages(tx, run_id):
        if each.status == Status.WAITING:
            wake_promotion(tx, each.id)
    return progress.settle(tx, run_id)


def abandon(db: Database, run_id: int, *, by: str, reason: str) -> Run:
    """End a run whose process is gone for good, without one: for a local run that nobody will resume.

    A promotion under way is left alone and goes on under any worker. Raises NotFound.
    """
    with db.write() as tx:
        return _abandon(tx, run_id, reason, by=by)


def _abandon(tx: Connection, run_id: int, reason: str, *, by: str = "queue") -> Run:
    _cancel(tx, run_id, by=by, reason=reason)
    for each in records.get_stages(tx, run_id):
        if each.status == Status.RUNNING:
            queue.withdraw(tx, kind="stage", ref=each.id)
            ended = {"status": Status.CANCELLED, "cause": "runner_lost", "reason": reason, "finished_at": moment(tx)}
            mine = (attempts_table.c.stage_id == each.id) & (attempts_table.c.finished_at.is_(None))
            tx.execute(update(attempts_table).where(mine).values(**ended))
            records.move_stage(tx, each, Status.CANCELLED, by=by, reason=reason, cause="runner_lost")
    return progress.settle(tx, run_id)


def retry(db: Database, run_id: int, *, failed_only: bool = False, scope: str = "", by: str) -> Run:
    """Run it again as a new run of the same definition and event; with `failed_only` what succeeded is taken over.

    Raises NotFound, and Conflict when the run is not over or has nothing that failed.
    """
    with db.write() as tx:
        old = tx.execute(select(runs_table).where(runs_table.c.id == records.get_run(tx, run_id).id)).one()
        rows = tx.execute(select(stages_table).where(stages_table.c.run_id == run_id).order_by("position", "id")).all()
        if not Status(old.status).final:
            raise Conflict(f"run {run_id} is not over: {old.status}", hint="wait, or `pipe cancel` it first")
        if failed_only and all(row.status in (Status.SUCCEEDED, Status.SKIPPED) for row in rows):
            raise Conflict(f"nothing failed in run {run_id}", hint="`pipe retry` without --failed runs all of it again")
        new_id = _insert_run(tx, {**_copied(old), "scope": scope, "retry_of": run_id}, by=by)
        for row in rows:
            keep = failed_only and row.status == Status.SUCCEEDED
            new_stage = _kept(row) if keep else _fresh(row)
            key = inserted(tx, stages_table, {**new_stage, "run_id": new_id})
            if keep:
                _copy_artifacts(tx, row.id, row.attempts, key)
        _clear_group(tx, new_id, lambda scope: True)
        return progress.settle(tx, new_id)


def _copied(old: Any) -> dict[str, Any]:
    names = "pipeline event repository branch sha trusted definition_path definition_text definition environments"
    return {name: getattr(old, name) for name in [*names.split(), "concurrency_group", "cancel_superseded"]}


_STAGE_COLUMNS = ("position", "name", "base", "kind", "spec", "matrix", "needs", "line", "allow_failure")


def _fresh(row: Any) -> dict[str, Any]:
    planned = row.status == Status.SKIPPED and row.cause == Skip.PLAN
    values: dict[str, Any] = {"status": Status.QUEUED, "cause": "", "reason": "", "finished_at": None}
    values |= {"outputs": {}, "result": {}}
    if planned:
        values |= {"status": Status.SKIPPED, "cause": row.cause, "reason": row.reason, "finished_at": row.finished_at}
    return {name: getattr(row, name) for name in _STAGE_COLUMNS} | values


def _kept(row: Any) -> dict[str, Any]:
    columns = [*_STAGE_COLUMNS, "status", "attempts", "outputs", "image", "result", "started_at", "finished_at"]
    return {name: getattr(row, name) for name in columns} | {"reason": f"taken over from run {row.run_id}"}


def _copy_artifacts(tx: Connection, old: int, attempt: int, new: int) -> None:
    names = ["attempt", "path", "size_bytes", "sha256", "mode", "expires_at"]
    columns = [artifacts.c[name] for name in names]
    query = select(*columns).where(artifacts.c.stage_id == old, artifacts.c.attempt == attempt)
    rows = [{**row._mapping, "stage_id": new} for row in tx.execute(query)]
    if rows:
        tx.execute(insert(artifacts), rows)


def resume(db: Database, run_id: int, *, scope: str, alive: Callable[[str], bool], by: str) -> Run:
    """Take a local run over from its dead process: its jobs become this scope's and are queued again.

    Raises NotFound, and Conflict when the run is over, is a server's, or its process still lives.
    """
    with db.write() as tx:
        run = records.get_run(tx, run_id)
        if run.status.final:
            raise Conflict(f"run {run_id} is over: {run.status}", hint="`pipe retry` runs it again")
        if not run.scope:
            raise Conflict(f"run {run_id} is not a local run", hint="its server goes on with it by itself")
        if run.scope != scope and alive(run.scope):
            raise Conflict(f"run {run_id} is still being worked on ({run.scope})", hint="`pipe logs -f` follows it")
        queue.take_over(tx, run.scope, scope)
        same = runs_table.c.scope == run.scope
        tx.execute(update(runs_table).where(same, runs_table.c.status.in_(_OPEN)).values(scope=scope))
        records.note(tx, "run", run_id, run_id, run.status, "resumed", by=by, reason=f"taken over from {run.scope}")
        return progress.settle(tx, run_id)
