"""The verbs of the worker that carries a promotion out: intents before effects, observations after them.

Each is one transaction that begins with the lease's guard, so a worker that lost its lease records nothing. What
the effects are, and in which order they come, is `runners.promotion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from pipeline import environments, queue, records
from pipeline.attempts import finish_waiting
from pipeline.db import inserted, moment
from pipeline.environments import Standing
from pipeline.model import Colour, Outcome, Phase, PromotionStatus, Status
from pipeline.promotion_records import (
    Promotion,
    change,
    enqueue,
    enqueue_retirement,
    expiry,
    fetch,
    move,
    promotion,
    refusals,
    rows,
)
from pipeline.queue import Lease
from pipeline.schema import environments as places
from pipeline.schema import promotions, stages, steps

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.db import Database

S = PromotionStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a promotion: what was meant to be done, and what was seen afterwards."""

    id: int
    phase: str
    intent: Mapping[str, Any]
    observed: Mapping[str, Any] | None
    intent_at: float
    done_at: float | None


def check(lease: Lease, made: Promotion, standing: Standing) -> list[str]:
    """Return what no longer holds just before the switch: the requirements are looked at twice."""
    with lease.db.read() as connection:
        if made.kind != "deploy" or made.run_id is None:
            return []
        connection.info["clock"] = lease.db.now
        return refusals(connection, standing, records.get_run(connection, made.run_id), made.release, made.policy)


def intend(
    lease: Lease, made: Promotion, phase: Phase, data: Mapping[str, Any], **values: Any
) -> tuple[Promotion, int]:
    """Commit what is about to be done; return the promotion in its new phase, and the step. Raises LeaseLost."""
    with lease.db.write() as tx:
        lease.guard(tx)
        made = change(tx, made, phase=phase, **values)
        row = {"promotion_id": made.id, "phase": phase, "intent": dict(data), "intent_at": moment(tx)}
        return made, inserted(tx, steps, row)


def observe(lease: Lease, made: Promotion, step: int, seen: Mapping[str, Any], **values: Any) -> Promotion:
    """Commit what was seen after an effect. Raises LeaseLost."""
    with lease.db.write() as tx:
        lease.guard(tx)
        _done(tx, step, seen)
        return change(tx, made, **values) if values else made


def note(lease: Lease, made: Promotion, **values: Any) -> Promotion:
    """Write columns of a promotion that are not its status. Raises LeaseLost."""
    with lease.db.write() as tx:
        lease.guard(tx)
        return change(tx, made, **values)


def stands(lease: Lease, made: Promotion) -> Standing:
    """Return the environment as it stands now."""
    with lease.db.read() as connection:
        return environments.by_id(connection, made.environment_id)


def switched(
    lease: Lease, made: Promotion, step: int, seen: Mapping[str, Any], *, bake: float, drain: float
) -> Promotion:
    """Commit that the router was seen to send everything to this promotion's colour; the bake begins.

    Deadlines are absolute. What was live is warm from now on, as long as the bake lasts at least.
    """
    with lease.db.write() as tx:
        lease.guard(tx)
        _done(tx, step, seen)
        now = moment(tx)
        standing = environments.by_id(tx, made.environment_id)
        assert made.colour is not None
        if standing.live_promotion != made.id:
            _stand(tx, standing, made, warm=standing.live_promotion, since=now)
        made = change(tx, made, phase=Phase.BAKING, switched_at=now, bake_until=now + bake, drain_until=now + drain)
        records.note(
            tx,
            "environment",
            standing.id,
            made.run_id,
            str(standing.live_colour or ""),
            str(made.colour),
            by=lease.owner,
        )
        return made


def _stand(tx: Connection, standing: Standing, made: Promotion, *, warm: int | None, since: float) -> None:
    values = {"live_colour": made.colour, "live_promotion": made.id, "live_since": since, "warm_promotion": warm}
    tx.execute(update(places).where(places.c.id == standing.id).values(**values, warm_until=None, paused=False))


def finish(lease: Lease, made: Promotion, outcome: Outcome, *, keep_old: float, reason: str = "") -> Promotion:
    """Commit that a promotion is live and its bake ended: what it replaced stays warm until a stored deadline."""
    with lease.db.write() as tx:
        queue.finish(tx, lease)
        standing = environments.by_id(tx, made.environment_id)
        mine = (promotions.c.environment_id == standing.id) & (promotions.c.status == S.LIVE)
        for row in tx.execute(rows().where(mine, promotions.c.id != made.id)).all():
            before = promotion(row)
            end = S.ROLLED_BACK if made.kind == "rollback" and before.id != made.carrier else S.REPLACED
            move(tx, before, end, by=lease.owner, reason=f"promotion {made.id}" + (f": {reason}" if reason else ""))
        made = move(tx, made, S.LIVE, by=lease.owner, reason=reason, phase=Phase.DONE, finished_at=moment(tx))
        if standing.warm_promotion:
            until = moment(tx) + keep_old
            tx.execute(update(places).where(places.c.id == standing.id).values(warm_until=until))
            due = min(until, made.drain_until or until) if outcome.result.get("draining") else until
            enqueue_retirement(tx, made, run_at=due)
        if made.stage_id is not None:
            finish_waiting(tx, made.stage_id, outcome, by=lease.owner)
        return made


def fail(lease: Lease, made: Promotion, new: PromotionStatus, outcome: Outcome) -> Promotion:
    """Commit that a promotion did not go live: `failed`, `cancelled`, `rolled_back` or `needs_attention`."""
    with lease.db.write() as tx:
        queue.finish(tx, lease)
        return fail_within(tx, made, new, outcome, by=lease.owner)


def fail_within(tx: Connection, made: Promotion, new: PromotionStatus, outcome: Outcome, *, by: str) -> Promotion:
    """Do what `fail` does in the caller's transaction."""
    made = move(tx, made, new, by=by, reason=outcome.reason, error=outcome.reason, finished_at=moment(tx))
    if new is S.NEEDS_ATTENTION:
        tx.execute(update(places).where(places.c.id == made.environment_id).values(paused=True))
        records.note(tx, "environment", made.environment_id, made.run_id, "", "paused", by=by, reason=outcome.reason)
    if made.stage_id is not None:
        finish_waiting(tx, made.stage_id, outcome, by=by)
    return made


def went_back(lease: Lease, made: Promotion, step: int, seen: Mapping[str, Any]) -> None:
    """Commit that the route leads to the earlier release again, before the newer one is removed."""
    with lease.db.write() as tx:
        lease.guard(tx)
        _done(tx, step, seen)
        standing = environments.by_id(tx, made.environment_id)
        if standing.live_promotion == made.id and standing.warm_promotion:
            before = fetch(tx, standing.warm_promotion)
            _stand(tx, standing, before, warm=None, since=moment(tx))
            if before.status == S.REPLACED:
                move(tx, before, S.LIVE, by=lease.owner, reason=f"promotion {made.id} was rolled back")
            records.note(
                tx, "environment", standing.id, made.run_id, str(made.colour), str(before.colour), by=lease.owner
            )


def wait_at_gate(lease: Lease, made: Promotion, step: int, seen: Mapping[str, Any]) -> Promotion:
    """Give worker, lock and turn back until somebody has decided; the new colour stays up and can be looked at."""
    with lease.db.write() as tx:
        queue.finish(tx, lease)
        _done(tx, step, seen)
        until = moment(tx) + expiry(made.policy)
        made = move(tx, made, S.REQUESTED, by=lease.owner, reason="ready; waits for a decision before the swap")
        made = change(tx, made, phase=Phase.GATE, expires_at=until)
        enqueue(tx, made, scope="", run_at=until)
        return made


def fell_back(lease: Lease, made: Promotion, *, reason: str) -> bool:
    """Commit what the proxy did by itself: the warm release is live again. Tell whether the record knew of one."""
    with lease.db.write() as tx:
        lease.guard(tx)
        standing = environments.by_id(tx, made.environment_id)
        if standing.warm_promotion is None or standing.live_promotion is None:
            return False
        broken, warm = fetch(tx, standing.live_promotion), fetch(tx, standing.warm_promotion)
        if broken.status == S.LIVE:
            move(tx, broken, S.ROLLED_BACK, by="proxy", reason=reason)
        if warm.status == S.REPLACED:
            move(tx, warm, S.LIVE, by="proxy", reason=reason)
        _stand(tx, standing, warm, warm=None, since=moment(tx))
        return True


def forget_warm(lease: Lease, environment_id: int) -> None:
    """Commit that nothing is warm any more, before the old colour is removed."""
    with lease.db.write() as tx:
        lease.guard(tx)
        change_ = update(places).where(places.c.id == environment_id)
        tx.execute(change_.values(warm_promotion=None, warm_until=None))


def take(lease: Lease, environment_id: int) -> int:
    """Take the environment's route in a new epoch, for tidying up; return it. Raises LeaseLost."""
    with lease.db.write() as tx:
        lease.guard(tx)
        epoch = environments.by_id(tx, environment_id).epoch + 1
        tx.execute(update(places).where(places.c.id == environment_id).values(epoch=epoch))
        return epoch


def done(lease: Lease) -> None:
    """Commit that there is nothing more to do. Raises LeaseLost."""
    with lease.db.write() as tx:
        queue.finish(tx, lease)


def again(lease: Lease, run_at: float) -> None:
    """Let the same job come again later. Raises LeaseLost."""
    with lease.db.write() as tx:
        queue.give_back(tx, lease, run_at=run_at)


def is_cancelled(lease: Lease, made: Promotion) -> bool:
    """Tell whether a promotion's run is being cancelled; a rollback has nothing to cancel."""
    with lease.db.read() as connection:
        if made.stage_id is None or made.kind != "deploy" or made.run_id is None:
            return False
        return records.get_run(connection, made.run_id).cancel_requested_at is not None


def stage_is_running(lease: Lease, made: Promotion) -> bool:
    """Tell whether the stage's own attempt still has its log open."""
    with lease.db.read() as connection:
        query = select(stages.c.status).where(stages.c.id == made.stage_id)
        return connection.execute(query).scalar() == Status.RUNNING


def trail(db: Database, promotion_id: int) -> list[Step]:
    """Return the steps of a promotion, in order."""
    query = select(steps).where(steps.c.promotion_id == promotion_id).order_by(steps.c.id)
    with db.read() as connection:
        return [
            Step(
                id=row.id,
                phase=row.phase,
                intent=row.intent,
                observed=row.observed,
                intent_at=row.intent_at,
                done_at=row.done_at,
            )
            for row in connection.execute(query)
        ]


def _done(tx: Connection, step: int, seen: Mapping[str, Any]) -> None:
    tx.execute(update(steps).where(steps.c.id == step).values(observed=dict(seen), done_at=moment(tx)))


def colour_of(made: Promotion) -> Colour:
    """Return where a promotion that has begun goes."""
    assert made.colour is not None
    return made.colour
