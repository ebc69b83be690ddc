"""Rows of runs, stages and attempts as nouns, and the one way in which their status moves.

Every move is checked against `model.MOVES` and leaves one history row in the same transaction. When a
move is right is decided elsewhere: `runs`, `attempts`, `progress`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from pipeline.db import moment
from pipeline.errors import NotFound
from pipeline.model import Attempt, Event, Image, Run, StageRun, Status, check_move
from pipeline.schema import attempts, history, runs, stages

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_RUN = [column for column in runs.c if column.name not in ("definition_text", "definition_path")]


def run(row: Row[Any]) -> Run:
    """Return a row of `runs` as a noun."""
    return Run(
        id=row.id,
        pipeline=row.pipeline,
        status=Status(row.status),
        reason=row.reason,
        event=event(row.event),
        definition=row.definition,
        environments=row.environments,
        trusted=row.trusted,
        scope=row.scope,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        cancel_requested_at=row.cancel_requested_at,
        retry_of=row.retry_of,
    )


def event(data: Mapping[str, Any]) -> Event:
    """Return an event that was stored as data."""
    paths = data.get("paths")
    return Event(**{**data, "paths": None if paths is None else tuple(paths)})


def event_data(value: Event) -> dict[str, Any]:
    """Return an event as plain data."""
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def stage(row: Row[Any]) -> StageRun:
    """Return a row of `stages` as a noun."""
    return StageRun(
        id=row.id,
        run_id=row.run_id,
        position=row.position,
        name=row.name,
        base=row.base,
        kind=row.kind,
        spec=row.spec,
        matrix=row.matrix,
        needs=tuple(row.needs),
        line=row.line,
        status=Status(row.status),
        cause=row.cause,
        reason=row.reason,
        allow_failure=row.allow_failure,
        attempts=row.attempts,
        outputs=row.outputs,
        image=image(row.image),
        result=row.result,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def image(data: Mapping[str, Any] | None) -> Image | None:
    """Return an image that was stored as data."""
    return Image(**{**data, "tags": tuple(data.get("tags", ()))}) if data else None


def image_data(value: Image | None) -> dict[str, Any] | None:
    """Return an image as plain data."""
    return (
        None
        if value is None
        else {"id": value.id, "repository": value.repository, "digest": value.digest, "tags": list(value.tags)}
    )


def attempt(row: Row[Any]) -> Attempt:
    """Return a row of `attempts` as a noun."""
    return Attempt(
        id=row.id,
        stage_id=row.stage_id,
        number=row.number,
        status=Status(row.status),
        cause=row.cause,
        reason=row.reason,
        exit_code=row.exit_code,
        worker=row.worker,
        container=row.container,
        commands=tuple(row.commands),
        lines=row.lines,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def get_run(tx: Connection, run_id: int) -> Run:
    """Return a run. Raises NotFound."""
    row = tx.execute(select(*_RUN).where(runs.c.id == run_id)).first()
    if row is None:
        raise NotFound(f"there is no run {run_id}", hint="`pipe runs` lists them")
    return run(row)


def get_stage(tx: Connection, stage_id: int) -> StageRun:
    """Return a stage. Raises NotFound."""
    row = tx.execute(select(stages).where(stages.c.id == stage_id)).first()
    if row is None:
        raise NotFound(f"there is no stage with the id {stage_id}", hint="`pipe show` lists a run's stages")
    return stage(row)


def get_stages(tx: Connection, run_id: int) -> list[StageRun]:
    """Return all stages of a run in the order of its definition."""
    query = select(stages).where(stages.c.run_id == run_id).order_by(stages.c.position, stages.c.id)
    return [stage(row) for row in tx.execute(query)]


def latest_attempt(tx: Connection, stage_id: int) -> Attempt | None:
    """Return the last attempt at a stage, or None."""
    query = select(attempts).where(attempts.c.stage_id == stage_id).order_by(attempts.c.number.desc()).limit(1)
    row = tx.execute(query).first()
    return attempt(row) if row else None


def move_run(tx: Connection, old: Run, new: Status, *, by: str = "", reason: str = "") -> Run:
    """Move a run, with its times and its history. Raises Conflict for an illegal move."""
    check_move(f"run {old.id}", old.status, new)
    now = moment(tx)
    values: dict[str, Any] = {"status": new, "reason": reason}
    if new == Status.RUNNING and old.started_at is None:
        values["started_at"] = now
    if new.final:
        values["finished_at"] = now
    tx.execute(update(runs).where(runs.c.id == old.id).values(**values))
    note(tx, "run", old.id, old.id, old.status, new, by=by, reason=reason)
    return dataclasses.replace(old, **values)


def move_stage(
    tx: Connection, old: StageRun, new: Status, *, by: str = "", reason: str = "", **values: Any
) -> StageRun:
    """Move a stage, with its times, its history and other columns. Raises Conflict for an illegal move."""
    check_move(f"stage {old.name} of run {old.run_id}", old.status, new)
    now = moment(tx)
    values |= {"status": new, "reason": reason}
    if new == Status.RUNNING and old.started_at is None:
        values["started_at"] = now
    if new.final:
        values["finished_at"] = now
    picture = values.pop("image", None)
    columns = values | ({"image": image_data(picture)} if picture else {})
    tx.execute(update(stages).where(stages.c.id == old.id).values(**columns))
    note(tx, "stage", old.id, old.run_id, old.status, new, by=by, reason=reason)
    return dataclasses.replace(old, **values, **({"image": picture} if picture else {}))


def note(
    tx: Connection, entity: str, ref: int, run_id: int | None, old: str, new: str, *, by: str = "", reason: str = ""
) -> None:
    """Write one row of history."""
    values = {"entity": entity, "ref": ref, "run_id": run_id, "old": old, "new": new, "by": by, "reason": reason}
    tx.execute(insert(history).values(at=moment(tx), **values))
