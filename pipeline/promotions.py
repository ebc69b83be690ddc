"""The verbs of people at a promotion: request, approve, reject, look; and what must follow from each.

Each public verb is one transaction. The verbs of the worker that carries a promotion out are `swaps`, going back is
`rollbacks`; what an approval is bound to and what a policy asks for is `gates`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline import environments, gates, records
from pipeline.db import inserted, moment
from pipeline.environments import Standing
from pipeline.errors import Conflict, NotAllowed
from pipeline.model import PromotionStatus, Run, Status
from pipeline.promotion_records import (
    Decision,
    Promotion,
    bind,
    change,
    close,
    decided,
    enqueue,
    expiry,
    fetch,
    move,
    promotion,
    refusals,
    refuse_older,
    rows,
)
from pipeline.schema import decisions, promotions

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.db import Database

__all__ = ["Decision", "Promotion"]

S = PromotionStatus
STAGE_WAKES_SECONDS = 10.0  # the end of the stage's attempt wakes its promotion; this is for an attempt that died


def request(
    db: Database,
    standing: Standing,
    run: Run,
    *,
    release: Mapping[str, Any],
    policy: Mapping[str, Any],
    by: str,
    stage_id: int | None = None,
    scope: str = "",
) -> Promotion:
    """Ask for a release to be put live; a stage that asks again gets its promotion back.

    Without an approval before the start it is approved at once. Raises NotAllowed naming every requirement that
    does not hold, and Conflict for an environment that needs attention or an older run than what is live.
    """
    with db.write() as tx:
        if stage_id is not None and (row := tx.execute(rows().where(promotions.c.stage_id == stage_id)).first()):
            return promotion(row)
        standing = environments.by_id(tx, standing.id)
        _refuse(tx, standing, run, release, policy)
        approval = policy.get("approval") or {}
        waits = bool(approval) and approval.get("gate", "before_start") == "before_start"
        values = {
            "environment_id": standing.id,
            "kind": "deploy",
            "status": S.REQUESTED,
            "run_id": run.id,
            "stage_id": stage_id,
            "release": dict(release),
            "binding": bind(standing, release, policy),
            "policy": {**policy, "scope": scope},
            "evidence": {},
            "requested_by": by,
            "requested_at": moment(tx),
            "expires_at": moment(tx) + expiry(policy) if waits else None,
        }
        made = fetch(tx, inserted(tx, promotions, values))
        records.note(tx, "promotion", made.id, run.id, "", S.REQUESTED, by=by, reason=f"to {standing.key}")
        if waits:
            enqueue(tx, made, scope="", run_at=made.expires_at)
            return made
        made = move(tx, made, S.APPROVED, by="policy", reason="no approval is asked for before the start")
        after = moment(tx) + STAGE_WAKES_SECONDS if stage_id is not None else None
        enqueue(tx, made, scope=scope, run_at=after)
        return made


def approve(
    db: Database,
    promotion_id: int,
    *,
    person: str,
    comment: str = "",
    via: str = "terminal",
    scope: str | None = None,
    has_role: Callable[[str, str], bool] = lambda person, role: True,
) -> Promotion:
    """Decide for a promotion; with enough decisions it starts. `scope`: who shall carry it out (default: its run).

    Raises Conflict when it does not wait, NotAllowed for one's own promotion or a role that one has not.
    """
    with db.write() as tx:
        made, standing = _waiting(tx, promotion_id)
        approval = made.policy.get("approval") or {}
        if made.binding != bind(standing, made.release, made.policy):
            made = change(tx, made, binding=bind(standing, made.release, made.policy))
        if not approval.get("self_approval") and person in _own(tx, made):
            raise NotAllowed(
                f"{person} asked for promotion {made.id} and can not approve it",
                hint="somebody else must; or the operator sets `self_approval: true` in environments.yml",
            )
        rules = approval.get("rules") or [{"role": "release-manager"}]
        if not any(has_role(person, str(rule["role"])) for rule in rules):
            roles = ", ".join(str(rule["role"]) for rule in rules)
            raise NotAllowed(f"{person} has none of the roles that decide: {roles}", hint="ask one who has")
        _decide(tx, made, person, "approve", comment, via)
        people = [d.person for d in decided(tx, made) if d.counts and d.verdict == "approve"]
        enough, still = gates.approved(approval, people, has_role)
        records.note(
            tx,
            "promotion",
            made.id,
            made.run_id,
            made.status,
            "approval",
            by=person,
            reason=comment or f"still: {still}",
        )
        if not enough:
            return made
        made = move(tx, made, S.APPROVED, by=person, reason=comment)
        _supersede_waiting(tx, made)
        enqueue(tx, made, scope=str(made.policy.get("scope", "")) if scope is None else scope)
        return made


def reject(db: Database, promotion_id: int, *, person: str, reason: str, via: str = "terminal") -> Promotion:
    """Decide against a promotion, which ends it. Raises NotAllowed without a reason, Conflict when it does not wait."""
    if not reason.strip():
        raise NotAllowed("a rejection needs a reason", hint="say it with -m")
    with db.write() as tx:
        made, _ = _waiting(tx, promotion_id)
        _decide(tx, made, person, "reject", reason, via)
        return close(tx, made, S.REJECTED, by=person, reason=f"rejected by {person}: {reason}", status=Status.FAILED)


def expire(db: Database) -> list[Promotion]:
    """End what has waited too long for a decision: expired is never approved."""
    with db.write() as tx:
        late = (promotions.c.status == S.REQUESTED) & (promotions.c.expires_at <= moment(tx))
        return [_expire(tx, promotion(row)) for row in tx.execute(rows().where(late)).all()]


def _expire(tx: Connection, made: Promotion) -> Promotion:
    return close(
        tx,
        made,
        S.EXPIRED,
        by="clock",
        reason="nobody decided in time; ask again with `pipe retry`",
        status=Status.FAILED,
    )


def get(db: Database, promotion_id: int) -> Promotion:
    """Return a promotion. Raises NotFound."""
    with db.read() as connection:
        return fetch(connection, promotion_id)


def listing(
    db: Database,
    *,
    environment_id: int | None = None,
    run_id: int | None = None,
    waiting: bool = False,
    limit: int = 50,
) -> list[Promotion]:
    """Return promotions, the newest first; `waiting` for those that need a decision."""
    query = rows().order_by(promotions.c.id.desc()).limit(limit)
    if environment_id is not None:
        query = query.where(promotions.c.environment_id == environment_id)
    if run_id is not None:
        query = query.where(promotions.c.run_id == run_id)
    if waiting:
        query = query.where(promotions.c.status == S.REQUESTED)
    with db.read() as connection:
        return [promotion(row) for row in connection.execute(query)]


def deciders(db: Database, made: Promotion) -> list[Decision]:
    """Return what was decided about a promotion."""
    with db.read() as connection:
        return decided(connection, made)


def needed(db: Database, made: Promotion, *, has_role: Callable[[str, str], bool] = lambda p, r: True) -> str:
    """Return who must still decide, like `1 of release-manager`; empty when nobody must."""
    people = [d.person for d in deciders(db, made) if d.counts and d.verdict == "approve"]
    return gates.approved(made.policy.get("approval"), people, has_role)[1]


def _refuse(
    tx: Connection, standing: Standing, run: Run, release: Mapping[str, Any], policy: Mapping[str, Any]
) -> None:
    if standing.paused:
        raise Conflict(
            f"{standing.key} needs attention before anything is promoted to it",
            hint=f"`pipe env {standing.name}` tells what happened; a rollback, or `--resume` there, opens it again",
        )
    refuse_older(tx, standing, run.id)
    if wrong := refusals(tx, standing, run, release, policy):
        raise NotAllowed(
            f"{standing.key} refuses run {run.id}: " + "; ".join(wrong),
            hint="the operator's environments.yml asks for it",
        )


def _waiting(tx: Connection, promotion_id: int) -> tuple[Promotion, Standing]:
    made = fetch(tx, promotion_id)
    if made.status == S.REQUESTED and made.expires_at is not None and made.expires_at <= moment(tx):
        raise Conflict(f"promotion {made.id} has expired", hint="ask again with `pipe retry`")
    if made.status != S.REQUESTED:
        raise Conflict(
            f"promotion {made.id} is {made.status} and waits for no decision", hint="`pipe env` tells what is where"
        )
    return made, environments.by_id(tx, made.environment_id)


def _own(tx: Connection, made: Promotion) -> set[str]:
    run = records.get_run(tx, made.run_id) if made.run_id is not None else None
    return {made.requested_by, *((run.event.by, run.event.author) if run else ())} - {""}


def _decide(tx: Connection, made: Promotion, person: str, verdict: str, comment: str, via: str) -> None:
    mine = (decisions.c.promotion_id == made.id) & (decisions.c.person == person)
    values = {"verdict": verdict, "comment": comment, "binding": made.binding, "via": via, "at": moment(tx)}
    if tx.execute(decisions.update().where(mine).values(**values)).rowcount == 0:
        tx.execute(decisions.insert().values(promotion_id=made.id, person=person, **values))


def _supersede_waiting(tx: Connection, made: Promotion) -> None:
    """A newer run was approved: what older runs still ask for here is out of date."""
    older = (promotions.c.run_id < made.run_id) & (promotions.c.status == S.REQUESTED)
    mine = promotions.c.environment_id == made.environment_id
    for row in tx.execute(rows().where(mine, older)).all():
        reason = f"superseded by run {made.run_id}"
        close(tx, promotion(row), S.SUPERSEDED, by="queue", reason=reason, status=Status.CANCELLED)
