"""What has happened: runs, stages, attempts and moves as views ask for them. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from pipeline import records
from pipeline.model import Attempt, Run, StageRun, Status
from pipeline.schema import attempts as attempts_table
from pipeline.schema import history
from pipeline.schema import runs as runs_table
from pipeline.schema import stages as stages_table

if TYPE_CHECKING:
    from pipeline.db import Database

_OPEN = (Status.QUEUED, Status.RUNNING, Status.WAITING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One row of history: who moved what from where to where, when, and why."""

    id: int
    entity: str
    ref: int
    name: str  # of the stage; empty for others
    old: str
    new: str
    by: str
    reason: str
    at: float


def get(db: Database, run_id: int) -> Run:
    """Return a run. Raises NotFound."""
    with db.read() as connection:
        return records.get_run(connection, run_id)


def definition_text(db: Database, run_id: int) -> tuple[str, str]:
    """Return the definition's path and its text as it was when the run was accepted. Raises NotFound."""
    columns = (runs_table.c.definition_path, runs_table.c.definition_text)
    with db.read() as connection:
        records.get_run(connection, run_id)
        row = connection.execute(select(*columns).where(runs_table.c.id == run_id)).one()
    return row.definition_path, row.definition_text


def stages(db: Database, run_id: int) -> list[StageRun]:
    """Return the stages of a run in the order of its definition."""
    with db.read() as connection:
        return records.get_stages(connection, run_id)


def stage(db: Database, stage_id: int) -> StageRun:
    """Return a stage. Raises NotFound."""
    with db.read() as connection:
        return records.get_stage(connection, stage_id)


def attempts(db: Database, stage_id: int) -> list[Attempt]:
    """Return the attempts at a stage, the first one first."""
    query = select(attempts_table).where(attempts_table.c.stage_id == stage_id).order_by(attempts_table.c.number)
    with db.read() as connection:
        return [records.attempt(row) for row in connection.execute(query)]


def listing(db: Database, *, pipeline: str | None = None, limit: int = 20, before: int | None = None) -> list[Run]:
    """Return the newest runs first."""
    query = select(runs_table).order_by(runs_table.c.id.desc()).limit(limit)
    if pipeline:
        query = query.where(runs_table.c.pipeline == pipeline)
    if before:
        query = query.where(runs_table.c.id < before)
    with db.read() as connection:
        return [records.run(row) for row in connection.execute(query)]


def unfinished(db: Database, *, scope: str | None = None) -> list[Run]:
    """Return the runs that are not over, oldest first; of one scope, or of all."""
    query = select(runs_table).where(runs_table.c.status.in_(_OPEN)).order_by(runs_table.c.id)
    if scope is not None:
        query = query.where(runs_table.c.scope == scope)
    with db.read() as connection:
        return [records.run(row) for row in connection.execute(query)]


def cancelling(db: Database, run_ids: Collection[int]) -> set[int]:
    """Return which of these runs are being cancelled."""
    asked = runs_table.c.cancel_requested_at.is_not(None)
    with db.read() as connection:
        return set(connection.execute(select(runs_table.c.id).where(runs_table.c.id.in_(run_ids), asked)).scalars())


def stopping(db: Database, stage_ids: Collection[int]) -> set[int]:
    """Return which of these stages shall end, with their run or alone (a matrix that fails fast)."""
    asked = stages_table.c.cancel_requested_at.is_not(None) | runs_table.c.cancel_requested_at.is_not(None)
    joined = stages_table.join(runs_table, stages_table.c.run_id == runs_table.c.id)
    query = select(stages_table.c.id).select_from(joined).where(stages_table.c.id.in_(stage_ids), asked)
    with db.read() as connection:
        return set(connection.execute(query).scalars())


def events(db: Database, run_id: int, after: int = 0) -> list[Move]:
    """Return what moved in a run since the history row `after`, for views."""
    query = (
        select(history, stages_table.c.name)
        .select_from(
            history.outerjoin(stages_table, (history.c.entity == "stage") & (history.c.ref == stages_table.c.id))
        )
        .where(history.c.run_id == run_id, history.c.id > after)
        .order_by(history.c.id)
    )
    with db.read() as connection:
        rows = connection.execute(query).all()
    names = ("id", "entity", "ref", "old", "new", "by", "reason", "at")
    return [Move(name=row.name or "", **{name: getattr(row, name) for name in names}) for row in rows]


def last_durations(db: Database, pipeline: str, *, before: int | None = None) -> dict[str, float]:
    """Return how many seconds each stage took when it last succeeded, by name; seen from the run `before`."""
    query = (
        select(stages_table.c.name, stages_table.c.started_at, stages_table.c.finished_at)
        .select_from(stages_table.join(runs_table, stages_table.c.run_id == runs_table.c.id))
        .where(runs_table.c.pipeline == pipeline, stages_table.c.status == Status.SUCCEEDED)
        .where(stages_table.c.started_at.is_not(None), runs_table.c.id > _recent(db, pipeline, before))
        .order_by(stages_table.c.id)
    )
    if before is not None:
        query = query.where(runs_table.c.id < before)
    with db.read() as connection:
        return {row.name: row.finished_at - row.started_at for row in connection.execute(query)}


def _recent(db: Database, pipeline: str, before: int | None, count: int = 10) -> int:
    """Return the id before the last `count` runs of a pipeline, counted back from the run `before` or the newest."""
    last = select(runs_table.c.id).where(runs_table.c.pipeline == pipeline).order_by(runs_table.c.id.desc())
    if before is not None:
        last = last.where(runs_table.c.id < before)
    with db.read() as connection:
        first = connection.execute(select(func.min(last.limit(count).subquery().c.id))).scalar()
    return (first or 1) - 1
