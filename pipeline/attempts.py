"""The verbs of a worker at a stage: begin an attempt, finish it, and what a lost worker leaves behind.

Each is one transaction that begins with the lease's guard, so a worker that lost its lease changes nothing.
What follows for the run is `progress`; what an attempt does is the runners' business.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select, update

from pipeline import progress, queue, records
from pipeline.db import inserted, moment
from pipeline.model import Attempt, Cause, JobStatus, Outcome, Run, StageRun, Status
from pipeline.queue import Lease, Reaped
from pipeline.schema import attempts, jobs, stages

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.db import Database

BACKOFF_SECONDS = 1.0  # before the second attempt when a machine was the cause; doubles, up to:
BACKOFF_MOST_SECONDS = 30.0
_NO_BACKOFF = {Cause.FAILED, Cause.TIMEOUT, Cause.OOM, Cause.REPORT}


def begin(lease: Lease, *, worker: str) -> tuple[Run, StageRun, Attempt]:
    """Begin the attempt that the lease is about, or take over the one that a lost worker had begun.

    The attempt's container name is committed here, before anything is made. Raises LeaseLost.
    """
    with lease.db.write() as tx:
        lease.guard(tx)
        stage = records.get_stage(tx, lease.ref)
        run = records.get_run(tx, stage.run_id)
        last = records.latest_attempt(tx, stage.id)
        if stage.status == Status.RUNNING and last and not last.status.final:
            tx.execute(update(attempts).where(attempts.c.id == last.id).values(worker=worker))
            return run, stage, last  # with the name of the worker that had begun it
        if run.status in (Status.QUEUED, Status.WAITING):
            run = records.move_run(tx, run, Status.RUNNING, by=worker)
        number = stage.attempts + 1
        stage = records.move_stage(tx, stage, Status.RUNNING, by=worker, attempts=number, cause="")
        return run, stage, _new_attempt(tx, lease.db, run, stage, worker)


def _new_attempt(tx: Connection, db: Database, run: Run, stage: StageRun, worker: str) -> Attempt:
    container = f"pipe-{db.installation[:8]}-{run.id}-{stage.position}-{stage.attempts}"
    values: dict[str, Any] = {
        "stage_id": stage.id,
        "number": stage.attempts,
        "status": Status.RUNNING,
        "worker": worker,
        "container": container,
        "commands": [],
        "started_at": moment(tx),
    }
    key = inserted(tx, attempts, values)
    values |= {"commands": (), "cause": "", "reason": "", "exit_code": None, "lines": 0, "finished_at": None}
    return Attempt(id=key, **values)


def finish(lease: Lease, outcome: Outcome, *, lines: int | None = None) -> StageRun:
    """Record how the attempt ended and draw all consequences: retry, next stages, the run's end, a freed slot.

    One transaction. A cancelling that was recorded before wins over any other outcome. Raises LeaseLost.
    """
    with lease.db.write() as tx:
        queue.finish(tx, lease)
        stage = records.get_stage(tx, lease.ref)
        run = records.get_run(tx, stage.run_id)
        if outcome.status != Status.WAITING and _cancelling(tx, run, stage):
            why = run.reason if run.cancel_requested_at is not None else stage.reason
            outcome = dataclasses.replace(outcome, status=Status.CANCELLED, cause="cancelled", reason=why)
        _end_attempt(tx, stage, outcome, lines)
        if _tries_again(run, stage, outcome):
            return _again(tx, run, stage, outcome, by=lease.owner)
        ended = _end_stage(tx, stage, outcome, by=lease.owner)
        if outcome.status == Status.WAITING:  # its log is free now, and a cancelling may have come meanwhile
            wake_promotion(tx, stage.id)
        return ended


def finish_waiting(tx: Connection, stage_id: int, outcome: Outcome, *, by: str = "") -> StageRun:
    """End a promote stage in the promotion's own transaction; a stage that has ended stays as it is."""
    stage = records.get_stage(tx, stage_id)
    if stage.status.final:
        return stage
    queue.withdraw(tx, kind="stage", ref=stage.id)
    _end_attempt(tx, stage, outcome, None)
    return _end_stage(tx, stage, outcome, by=by)


def reap(db: Database) -> list[Reaped]:
    """Take back the jobs whose lease has run out. A stage that lost its worker too often is errored.

    What a dead job of another kind means is the caller's to decide, from the list that is returned.
    """
    if not db.steady(queue.LEASE_SECONDS):
        return []
    late = or_(jobs.c.lease_until <= db.now(), jobs.c.lease_until > db.now() + queue.LONGEST_SECONDS)
    with db.read() as connection:
        if (
            connection.execute(select(jobs.c.id).where(jobs.c.status == JobStatus.RUNNING, late).limit(1)).first()
            is None
        ):
            return []
    with db.write() as tx:
        found = queue.overdue(tx)
        for job in found:
            if job.kind == "stage" and job.status == JobStatus.DEAD:
                _bury(tx, job)
        return found


def _bury(tx: Connection, job: Reaped) -> None:
    stage = records.get_stage(tx, job.ref)
    if stage.status.final:
        return
    reason = (
        f"{stage.name} lost its worker {queue.LOSSES} times (the last one was {job.owner})\n"
        "  it may be what ends them: look at the machine's memory and at the log, then `pipe retry`"
    )
    outcome = Outcome(status=Status.ERRORED, cause=Cause.RUNNER_LOST, reason=reason)
    _end_attempt(tx, stage, outcome, None)
    _end_stage(tx, stage, outcome, by="queue")


def _cancelling(tx: Connection, run: Run, stage: StageRun) -> bool:
    asked = select(stages.c.cancel_requested_at).where(stages.c.id == stage.id)
    return run.cancel_requested_at is not None or tx.execute(asked).scalar() is not None


def _end_attempt(tx: Connection, stage: StageRun, outcome: Outcome, lines: int | None) -> None:
    values: dict[str, Any] = {"status": outcome.status, "cause": outcome.cause, "reason": outcome.reason}
    if outcome.status.final:
        values["finished_at"] = moment(tx)
    if outcome.exit_code is not None:
        values["exit_code"] = outcome.exit_code
    if outcome.commands:
        values["commands"] = [dict(command) for command in outcome.commands]
    if lines is not None:
        values["lines"] = lines
    mine = (attempts.c.stage_id == stage.id) & (attempts.c.number == stage.attempts)
    tx.execute(update(attempts).where(mine).values(**values))


def _tries_again(run: Run, stage: StageRun, outcome: Outcome) -> bool:
    if outcome.status not in (Status.FAILED, Status.ERRORED):
        return False
    most, causes = retry_policy(run, stage)
    cause = outcome.cause or outcome.status.value
    return stage.attempts <= most and (cause in causes or (cause == Cause.REPORT and Cause.FAILED in causes))


def retry_policy(run: Run, stage: StageRun) -> tuple[int, tuple[str, ...]]:
    """Return how often and for which causes a stage is tried again: its own word, or the definition's default."""
    from pipeline.definition import Retry

    defaults: Any = run.definition.get("defaults") or {}
    own = stage.spec.get("retry")  # {} is a word too: not at all
    policy = Retry.model_validate(defaults.get("retry") or {} if own is None else own)
    return policy.max, policy.on


def _again(tx: Connection, run: Run, stage: StageRun, outcome: Outcome, *, by: str) -> StageRun:
    wait = 0.0
    if outcome.cause not in _NO_BACKOFF:
        wait = min(BACKOFF_SECONDS * 2 ** (stage.attempts - 1), BACKOFF_MOST_SECONDS)
    reason = f"attempt {stage.attempts} {outcome.status} ({outcome.cause or outcome.status}); it is tried again"
    stage = records.move_stage(tx, stage, Status.QUEUED, by=by, reason=reason)
    for other in progress.enqueue_stage(tx, run, stage, run_at=moment(tx) + wait):
        progress.settle(tx, other)
    return stage


def _end_stage(tx: Connection, stage: StageRun, outcome: Outcome, *, by: str) -> StageRun:
    values: dict[str, Any] = {"cause": outcome.cause if outcome.status != Status.SUCCEEDED else ""}
    if outcome.outputs:
        values["outputs"] = dict(outcome.outputs)
    if outcome.image:
        values["image"] = outcome.image
    if outcome.result:
        values["result"] = {**stage.result, **outcome.result}
    stage = records.move_stage(tx, stage, outcome.status, by=by, reason=outcome.reason, **values)
    if outcome.status in (Status.FAILED, Status.ERRORED) and not stage.allow_failure:
        progress.fail_fast(tx, stage)
    progress.settle(tx, stage.run_id)
    return stage


def wake_promotion(tx: Connection, stage_id: int) -> None:
    """Let the promotion of a stage look at what has changed, for one: that its run is being cancelled."""
    from pipeline.schema import promotions

    found = tx.execute(select(promotions.c.id).where(promotions.c.stage_id == stage_id)).scalar()
    if found is not None:
        queue.wake(tx, kind="promotion", ref=found)
