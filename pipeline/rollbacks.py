"""Going back: a promotion of an older release, or of the warm one, which is only the route.

A rollback needs no quorum, no freeze and no queue: it takes the environment from a promotion that is being watched,
whose worker loses its lease and its epoch in the same transaction and touches nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline import environments, queue, records
from pipeline.attempts import finish_waiting
from pipeline.db import inserted, moment
from pipeline.environments import Standing
from pipeline.errors import Conflict, NotAllowed, NotFound
from pipeline.model import Cause, Outcome, Phase, PromotionStatus, Status
from pipeline.promotion_records import Promotion, bind, change, enqueue, fetch, move, promotion, rows
from pipeline.schema import promotions

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.db import Database

S = PromotionStatus
_SWITCHED = (Phase.SWITCHING, Phase.BAKING, Phase.ROLLING_BACK)


def request(
    db: Database, standing: Standing, *, by: str, reason: str, to_run: int | None = None, scope: str = ""
) -> Promotion:
    """Ask to go back to the release before the live one, or to that of a run; it is approved at once.

    Raises NotAllowed without a reason, NotFound when there is nothing to go back to, Conflict while a promotion
    is being prepared that has not reached the route yet.
    """
    if not reason.strip():
        raise NotAllowed("a rollback needs a reason", hint="say it with -m")
    with db.write() as tx:
        standing = environments.by_id(tx, standing.id)
        under_way = _under_way(tx, standing)
        target = _target(tx, standing, under_way, to_run)
        if under_way is not None:
            _preempt(tx, under_way, by=by, reason=reason)
        warm = _warm(tx, standing, under_way)
        reached = warm is not None and warm.carrier == target.carrier
        evidence: dict[str, Any] = {"carrier": target.carrier} if reached else {}
        policy = {
            "strategy": standing.spec.get("strategy") or {},
            "scope": scope,
            "process": target.policy.get("process"),
        }
        values = {
            "environment_id": standing.id,
            "kind": "rollback",
            "status": S.REQUESTED,
            "run_id": target.run_id,
            "rollback_of": standing.live_promotion,
            "release": dict(target.release),
            "colour": warm.colour if reached and warm else None,
            "binding": bind(standing, target.release, policy),
            "policy": policy,
            "evidence": evidence,
            "reason": reason,
            "requested_by": by,
            "requested_at": moment(tx),
        }
        made = fetch(tx, inserted(tx, promotions, values))
        records.note(tx, "promotion", made.id, made.run_id, "", S.REQUESTED, by=by, reason=reason)
        made = move(tx, made, S.APPROVED, by=by, reason="a rollback waits for nobody")
        enqueue(tx, made, scope=scope)
        return made


def _under_way(tx: Connection, standing: Standing) -> Promotion | None:
    mine = promotions.c.environment_id == standing.id
    row = tx.execute(rows().where(mine, promotions.c.status == S.DEPLOYING)).first()
    if row is None:
        return None
    made = promotion(row)
    if made.phase not in _SWITCHED:
        raise Conflict(
            f"promotion {made.id} to {standing.key} is at `{made.phase}` and has not reached the route",
            hint=f"cancel it instead: `pipe cancel {made.run_id}`; what is live stays live",
        )
    return made


def _target(tx: Connection, standing: Standing, under_way: Promotion | None, to_run: int | None) -> Promotion:
    live = fetch(tx, standing.live_promotion) if standing.live_promotion else None
    if live is None:
        raise NotFound(f"nothing is live in {standing.key}", hint="promote a run first")
    if under_way is not None and under_way.id != live.id and to_run is None:
        return live  # on its way, and not recorded as live yet: back is where the record is
    mine = promotions.c.environment_id == standing.id
    query = (
        rows()
        .where(mine, promotions.c.status.in_([S.REPLACED, S.LIVE, S.ROLLED_BACK]))
        .order_by(promotions.c.id.desc())
    )
    for row in tx.execute(query).all():
        found = promotion(row)
        if found.kind != "deploy" or found.id == live.carrier:
            continue
        if found.run_id == to_run or (to_run is None and found.status != S.ROLLED_BACK and found.id < live.carrier):
            return found
    what = f"run {to_run} was never live" if to_run is not None else "there is no earlier release"
    raise NotFound(f"{what} in {standing.key}", hint=f"`pipe env {standing.name}` tells what was live when")


def _warm(tx: Connection, standing: Standing, under_way: Promotion | None) -> Promotion | None:
    """Return the promotion whose containers run and are not live; while one is on its way, that is the record's."""
    if under_way is not None and under_way.id != standing.live_promotion:
        return fetch(tx, standing.live_promotion) if standing.live_promotion else None
    return fetch(tx, standing.warm_promotion) if standing.warm_promotion else None


def _preempt(tx: Connection, made: Promotion, *, by: str, reason: str) -> None:
    """End a promotion that is being watched; its worker finds its lease gone."""
    queue.withdraw(tx, kind="promotion", ref=made.id)
    why = f"rolled back by {by}: {reason}"
    made = change(tx, move(tx, made, S.ROLLED_BACK, by=by, reason=why), error=why)
    if made.stage_id is not None:
        outcome = Outcome(status=Status.FAILED, cause=Cause.FAILED, reason=why)
        finish_waiting(tx, made.stage_id, outcome, by=by)
