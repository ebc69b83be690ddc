"""Whose turn it is: a promotion begins, or is taken up again, in a new epoch of its environment.

What was true at the request is looked at again here; what is then done, step by step, is `swaps`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from pipeline import environments, queue, records
from pipeline.db import moment
from pipeline.environments import Standing
from pipeline.errors import Conflict
from pipeline.model import JobStatus, Outcome, Phase, PromotionStatus, Status
from pipeline.promotion_records import (
    Promotion,
    bind,
    change,
    close,
    enqueue,
    expiry,
    fetch,
    move,
    promotion,
    refusals,
    refuse_older,
    rows,
)
from pipeline.queue import Lease, Reaped
from pipeline.schema import environments as places
from pipeline.schema import jobs, promotions
from pipeline.swaps import fail_within

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.db import Database

S = PromotionStatus
TURN_SECONDS = 0.3  # how soon a promotion looks again whether it is its turn


def begin(lease: Lease) -> tuple[Promotion, Standing] | None:
    """Begin or go on with a promotion, in a new epoch; None when there is nothing to do now.

    What was true at the request is looked at again: a requirement that no longer holds ends it, a change of what
    an approval was bound to asks for it anew, a newer run that went live supersedes it. Raises LeaseLost.
    """
    with lease.db.write() as tx:
        lease.guard(tx)
        made = fetch(tx, lease.ref)
        standing = environments.by_id(tx, made.environment_id)
        if made.status == S.REQUESTED:
            _not_yet(tx, lease, made)
            return None
        if made.status not in (S.APPROVED, S.DEPLOYING):
            queue.finish(tx, lease)
            return None
        if made.status == S.APPROVED:
            if _is_in_the_way(tx, lease, made) or not _may_begin(tx, lease, made, standing):
                return None
            made = move(tx, fetch(tx, made.id), S.DEPLOYING, by=lease.owner)
        epoch = standing.epoch + 1
        tx.execute(update(places).where(places.c.id == standing.id).values(epoch=epoch))
        phase = made.phase or Phase.LOCKED
        made = change(tx, made, epoch=epoch, phase=phase)
        return made, environments.by_id(tx, standing.id)


def _not_yet(tx: Connection, lease: Lease, made: Promotion) -> None:
    if made.expires_at is not None and made.expires_at <= moment(tx):
        queue.finish(tx, lease)
        close(tx, made, S.EXPIRED, by="clock", reason="nobody decided in time", status=Status.FAILED)
    else:
        queue.give_back(tx, lease, run_at=made.expires_at)


def _is_in_the_way(tx: Connection, lease: Lease, made: Promotion) -> bool:
    """Let a promotion that has begun come first; one whose worker is gone is taken along by this one's scope."""
    mine = promotions.c.environment_id == made.environment_id
    row = tx.execute(rows().where(mine, promotions.c.status == S.DEPLOYING)).first()
    if row is None:
        return False
    other = promotion(row)
    job = tx.execute(select(jobs.c.status).where(jobs.c.kind == "promotion", jobs.c.ref == other.id)).scalar()
    if job in (JobStatus.QUEUED, JobStatus.RUNNING):
        own = tx.execute(select(jobs.c.scope).where(jobs.c.id == lease.job_id)).scalar_one()
        if job == JobStatus.QUEUED:
            enqueue(tx, other, scope=own)
        queue.give_back(tx, lease, run_at=moment(tx) + TURN_SECONDS)
    else:
        queue.finish(tx, lease)
        reason = f"promotion {other.id} has begun here and its worker was lost too often: `pipe env` tells more"
        close(tx, made, S.CANCELLED, by="queue", reason=reason, status=Status.ERRORED)
    return True


def _may_begin(tx: Connection, lease: Lease, made: Promotion, standing: Standing) -> bool:
    """Look again at everything that was true when it was asked for or approved."""
    run = records.get_run(tx, made.run_id) if made.run_id is not None else None
    if made.kind != "deploy" or run is None:
        return True
    if run.cancel_requested_at is not None:
        close(tx, made, S.CANCELLED, by="queue", reason=run.reason, status=Status.CANCELLED)
        return False
    try:
        refuse_older(tx, standing, run.id)
    except Conflict as newer:
        close(tx, made, S.SUPERSEDED, by="queue", reason=newer.message, status=Status.CANCELLED)
        return False
    if wrong := refusals(tx, standing, run, made.release, made.policy):
        reason = f"{standing.key} refuses run {run.id}: " + "; ".join(wrong)
        close(tx, made, S.CANCELLED, by="policy", reason=reason, status=Status.FAILED)
        return False
    now_bound = bind(standing, made.release, made.policy)
    if now_bound != made.binding and (made.policy.get("approval") or {}):
        made = change(tx, made, binding=now_bound, expires_at=moment(tx) + expiry(made.policy))
        if _was_decided(made):
            queue.finish(tx, lease)
            why = "what is live has changed since it was approved: the approval is void"
            move(tx, made, S.REQUESTED, by="policy", reason=why)
            enqueue(tx, made, scope="", run_at=made.expires_at)
            return False
    return True


def _was_decided(made: Promotion) -> bool:
    gate = (made.policy.get("approval") or {}).get("gate", "before_start")
    return gate == "before_start" or made.phase == Phase.GATE


def bury(db: Database, job: Reaped) -> None:
    """Stop a promotion whose job broke its workers too often: nothing is touched, a person must look."""
    with db.write() as tx:
        made = fetch(tx, job.ref)
        if made.status in (S.DEPLOYING, S.APPROVED):
            reason = (
                f"its worker was lost {queue.LOSSES} times (the last one was {job.owner}); nothing was touched since"
            )
            new = S.NEEDS_ATTENTION if made.status == S.DEPLOYING else S.CANCELLED
            fail_within(tx, made, new, Outcome(status=Status.ERRORED, cause="runner_lost", reason=reason), by="queue")
