"""What follows from a change: stages become ready or are skipped, a run ends, a slot goes to the next run.

`settle` is called by every verb that changed a run, inside its transaction, and is safe to repeat: it reads
the statuses, and moves what must move. The rules for one stage are `readiness`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from pipeline import queue, readiness, records
from pipeline.db import moment
from pipeline.model import JobStatus, Run, StageRun, Status
from pipeline.schema import jobs, promotions, runs, stages

if TYPE_CHECKING:
    from sqlalchemy import Connection

ACTIVE = (Status.RUNNING, Status.WAITING)
NOT_BEGUN = ("requested", "approved", "rejected", "expired", "superseded", "cancelled")


def settle(tx: Connection, run_id: int) -> Run:
    """Draw all consequences for a run and, if a slot of its group became free, for the next one."""
    touched: set[int] = set()
    run, wants_slot, freed = _settle(tx, run_id, touched, take_slot=False)
    group = group_of(tx, run_id)
    if group and (wants_slot or freed):
        _admit(tx, group, touched)
        run = records.get_run(tx, run_id)
    for other in sorted(touched - {run_id}):
        settle(tx, other)
    return run


def group_of(tx: Connection, run_id: int) -> str | None:
    """Return the concurrency group of a run."""
    return tx.execute(select(runs.c.concurrency_group).where(runs.c.id == run_id)).scalar()


def _admit(tx: Connection, group: str, touched: set[int]) -> None:
    """Give the group's slot to the oldest run that has something to do, unless somebody has it."""
    mine = runs.c.concurrency_group == group
    if tx.execute(select(runs.c.id).where(mine, runs.c.holds_slot)).first():
        return
    open_ = runs.c.status.in_([Status.QUEUED, Status.RUNNING, Status.WAITING])
    for run_id in tx.execute(select(runs.c.id).where(mine, open_).order_by(runs.c.id)).scalars().all():
        _settle(tx, run_id, touched, take_slot=True)
        if tx.execute(select(runs.c.holds_slot).where(runs.c.id == run_id)).scalar():
            return


def _settle(tx: Connection, run_id: int, touched: set[int], *, take_slot: bool) -> tuple[Run, bool, bool]:
    """Settle one run; return it, whether it would need its group's slot to go on, and whether it gave it up."""
    run = records.get_run(tx, run_id)
    if run.status.final:
        return run, False, False
    slot = tx.execute(select(runs.c.concurrency_group, runs.c.holds_slot).where(runs.c.id == run_id)).one()
    all_stages = {stage.id: stage for stage in records.get_stages(tx, run_id)}
    if run.cancel_requested_at is not None:
        _cancel_queued(tx, run, all_stages)
    ready = _skip_and_find(tx, all_stages)
    begun = _with_open_job(tx, run_id)
    fresh = [stage for stage in ready if stage.id not in begun]
    holds = slot.holds_slot or slot.concurrency_group is None
    if fresh and not holds and take_slot:
        tx.execute(update(runs).where(runs.c.id == run_id).values(holds_slot=True))
        holds = True
    if holds:
        begun |= _enqueue(tx, run, fresh, list(all_stages.values()), begun, touched)
    run = _move_run(tx, run, list(all_stages.values()), begun)
    freed = slot.holds_slot and (run.status.final or run.status == Status.WAITING)
    if freed:
        tx.execute(update(runs).where(runs.c.id == run_id).values(holds_slot=False))
    return run, bool(fresh) and not holds, freed


def _cancel_queued(tx: Connection, run: Run, all_stages: dict[int, StageRun]) -> None:
    by = tx.execute(select(runs.c.cancel_by).where(runs.c.id == run.id)).scalar() or ""
    for stage in list(all_stages.values()):
        if stage.status == Status.QUEUED:
            queue.withdraw(tx, kind="stage", ref=stage.id)
            reason = run.reason or "the run was cancelled"
            all_stages[stage.id] = records.move_stage(
                tx, stage, Status.CANCELLED, by=by, reason=reason, cause="cancelled"
            )


def _skip_and_find(tx: Connection, all_stages: dict[int, StageRun]) -> list[StageRun]:
    """Skip what must be skipped; return the queued stages that may start, in order."""
    ready = []
    for stage_id, verdict in readiness.decide(list(all_stages.values())).items():
        stage = all_stages[stage_id]
        if verdict.skip:
            all_stages[stage_id] = records.move_stage(
                tx, stage, Status.SKIPPED, reason=verdict.reason, cause=verdict.skip
            )
        elif verdict.start:
            ready.append(stage)
    return sorted(ready, key=lambda stage: (stage.position, stage.id))


def _with_open_job(tx: Connection, run_id: int) -> set[int]:
    open_ = jobs.c.status.in_([JobStatus.QUEUED, JobStatus.RUNNING])
    return set(tx.execute(select(jobs.c.ref).where(jobs.c.kind == "stage", jobs.c.run_id == run_id, open_)).scalars())


def _enqueue(
    tx: Connection,
    run: Run,
    fresh: Sequence[StageRun],
    all_stages: Sequence[StageRun],
    begun: set[int],
    touched: set[int],
) -> set[int]:
    """Give every ready stage a job, as far as its matrix permits; return the ids."""
    active: dict[str, int] = {}
    for stage in all_stages:
        if stage.id in begun or stage.status in ACTIVE:
            active[stage.base] = active.get(stage.base, 0) + 1
    given = set()
    for stage in fresh:
        most = _matrix(stage).get("max_parallel")
        if most is None or active.get(stage.base, 0) < most:
            active[stage.base] = active.get(stage.base, 0) + 1
            touched |= enqueue_stage(tx, run, stage)
            given.add(stage.id)
    return given


def enqueue_stage(tx: Connection, run: Run, stage: StageRun, *, run_at: float | None = None) -> set[int]:
    """Put the job of a stage into the queue; return the runs that lost a stage to it, to be settled."""
    superseded: set[int] = set()
    concurrency: Any = stage.spec.get("concurrency") or {}
    group = _group(run, stage, concurrency.get("group", ""))
    lock = f"{run.pipeline}/{group}" if group else None
    if lock and concurrency.get("cancel_superseded"):
        superseded = _supersede_stages(tx, run, lock)
    runs_on: Any = stage.spec.get("runs_on") or []
    queue.enqueue(
        tx,
        kind="stage",
        ref=stage.id,
        run_id=run.id,
        scope=run.scope,
        lock=lock,
        labels=[runs_on] if isinstance(runs_on, str) else runs_on,
        run_at=run_at,
    )
    return superseded


def _group(run: Run, stage: StageRun, group: str) -> str:
    """Return the name of a stage's group with `${{ }}` filled in: git, inputs, matrix."""
    if "${{" not in group:
        return group
    from pipeline import expressions
    from pipeline.plan import start_context

    return expressions.fill_text(group, {**start_context(run.event), "matrix": dict(stage.matrix)})


def _supersede_stages(tx: Connection, run: Run, lock: str) -> set[int]:
    """Cancel the stages of older runs that wait for the same lock or hold it."""
    open_ = jobs.c.status.in_([JobStatus.QUEUED, JobStatus.RUNNING])
    older = select(jobs.c.ref).where(jobs.c.kind == "stage", jobs.c.lock == lock, open_, jobs.c.run_id < run.id)
    found = [records.get_stage(tx, stage_id) for stage_id in tx.execute(older).scalars().all()]
    for stage in found:
        cancel_stage(tx, stage, f"superseded by run {run.id}")
    return {stage.run_id for stage in found}


def cancel_stage(tx: Connection, stage: StageRun, reason: str) -> None:
    """Cancel one stage: at once when it is queued, through its worker when it runs. The caller settles its run."""
    if stage.status == Status.QUEUED:
        queue.withdraw(tx, kind="stage", ref=stage.id)
        records.move_stage(tx, stage, Status.CANCELLED, reason=reason, cause="cancelled")
    elif stage.status == Status.RUNNING:
        change = update(stages).where(stages.c.id == stage.id, stages.c.cancel_requested_at.is_(None))
        tx.execute(change.values(cancel_requested_at=moment(tx), reason=reason))


def fail_fast(tx: Connection, failed: StageRun) -> None:
    """Cancel the other combinations of a matrix, unless it says `fail_fast: false`."""
    if not failed.matrix or _matrix(failed).get("fail_fast") is False:
        return
    for stage in records.get_stages(tx, failed.run_id):
        if stage.base == failed.base and stage.id != failed.id and not stage.status.final:
            cancel_stage(tx, stage, f"{failed.name} failed, and the matrix fails fast")


def _matrix(stage: StageRun) -> dict[str, Any]:
    found: Any = stage.spec.get("matrix") or {}
    return dict(found)


def _move_run(tx: Connection, run: Run, all_stages: Sequence[StageRun], begun: set[int]) -> Run:
    if all(stage.status.final for stage in all_stages):
        status, reason = readiness.outcome(all_stages)
        if run.cancel_requested_at is not None:
            status, reason = Status.CANCELLED, run.reason or "cancelled"
        if run.status == Status.QUEUED and status not in (Status.CANCELLED, Status.SKIPPED, Status.ERRORED):
            run = records.move_run(tx, run, Status.RUNNING)
        return records.move_run(tx, run, status, reason=reason)
    working = any(stage.status == Status.RUNNING or stage.id in begun for stage in all_stages)
    waiting = [stage.name for stage in all_stages if stage.status == Status.WAITING]
    if working and run.status == Status.WAITING:
        return records.move_run(tx, run, Status.RUNNING)
    if waiting and not working and run.status == Status.RUNNING:
        return records.move_run(tx, run, Status.WAITING, reason=f"{', '.join(waiting)} goes on by itself")
    return run


def has_begun_promotion(tx: Connection, run_id: int) -> bool:
    """Tell whether a promotion of a run has begun, or is over after having begun: such a run is not superseded."""
    mine = promotions.c.run_id == run_id
    begun = promotions.c.status.not_in(NOT_BEGUN) | (promotions.c.phase != "")
    return tx.execute(select(promotions.c.id).where(mine, begun)).first() is not None
