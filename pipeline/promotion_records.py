"""Promotions as rows: read, moved with their history, ended with their stage. In the caller's transaction.

For the verbs of people (`promotions`) and of the worker (`swaps`); nobody else writes these rows.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from pipeline import gates, queue, records
from pipeline.attempts import finish_waiting
from pipeline.db import moment
from pipeline.environments import Standing
from pipeline.errors import Conflict, NotFound
from pipeline.model import Cause, Colour, Outcome, Phase, PromotionStatus, Run, Status, check_move
from pipeline.schema import decisions, promotions
from pipeline.schema import environments as places

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

S = PromotionStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One release on its way into one environment."""

    id: int
    environment_id: int
    kind: str  # deploy | rollback
    status: PromotionStatus
    phase: str  # a Phase, or "" before it began
    run_id: int | None
    stage_id: int | None
    rollback_of: int | None
    release: Mapping[str, Any]
    colour: Colour | None
    epoch: int
    binding: str
    policy: Mapping[str, Any]
    reason: str
    error: str
    evidence: Mapping[str, Any]
    requested_by: str
    requested_at: float
    expires_at: float | None
    ready_by: float | None
    switched_at: float | None
    bake_until: float | None
    drain_until: float | None
    finished_at: float | None

    @property
    def carrier(self) -> int:
        """Return the promotion whose containers serve this release: another one's after a rollback to warm."""
        return int(self.evidence.get("carrier", self.id))

    @property
    def begun(self) -> bool:
        """Tell whether effects may have been caused."""
        return self.phase != ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one person decided."""

    person: str
    verdict: str  # approve | reject
    comment: str
    at: float
    counts: bool  # still bound to what would be done now


def fetch(tx: Connection, promotion_id: int) -> Promotion:
    """Return a promotion. Raises NotFound."""
    row = tx.execute(rows().where(promotions.c.id == promotion_id)).first()
    if row is None:
        raise NotFound(f"there is no promotion {promotion_id}", hint="`pipe env` lists them")
    return promotion(row)


def promotion(row: Row[Any]) -> Promotion:
    """Read a row."""
    values = dict(row._mapping)
    values["status"] = PromotionStatus(row.status)
    values["colour"] = Colour(row.colour) if row.colour else None
    return Promotion(**values)


def move(
    tx: Connection, made: Promotion, new: PromotionStatus, *, by: str = "", reason: str = "", **values: Any
) -> Promotion:
    """Move a promotion with its history. Raises Conflict for an illegal move."""
    check_move(f"promotion {made.id}", made.status, new)
    if new.final:
        values.setdefault("finished_at", moment(tx))
    records.note(tx, "promotion", made.id, made.run_id, made.status, new, by=by, reason=reason)
    return change(tx, made, status=new, **values)


def close(tx: Connection, made: Promotion, new: PromotionStatus, *, by: str, reason: str, status: Status) -> Promotion:
    """End a promotion that is not being carried out, with its stage; what it left is tidied up by a job."""
    made = move(tx, made, new, by=by, reason=reason, error=reason)
    queue.withdraw(tx, kind="promotion", ref=made.id)
    if made.begun:
        enqueue_retirement(tx, made, run_at=moment(tx))
    if made.stage_id is not None:
        cause = Cause.CANCELLED if status is Status.CANCELLED else Cause.FAILED
        finish_waiting(tx, made.stage_id, Outcome(status=status, cause=cause, reason=reason), by=by)
    return made


def cancel_waiting(tx: Connection, run_id: int, *, by: str, reason: str) -> None:
    """Cancel a run's promotions that wait for a decision or a turn; one that has begun ends by itself, safely."""
    still = promotions.c.status.in_([S.REQUESTED, S.APPROVED])
    for row in tx.execute(rows().where(promotions.c.run_id == run_id, still)).all():
        made = promotion(row)
        if made.status == S.REQUESTED or not made.begun:
            close(tx, made, S.CANCELLED, by=by, reason=reason, status=Status.CANCELLED)


def enqueue_retirement(tx: Connection, made: Promotion, *, run_at: float) -> None:
    """Let anybody remove, from `run_at` on, what is neither live nor warm in the promotion's environment."""
    queue.enqueue(tx, kind="retire", ref=made.id, lock=f"env:{made.environment_id}", run_at=run_at, priority=-1)


def bind(standing: Standing, release: Mapping[str, Any], policy: Mapping[str, Any]) -> str:
    """Return what an approval is bound to, as things stand."""
    return gates.binding(environment=standing.key, release=release, live=standing.live_promotion, policy=policy)


def decided(tx: Connection, made: Promotion) -> list[Decision]:
    """Return what was decided about a promotion."""
    query = select(decisions).where(decisions.c.promotion_id == made.id).order_by(decisions.c.at)
    return [
        Decision(
            person=row.person,
            verdict=row.verdict,
            comment=row.comment,
            at=row.at,
            counts=row.binding == made.binding,
        )
        for row in tx.execute(query)
    ]


def refusals(
    tx: Connection, standing: Standing, run: Run, release: Mapping[str, Any], policy: Mapping[str, Any]
) -> list[str]:
    """Return every requirement of the policy that does not hold now."""
    requires = dict(policy.get("requires") or {})
    earlier = [name for name in dict.fromkeys([requires.get("from"), policy.get("from")]) if name]
    passages = {name: _passages(tx, standing.application, name, run, release) for name in earlier}
    verified = any(one.get("verify") for one in [policy, *(one for found in passages.values() for one in found)])
    passed = {name: bool(found) for name, found in passages.items()}
    wrong = gates.unmet(requires, run, records.get_stages(tx, run.id), verified=verified, passed=passed)
    if window := gates.frozen(policy.get("freeze") or [], moment(tx)):
        until = datetime.datetime.fromtimestamp(window[0], datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        wrong.append(f"{standing.key} is frozen until {until}: {window[1]}")
    return wrong


def _passages(
    tx: Connection, application: str, name: str, run: Run, release: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Return the policies under which exactly these images were live in an environment, bake ended.

    It is this run that put them there, or the one whose successes it took over.
    """
    lineage = [run.id]
    while run.retry_of is not None:
        run = records.get_run(tx, run.retry_of)
        lineage.append(run.id)
    joined = promotions.join(places, promotions.c.environment_id == places.c.id)
    query = (
        select(promotions.c.release, promotions.c.policy)
        .select_from(joined)
        .where(places.c.application == application, places.c.name == name, promotions.c.run_id.in_(lineage))
        .where(promotions.c.phase == Phase.DONE, promotions.c.status.in_([S.LIVE, S.REPLACED]))
    )
    return [row.policy for row in tx.execute(query) if row.release["images"] == release["images"]]


def refuse_older(tx: Connection, standing: Standing, run_id: int) -> None:
    """Raise Conflict when a newer run is live than this one: only a rollback may go back."""
    if standing.live_promotion is None:
        return
    live = fetch(tx, standing.live_promotion)
    if live.kind == "deploy" and live.run_id is not None and live.run_id > run_id:
        raise Conflict(
            f"run {live.run_id} is live in {standing.key}, and run {run_id} is older",
            hint=f"`pipe rollback {standing.name}` goes back on purpose",
        )


def enqueue(tx: Connection, made: Promotion, *, scope: str, run_at: float | None = None) -> None:
    """Let somebody of `scope` carry the promotion out, one at a time per environment."""
    queue.enqueue(
        tx,
        kind="promotion",
        ref=made.id,
        run_id=made.run_id,
        scope=scope,
        lock=f"env:{made.environment_id}",
        run_at=run_at,
    )


def expiry(policy: Mapping[str, Any]) -> float:
    """Return how many seconds a decision may take."""
    return float((policy.get("approval") or {}).get("expires", 86400.0))


def rows() -> Any:
    """Return the query of all promotions."""
    return select(promotions)


def change(tx: Connection, made: Promotion, **values: Any) -> Promotion:
    """Write columns of a promotion that are not its status."""
    tx.execute(update(promotions).where(promotions.c.id == made.id).values(**values))
    return dataclasses.replace(made, **values)
