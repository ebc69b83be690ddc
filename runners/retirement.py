"""Removing an old colour when its time has come: what is neither live nor warm in an environment goes.

Done by whatever comes by after the stored deadline, a worker or the next command. The router is asked just before,
in an epoch of its own; whatever does not agree is left alone, because only a promotion or a person may decide.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from pipeline import promotions, queue, swaps, turns
from pipeline.errors import LeaseLost, PipeError
from pipeline.faults import point
from pipeline.model import Colour
from runners import ground as grounds
from runners import mending, readiness, releases

if TYPE_CHECKING:
    from pipeline.queue import Lease
    from runners.hands import Hands

log = logging.getLogger(__name__)

LATER_SECONDS = 30.0


def do(hands: Hands, lease: Lease, stop: threading.Event) -> None:
    """Tidy the environment of the promotion that `lease` is about. Raises LeaseLost."""
    made = promotions.get(hands.db, lease.ref)
    standing = swaps.stands(lease, made)
    if mending.is_busy(hands, standing):
        return swaps.again(lease, hands.db.now() + LATER_SECONDS)
    ground = grounds.of(hands, standing)
    ground.router.wake()
    if standing.live_promotion is not None:
        ground = mending.mend(hands, lease, ground)
        standing = ground.standing
    seen = ground.router.look(ground.route)
    if not seen.alive:
        return swaps.again(lease, hands.db.now() + LATER_SECONDS)
    if not (standing.live_colour == seen.recorded == seen.running):
        log.warning("retirement.left_alone", extra={"environment": standing.key, "seen": str(seen)})
        return swaps.done(lease)
    if standing.live_colour is None:
        return _clear(lease, ground)
    old = standing.live_colour.other
    if standing.warm_promotion is None and not any(i.colour == old for i in ground.target.observe(ground.place)):
        return swaps.done(lease)
    if standing.warm_promotion and standing.warm_until is None:  # not baked, and stopped: a person decides what stays
        return swaps.again(lease, hands.db.now() + LATER_SECONDS)
    if standing.warm_promotion and standing.warm_until and standing.warm_until > hands.db.now():
        if made.drain_until and made.drain_until <= hands.db.now():
            ground.router.cut(ground.route, old)
        return swaps.again(lease, standing.warm_until)
    _retire(hands, lease, ground, old)
    return None


def _clear(lease: Lease, ground: grounds.Ground) -> None:
    ground.target.clear(ground.place)
    ground.router.remove(ground.route)
    swaps.done(lease)


def _retire(hands: Hands, lease: Lease, ground: grounds.Ground, old: Colour) -> None:
    epoch = swaps.take(lease, ground.standing.id)
    ground.router.take(ground.route, epoch)
    ground.router.forget_warm(ground.route, epoch=epoch)
    point("retire.forgotten")
    swaps.forget_warm(lease, ground.standing.id)
    ground.router.cut(ground.route, old)
    lease.check()
    grace = 10
    if ground.standing.warm_promotion:
        warm = promotions.get(hands.db, ground.standing.warm_promotion)
        grace = readiness.grace_seconds(releases.from_data(warm.release))
    ground.target.retire(ground.place, old, grace_seconds=grace)
    point("retire.removed")
    swaps.done(lease)


def catch_up(hands: Hands) -> int:
    """Do what has fallen due since somebody last came by: expired requests and old colours; return how many."""
    promotions.expire(hands.db)
    count = 0
    while lease := queue.claim(hands.db, owner=hands.name, kinds=("retire",)):
        try:
            do(hands, lease, threading.Event())
            count += 1
        except LeaseLost:
            continue
        except PipeError as error:
            log.warning("retirement.failed", extra={"promotion": lease.ref, "error": str(error)})
            swaps.again(lease, hands.db.now() + LATER_SECONDS)
    return count


def buried(hands: Hands, jobs: list[queue.Reaped]) -> None:
    """Stop the promotions among jobs whose workers were lost too often."""
    for job in jobs:
        if job.kind == "promotion" and job.status == "dead":
            turns.bury(hands.db, job)
