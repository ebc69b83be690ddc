"""Bring back what should be live and is not: after a reboot of the host, a removed container, a proxy that fell back.

Looked for when a worker begins; done under the environment's lock like everything else. Only what the record says
is live is started again, as it was; who gets the traffic is not changed here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipeline import environments, promotions, queue, runs, swaps
from pipeline.environments import Standing
from pipeline.errors import PipeError
from pipeline.model import Phase, PromotionStatus
from runners import ground as grounds
from runners import releases

if TYPE_CHECKING:
    from pipeline.queue import Lease
    from runners.ground import Ground
    from runners.hands import Hands
    from runners.targets import Release

log = logging.getLogger(__name__)


def look_after(hands: Hands) -> int:
    """Give a job to every environment whose live release is not whole or not routed; return how many."""
    count = 0
    for standing in environments.listing(hands.db):
        if standing.live_promotion is None or standing.paused or is_busy(hands, standing):
            continue
        try:
            ground = grounds.of(hands, standing)
            seen = ground.router.look(ground.route)
            fine = seen.recorded == seen.running == standing.live_colour and not missing(hands, ground)
        except PipeError as error:
            log.warning("mending.not_seen", extra={"environment": standing.key, "error": str(error)})
            continue
        if not fine:
            count += 1
            with hands.db.write() as tx:
                lock = f"env:{standing.id}"
                queue.enqueue(tx, kind="retire", ref=standing.live_promotion, lock=lock, priority=-1)
    return count


def is_busy(hands: Hands, standing: Standing) -> bool:
    """Tell whether a promotion has begun here: the colour that is not live may be its."""
    found = promotions.listing(hands.db, environment_id=standing.id, limit=20)
    at_gate = (PromotionStatus.REQUESTED, PromotionStatus.APPROVED)
    return any(p.status == PromotionStatus.DEPLOYING or (p.status in at_gate and p.phase == Phase.GATE) for p in found)


def missing(hands: Hands, ground: Ground) -> bool:
    """Tell whether a replica of the live release does not run."""
    made, release = _live(hands, ground)
    running = {
        (i.process, i.replica)
        for i in ground.target.observe(ground.place)
        if i.colour == made.colour and i.promotion == made.carrier and i.state == "running"
    }
    return not expected(release) <= running


def expected(release: Release) -> set[tuple[str, int]]:
    """Return every replica of a release: from the definition, never from what runs."""
    from runners.targets.docker_specs import processes

    return {(name, n) for name, one in processes(release).items() for n in range(1, one.replicas + 1)}


def mend(hands: Hands, lease: Lease, ground: Ground) -> Ground:
    """Record what the proxy did by itself, and start again what is missing; return the ground as it stands then."""
    seen = ground.router.look(ground.route)
    if seen.fell_back and seen.running is not None:
        ground = _record_fall_back(hands, lease, ground)
    if ground.standing.live_promotion is not None and missing(hands, ground):
        made, release = _live(hands, ground)
        assert made.colour is not None
        log.warning("mending.starts_again", extra={"environment": ground.standing.key, "colour": made.colour})
        names = releases.secret_names(release)
        secrets = hands.secrets(runs.get(hands.db, made.run_id), names) if names and made.run_id is not None else {}
        epoch = swaps.take(lease, ground.standing.id)
        ground.router.take(ground.route, epoch)
        lease.check()
        ground.target.prepare(ground.place, release, secrets)
        ground.target.up(ground.place, release, made.colour, made.carrier, epoch, secrets)
        ground.target.start_single(ground.place, release, made.colour, made.carrier, epoch, secrets)
    return ground


def _record_fall_back(hands: Hands, lease: Lease, ground: Ground) -> Ground:
    seen = ground.router.look(ground.route)
    made, _ = _live(hands, ground)
    assert seen.running is not None
    reason = f"the proxy went back to {seen.running} by itself: {seen.running.other} had no usable server"
    log.error("incident.fell_back", extra={"environment": ground.standing.key, "reason": reason})
    epoch = swaps.take(lease, ground.standing.id)
    ground.router.take(ground.route, epoch)
    if swaps.fell_back(lease, made, reason=reason):
        ground.router.point(ground.route, seen.running, epoch=epoch, warm=None)
    return grounds.of(hands, swaps.stands(lease, made))


def _live(hands: Hands, ground: Ground) -> tuple[promotions.Promotion, Release]:
    assert ground.standing.live_promotion is not None
    made = promotions.get(hands.db, ground.standing.live_promotion)
    return made, releases.from_data(made.release)
