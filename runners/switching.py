"""From the switch on: point the router, watch the new colour, and go back by the same way when it is no good.

An answer that is ambiguous is never compensated: the router is looked at, and the table of what its file and its
running map say decides. A rollback that fails stops and calls a person.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline import promotions, swaps
from pipeline.errors import NeedsAttention, StageFailed, Unavailable
from pipeline.faults import point
from pipeline.model import Cause, Colour, Outcome, Phase, PromotionStatus, Status
from runners import readiness, releases
from runners.routers import Pointing, Traffic

if TYPE_CHECKING:
    from pipeline.promotions import Promotion
    from runners.promotion import Swap

WATCH_SECONDS = 0.25  # how often a bake looks
UNWELL_SECONDS = 2.0  # how long a replica may be down during the bake
ERRORS_AT_LEAST = 3  # one failed answer of two is no verdict
UNSEEN_SECONDS = 60.0  # how long a proxy or engine may be away during the bake
PROBE_SECONDS = 5.0
TRIES = 3
UNTOUCHED = "the route stays where it was"


class Switch:
    """The second half of a promotion."""

    def __init__(self, swap: Swap) -> None:
        self.swap = swap
        self.colour = swaps.colour_of(swap.made)
        self.router, self.route, self.target = swap.router, swap.route, swap.target
        self.telling = swap.telling

    def go_on(self) -> None:
        """Switch, bake and finish; or go on where another worker stopped."""
        phase = self.swap.made.phase
        if phase == Phase.ROLLING_BACK:
            self._roll_back(self.swap.made.error or "its worker was lost while it went back")
        elif phase == Phase.BAKING:
            self.router.wake()
            self.router.take(self.route, self.swap.made.epoch)
            self._bake_and_end()
        elif self._switch(recovering=phase == Phase.SWITCHING):
            self._bake_and_end()

    def _bake_and_end(self) -> None:
        breach = self._bake()
        if breach is None:
            self._finish()
            return
        if not self.swap.strategy.get("auto_rollback", True):
            raise NeedsAttention(
                f"{self.colour} in {self.swap.place.key} breached its bake: {breach}",
                hint=f"`auto_rollback` is off: `pipe rollback {self.swap.standing.name}` goes back",
            )
        self._roll_back(breach)

    # --- the switch -------------------------------------------------------------------------------------------------

    def _switch(self, *, recovering: bool) -> bool:
        """Return whether the new colour answers; if not, the promotion has been ended."""
        swap, began = self.swap, time.monotonic()
        if not recovering:
            if unmet := swaps.check(swap.lease, swap.made, swap.standing):
                raise StageFailed(f"{swap.place.key} refuses the swap now: {'; '.join(unmet)}", hint=UNTOUCHED)
            if not readiness.is_ready(swap, self.colour):
                raise StageFailed(f"{self.colour} is no longer ready just before the swap", hint=UNTOUCHED)
        intent = {"from": swap.standing.live_colour, "to": self.colour, "epoch": swap.made.epoch}
        with swap.step(Phase.SWITCHING, intent, closing=True) as step:
            self._point(fresh=not recovering)
            wrong = self._goes_wrong()
        if wrong:
            self._roll_back(wrong)
            return False
        bake = 0.0 if swap.made.carrier != swap.made.id else float(swap.strategy.get("bake", 10.0))
        drain = float(swap.strategy.get("drain", 30.0))
        seen = {"colour": self.colour, "seconds": round(time.monotonic() - began, 3)}
        swap.made = swaps.switched(swap.lease, swap.made, step, seen, bake=bake, drain=drain)
        point("promotion.switching.observed")
        public, preview = self.router.urls(self.route)
        took = f"{time.monotonic() - began:.2f} s"
        self.telling.say(f"{self.colour} is live at {public} ({took}); the other colour is at {preview}")
        return True

    def _goes_wrong(self) -> str:
        """Complete the new colour, to which the route leads by now, and ask it; return why it is no good, or ""."""
        try:
            self._singles(forward=True)
        except StageFailed as error:
            return error.message
        if self._probe(self.colour):
            return ""
        return f"{self.colour} did not answer through the public port {PROBE_SECONDS:g} s after the switch"

    def _point(self, *, fresh: bool) -> None:
        """Send everything to the new colour. What is ambiguous is looked at, and done again or left undone."""
        for attempt in range(TRIES):
            if not fresh or attempt:
                seen = self._look()
                if seen.running == seen.recorded == self.colour:
                    return
                self._may_point(seen)
            try:
                self.router.point(self.route, self.colour, epoch=self.swap.made.epoch, warm=self._old())
                return
            except Unavailable as error:
                if attempt == TRIES - 1:
                    raise NeedsAttention(
                        f"the router of {self.swap.place.key} could not be switched: {error.message}", hint=error.hint
                    ) from error

    def _may_point(self, seen: Pointing) -> None:
        """Decide by what the router's file and its running map say; the colour must still be good."""
        old = self.swap.standing.live_colour
        if seen.recorded not in (old, self.colour) or seen.running not in (old, self.colour, None):
            raise NeedsAttention(
                f"{self.swap.place.key}: the swap from {old} to {self.colour} was interrupted, and the router's file"
                f" says {seen.recorded}, the running router {seen.running}; nothing was touched",
                hint=f"look with `pipe env {self.swap.standing.name}`",
            )
        if self._becomes_ready():
            return
        if old is None and seen.recorded == self.colour:
            raise NeedsAttention(
                f"{self.colour} is live in {self.swap.place.key} and not ready, and there is no earlier release",
                hint="promote a release that works",
            )
        if old is not None and self.colour in (seen.recorded, seen.running):
            self.router.point(self.route, old, epoch=self.swap.made.epoch, warm=None)
        raise StageFailed(f"{self.colour} was no longer ready when the swap was taken up again", hint=UNTOUCHED)

    def _becomes_ready(self) -> bool:
        """A proxy that has just been started must check its servers first."""
        give_up = time.monotonic() + PROBE_SECONDS
        while not readiness.is_ready(self.swap, self.colour):
            if time.monotonic() > give_up:
                return False
            self.swap.pause(0.05)
        return True

    def _look(self) -> Pointing:
        self.router.wake()
        self.router.take(self.route, self.swap.made.epoch)
        return self.router.look(self.route)

    def _probe(self, colour: Colour) -> bool:
        if self.swap.public is None:
            return True
        give_up = time.monotonic() + PROBE_SECONDS
        while self.router.probe(self.route) != colour:
            if time.monotonic() > give_up:
                return False
            self.swap.pause(0.05)
        return True

    # --- the bake ---------------------------------------------------------------------------------------------------

    def _bake(self) -> str | None:
        """Watch the new colour; return what breached, or None after the whole time was *observed*, in this process."""
        swap = self.swap
        if swap.made.carrier != swap.made.id:
            return None
        length = float(swap.strategy.get("bake", 10.0))
        if length:
            self.telling.say(f"watching {self.colour} for {length:g} s")
        base = self._traffic(self.colour)
        watched = unwell = unseen = 0.0
        before = time.monotonic()
        while True:
            breach, well = self._verdict(base)
            now = time.monotonic()
            passed, before = now - before, now
            if breach:
                return breach
            watched += passed if well else 0.0
            unwell = unwell + passed if well is False else 0.0
            unseen = unseen + passed if well is None else 0.0
            if unwell > UNWELL_SECONDS:
                return f"not every replica of {self.colour} has been usable for {UNWELL_SECONDS:g} s"
            if unseen > UNSEEN_SECONDS:
                raise NeedsAttention(
                    f"{swap.place.key} can not be watched: its router or engine does not answer",
                    hint="`pipe doctor` looks at both; the new colour is live",
                )
            if well and watched >= length:
                return None
            point("promotion.baking.watched")
            swap.pause(min(WATCH_SECONDS, max(length - watched, 0.01)))

    def _verdict(self, base: Traffic) -> tuple[str | None, bool | None]:
        """Return what is so bad that the route must go back now, and whether all is well; None when nothing is seen."""
        swap = self.swap
        try:
            there = self.target.observe(swap.place)
            mine = [i for i in there if i.colour == self.colour and i.promotion == swap.made.id]
            if crashed := [f"{i.process} {i.replica}" for i in mine if i.restarts]:
                return f"{', '.join(crashed)} ended and was started again", False
            seen = self.router.look(self.route)
            if not seen.alive:
                self.router.wake()  # its outage is reported by whoever watches it; the release is not to blame
                return None, None
            if seen.fell_back and seen.running == self.colour.other:
                return f"{self.colour} had no usable server; the proxy went back to {seen.running} by itself", False
            now = self.router.traffic(self.route, self.colour)
        except Unavailable:
            return None, None
        requests, errors = now.requests - base.requests, now.errors - base.errors
        if requests < 0 or errors < 0:  # the proxy counts anew
            requests, errors = now.requests, now.errors
        most = float(swap.strategy.get("max_error_rate", 0.05))
        if errors >= ERRORS_AT_LEAST and errors > most * requests:
            return f"{errors} of {requests} answers of {self.colour} were errors, more than {most:.0%}", False
        return None, now.up == readiness.wanted(swap, self.colour)

    def _traffic(self, colour: Colour) -> Traffic:
        try:
            return self.router.traffic(self.route, colour)
        except Unavailable:
            return Traffic(up=frozenset(), sessions=0, requests=0, errors=0)

    def _finish(self) -> None:
        swap = self.swap
        public, preview = self.router.urls(self.route)
        old = self.colour.other if self._before() is not None else None
        draining = old is not None and self._traffic(old).sessions > 0
        keep = float(swap.strategy.get("keep_old", 1800.0))
        result = {
            "environment": swap.standing.name,
            "promotion": swap.made.id,
            "colour": str(self.colour),
            "url": public,
            "preview": preview,
            "images": dict(swap.release.images),
            "draining": draining,
        }
        outcome = Outcome(status=Status.SUCCEEDED, result=result)
        point("promotion.done.intent")
        swap.made = swaps.finish(swap.lease, swap.made, outcome, keep_old=keep, reason=swap.made.reason)
        warm = f"; {old} stays warm for {keep / 60:g} min: `pipe rollback {swap.standing.name}`" if old else ""
        self.telling.say(f"done: {swap.place.key} answers from {self.colour}{warm}")
        point("promotion.done.observed")

    # --- back -------------------------------------------------------------------------------------------------------

    def _roll_back(self, reason: str) -> None:
        """Go back by the same way; the colour that was live must be whole, and is never started anew here."""
        swap = self.swap
        before = self._before()
        if before is None:
            raise NeedsAttention(
                f"{self.colour} is live in {swap.place.key} and is no good, and there is no earlier release: {reason}",
                hint="promote a release that works",
            )
        old, release = swaps.colour_of(before), releases.from_data(before.release)
        self.telling.say(f"going back to {old}: {reason}")
        with swap.step(Phase.ROLLING_BACK, {"from": self.colour, "to": old, "reason": reason}, closing=True) as step:
            swap.made = swaps.note(swap.lease, swap.made, error=reason)
            try:
                self._look()
                self._whole(release, old)
                self.router.point(self.route, old, epoch=swap.made.epoch, warm=None)
                self._singles(forward=False)
                answered = self._probe(old)
            except (Unavailable, StageFailed) as error:
                what = f"the rollback of {swap.place.key} failed: {error.message} ({reason})"
                raise NeedsAttention(what, hint=error.hint) from error
        if not answered:
            what = f"{old} does not answer after the rollback of {swap.place.key} ({reason})"
            raise NeedsAttention(what, hint="look at both colours")
        swaps.went_back(swap.lease, swap.made, step, {"colour": old})
        point("promotion.rolling_back.observed")
        self.telling.say(self.target.logs(swap.place, self.colour, lines=readiness.LOG_LINES))
        self._remove_new()
        why = f"{swap.place.key} was rolled back to {old}: {reason}\n  the last lines of {self.colour} are in the log"
        outcome = Outcome(status=Status.FAILED, cause=Cause.FAILED, reason=why)
        self.telling.say(why)
        swaps.fail(swap.lease, swap.made, PromotionStatus.ROLLED_BACK, outcome)

    def _whole(self, release: object, old: Colour) -> None:
        give_up = time.monotonic() + PROBE_SECONDS
        while not self._traffic(old).up:
            if time.monotonic() > give_up:
                raise StageFailed(f"no replica of {old} is usable", hint="look at both colours: `docker ps`")
            self.swap.pause(0.05)

    def _remove_new(self) -> None:
        """Let what is under way on the new colour end, then remove it."""
        swap = self.swap
        give_up = time.monotonic() + float(swap.strategy.get("drain", 30.0))
        while self._traffic(self.colour).sessions and time.monotonic() < give_up:
            swap.pause(0.1)
        swap.not_live(self.colour)
        self.router.cut(self.route, self.colour)
        self.target.retire(swap.place, self.colour, grace_seconds=readiness.grace_seconds(swap.release))

    # --- who was live before ----------------------------------------------------------------------------------------

    def _before(self) -> Promotion | None:
        """Return what was live before this promotion, by the record."""
        standing = swaps.stands(self.swap.lease, self.swap.made)
        mine = standing.live_promotion == self.swap.made.id
        number = standing.warm_promotion if mine else standing.live_promotion
        return promotions.get(self.swap.hands.db, number) if number is not None else None

    def _old(self) -> Colour | None:
        """Return the colour that may be fallen back to: never one that a person went back from."""
        return None if self.swap.made.kind == "rollback" or self._before() is None else self.colour.other

    def _singles(self, *, forward: bool) -> None:
        """Move the processes that must not run twice: stop them there, then start them here."""
        swap, before = self.swap, self._before()
        mine = (swap.release, self.colour, swap.made.carrier)
        theirs = (releases.from_data(before.release), swaps.colour_of(before), before.carrier) if before else None
        leaving, coming = (theirs, mine) if forward else (mine, theirs)
        if leaving:
            self.target.stop_single(swap.place, leaving[0], leaving[1])
        if coming:
            release, colour, carrier = coming
            self.target.start_single(swap.place, release, colour, carrier, swap.made.epoch, swap.secrets)
