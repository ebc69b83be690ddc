"""The machine that puts a release live: every step up to the switch, and what is undone when one of them fails.

Each step is an intent that is committed, an effect that may be repeated, and an observation that is committed; a
worker that takes a promotion over does the unfinished step again. From the switch on it is `switching`. Nothing
here writes a row by itself: that is `pipeline.swaps` and `pipeline.turns`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import promotions, runs, swaps, turns
from pipeline.errors import LeaseLost, NeedsAttention, PipeError, StageFailed, Unavailable
from pipeline.faults import point
from pipeline.model import Cause, Colour, Outcome, Phase, PromotionStatus, Status
from runners import ground as grounds
from runners import readiness, releases, teller, workspace
from runners.routers import Backend
from runners.targets import Check

if TYPE_CHECKING:
    from pipeline.environments import Standing
    from pipeline.promotions import Promotion
    from pipeline.queue import Lease
    from runners.hands import Hands
    from runners.targets import Release, Server
    from runners.teller import Teller


class Cancelled(Exception):
    """The run is being cancelled, and nothing has been switched yet."""


class GateClosed(Exception):
    """Somebody must decide first: worker, lock and turn were given back."""


def do(hands: Hands, lease: Lease, stop: threading.Event) -> None:
    """Carry a promotion out, or go on with it. Raises LeaseLost when it has become another worker's."""
    begun = turns.begin(lease)
    if begun is None:
        return
    made, standing = begun
    release = releases.from_data(made.release)
    names = releases.secret_names(release)
    missing: PipeError | None = None
    secrets: Mapping[str, str] = {}
    try:
        if names and made.run_id is not None:
            secrets = hands.secrets(runs.get(hands.db, made.run_id), names)
    except PipeError as error:
        missing = error  # told in the log, and before anything starts; what is under way needs none to go on
    with teller.teller(hands, made, secrets.values()) as telling:
        Swap(hands, lease, stop, made, standing, release, secrets, telling).carry_out(missing)


class Swap:
    """One promotion under way, under one lease."""

    def __init__(
        self,
        hands: Hands,
        lease: Lease,
        stop: threading.Event,
        made: Promotion,
        standing: Standing,
        release: Release,
        secrets: Mapping[str, str],
        telling: Teller,
    ) -> None:
        self.hands, self.lease, self.stop = hands, lease, stop
        self.made, self.standing, self.release = made, standing, release
        self.secrets, self.telling = secrets, telling
        self.ground = grounds.of(hands, standing)
        self.target, self.router = self.ground.target, self.ground.router
        self.place, self.route = self.ground.place, self.ground.route
        self.public = releases.public_process(release, _public(standing))
        self.seen: dict[int, Mapping[str, Any]] = {}  # what a step wants to be recorded, by step
        self.strategy: Mapping[str, Any] = (made.policy.get("strategy") or {}).get("blue_green") or {}

    # --- the order --------------------------------------------------------------------------------------------------

    def carry_out(self, missing: PipeError | None = None) -> None:
        """Do every step that is left. What goes wrong before the switch is undone; afterwards the route goes back."""
        from runners.switching import Switch

        try:
            if self.made.phase not in (Phase.SWITCHING, Phase.BAKING, Phase.ROLLING_BACK):
                if missing is not None and self.made.carrier == self.made.id:
                    raise StageFailed(f"{self.place.key}: {missing.message}", hint=missing.hint)
                self._prepare()
            Switch(self).go_on()
        except GateClosed:
            self.telling.say("waits for a decision before the swap; the new colour can be looked at")
        except Cancelled:
            self._undo(
                PromotionStatus.CANCELLED, Outcome(status=Status.CANCELLED, cause=Cause.CANCELLED, reason="cancelled")
            )
        except NeedsAttention as error:
            self.attention(error)
        except StageFailed as error:
            outcome = Outcome(status=Status.FAILED, cause=error.cause, reason=str(error), exit_code=error.code)
            self._undo(PromotionStatus.FAILED, outcome)
        except Unavailable as error:
            self._undo(PromotionStatus.FAILED, Outcome(status=Status.ERRORED, cause=error.cause, reason=str(error)))
        except PipeError as error:
            self._undo(PromotionStatus.FAILED, Outcome(status=Status.ERRORED, cause=Cause.ERRORED, reason=str(error)))

    def _prepare(self) -> None:
        resumed_at_gate = self.made.phase == Phase.GATE
        self._lock()
        if self.made.carrier != self.made.id:
            if readiness.is_served(self):
                return  # the warm colour: only the route
            self.made = swaps.note(self.lease, self.made, evidence={})
            self._lock()
        self._pull()
        self._before_hook(resumed_at_gate)
        self._create()
        self._wait_ready()
        self._verify(resumed_at_gate)
        approval = self.made.policy.get("approval") or {}
        if approval.get("gate") == "before_swap" and not resumed_at_gate:
            with self.step(Phase.GATE, {}, closing=True) as step:
                self.made = swaps.wait_at_gate(self.lease, self.made, step, {})
            raise GateClosed

    # --- the steps --------------------------------------------------------------------------------------------------

    def _lock(self) -> None:
        """Take the route in this epoch, and see that record and reality agree about what is live."""
        with self.step(Phase.LOCKED, {"epoch": self.made.epoch}):
            self.router.wake()
            if self.standing.live_colour is None:
                for colour in Colour:  # both at once: from now on a switch needs no reload
                    self.router.ensure(self.route, colour, self.backend(self.release, colour))
            self.router.take(self.route, self.made.epoch)
            self._agree()
        live = self.standing.live_colour
        colour = live.other if live else Colour.BLUE
        if self.made.carrier != self.made.id and self.made.colour is not None:
            colour = self.made.colour
        self.made = swaps.note(self.lease, self.made, colour=colour)
        self.telling.say(f"{self.place.key}: {f'{live} is live' if live else 'nothing is live yet'}, {colour} is next")

    def _agree(self) -> None:
        """Compare record and router. The proxy's own going back is recorded; a contradiction stays as it is."""
        recorded, seen = self.standing.live_colour, self.router.look(self.route)
        if not seen.alive:
            raise Unavailable(
                f"the router of {self.place.key} does not answer", hint="`pipe doctor` looks at the proxy"
            )
        if seen.fell_back and seen.running is not None:
            reason = f"the proxy went back to {seen.running} by itself: {seen.running.other} had no usable server"
            if swaps.fell_back(self.lease, self.made, reason=reason):
                self.telling.say(f"incident: {reason}")
                self.router.point(self.route, seen.running, epoch=self.made.epoch, warm=None)
                self.standing = swaps.stands(self.lease, self.made)
                return
        if seen.recorded == recorded and seen.running != recorded and recorded is not None:
            foreign = seen.running
            if foreign is None or not self.router.traffic(self.route, foreign).up:
                self.router.point(self.route, recorded, epoch=self.made.epoch, warm=None)
                return
        if not (recorded == seen.recorded == seen.running):
            raise NeedsAttention(
                f"{self.place.key}: the record says {recorded or 'nothing'} is live, the router's file"
                f" {seen.recorded or 'nothing'}, the running router {seen.running or 'nothing'}; nothing was touched",
                hint=f"look with `pipe env {self.standing.name}`; `pipe rollback {self.standing.name}` decides for one",
            )

    def _pull(self) -> None:
        with self.step(Phase.PULLING, {"images": dict(self.release.images)}), self.telling.timed("images are here"):
            self.target.pull(self.release)
            self.target.prepare(self.place, self.release, self.secrets)

    def _before_hook(self, resumed_at_gate: bool) -> None:
        if self.release.before is None or self.made.kind == "rollback":
            return  # both colours run against the schema: going back must not need a migration
        if not self._has_done(Phase.BEFORE_HOOK):
            command = str(self.release.before["run"])
            with self.step(Phase.BEFORE_HOOK, {"run": command}) as step, self.telling.timed(f"before-hook `{command}`"):
                output = self.target.run_before(self.place, self.release, self.made.id, self.secrets)
                self.telling.feed(output.encode() + b"\n" if output else b"")
                self.seen[step] = {"output": output[-4000:]}
        self.target.forget_before(self.place, self.made.id)

    def _create(self) -> None:
        """Vacate the colour that is not live, unless it is this promotion's already, and fill it."""
        colour = swaps.colour_of(self.made)
        servers = self.target.servers(self.place, self.release, colour)
        intent = {"colour": colour, "addresses": [f"{s.address}:{s.port}" for s in servers], "epoch": self.made.epoch}
        within = max((one.health.timeout for one in readiness.processes(self.release)), default=60.0)
        with self.step(Phase.CREATING, intent), self.telling.timed(f"{colour} is created"):
            self.not_live(colour)
            if any(i.colour == colour and i.promotion != self.made.id for i in self.target.observe(self.place)):
                self._vacate(colour)
            self.router.ensure(self.route, colour, self.backend(self.release, colour))
            self.router.suspend(self.route, colour)
            self.target.up(self.place, self.release, colour, self.made.id, self.made.epoch, self.secrets)
            self.router.examine(self.route, colour)
        self.made = swaps.note(self.lease, self.made, ready_by=self.hands.db.now() + within)

    def _vacate(self, colour: Colour) -> None:
        """Remove what is left of the release before the live one, once nobody is served by it any more."""
        self.router.forget_warm(self.route, epoch=self.made.epoch)
        before = promotions.get(self.hands.db, self.standing.live_promotion) if self.standing.live_promotion else None
        until = before.drain_until if before and before.drain_until else 0.0
        while self.router.traffic(self.route, colour).sessions and self.hands.db.now() < until:
            self.pause(0.1)
        self.router.cut(self.route, colour)
        swaps.forget_warm(self.lease, self.standing.id)
        self.not_live(colour)
        self.target.retire(self.place, colour, grace_seconds=readiness.grace_seconds(self.release))

    def _wait_ready(self) -> None:
        """Ready means: the addresses of the new replicas are exactly the ones that the router finds up."""
        with (
            self.step(Phase.WAITING_READY, {"until": self.made.ready_by}),
            self.telling.timed("every replica is ready"),
        ):
            readiness.wait(self)

    def _verify(self, resumed_at_gate: bool) -> None:
        verify = self.made.policy.get("verify")
        if not verify or resumed_at_gate:
            return
        preview = f"http://{self.route.gateway}:{self.route.preview_port}"
        check = Check(
            promotion=self.made.id,
            image=str(verify["image"]),
            commands=tuple([verify["run"]] if isinstance(verify["run"], str) else verify["run"]),
            env={**(self.made.policy.get("env") or {}), "PREVIEW_URL": preview},
            workspace=str(self.made.policy.get("workspace") or ""),
            prefix=str(self.made.policy.get("prefix") or ""),
            timeout_seconds=float(verify.get("timeout", 600.0)),
        )
        with self.step(Phase.VERIFYING, {"preview": preview}), self.telling.timed("verified"):
            code = self.target.run_check(self.place, check, self.telling.feed)
            if code != 0:
                how = f"ended with {code}" if code is not None else f"took longer than {check.timeout_seconds:g} s"
                raise StageFailed(
                    f"verify {how} against {swaps.colour_of(self.made)}; the route was not touched",
                    hint=f"it ran in {check.image} with PREVIEW_URL={preview}; its output is above",
                    cause="failed" if code is not None else "timeout",
                    code=code,
                )

        self._drop_workspace()

    def _drop_workspace(self) -> None:
        """Remove what was only there for the verify; a gate may last for days."""
        if path := self.made.policy.get("workspace"):
            place, image = workspace.Workspace(path=Path(str(path))), self.hands.settings.base_image
            labels = {"pipewright.promotion": str(self.made.id)}
            self.hands.cleanup.later(lambda: workspace.remove(place, self.hands.engine, image=image, labels=labels))

    # --- shared with `switching` and `readiness` --------------------------------------------------------------------

    @contextmanager
    def step(self, phase: Phase, intent: Mapping[str, Any], *, closing: bool = False) -> Iterator[int]:
        """Commit the intent, let the effect happen, commit what was seen; `closing` effects commit by themselves."""
        self.go()
        self.made, number = swaps.intend(self.lease, self.made, phase, intent)
        point(f"promotion.{phase}.intent")
        yield number
        point(f"promotion.{phase}.effect")
        if not closing:
            self.made = swaps.observe(self.lease, self.made, number, self.seen.get(number, {}))
            point(f"promotion.{phase}.observed")

    def go(self) -> None:
        """Stop here when the lease is lost, or when the run is being cancelled and nothing is switched yet."""
        if self.stop.is_set():
            self.lease.check()
        switched = self.made.phase in (Phase.SWITCHING, Phase.BAKING, Phase.ROLLING_BACK)
        if not switched and swaps.is_cancelled(self.lease, self.made):
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Wait a little, and stop waiting when there is a reason to."""
        self.stop.wait(seconds)
        self.lease.check()
        self.go()

    def not_live(self, colour: Colour) -> None:
        """Ask the router once more who is live, just before a colour is torn down."""
        seen = self.router.look(self.route)
        if colour in (seen.recorded, seen.running):
            raise NeedsAttention(
                f"{colour} was about to be replaced in {self.place.key}, and the router says that it is live",
                hint=f"look with `pipe env {self.standing.name}`; nothing was touched",
            )

    def backend(self, release: Release, colour: Colour) -> Backend:
        """Return one colour as the router must know it: the public process only."""
        health = readiness.health(release, self.public)
        return Backend(
            servers=tuple(self.servers(release, colour)),
            health_path=health.http,
            health_status=health.status,
            health_interval_seconds=health.interval,
        )

    def servers(self, release: Release, colour: Colour) -> list[Server]:
        """Return the replicas of the public process."""
        return [s for s in self.target.servers(self.place, release, colour) if s.process == self.public]

    def _has_done(self, phase: Phase) -> bool:
        return any(s.phase == phase and s.done_at is not None for s in swaps.trail(self.hands.db, self.made.id))

    def _undo(self, status: PromotionStatus, outcome: Outcome) -> None:
        """Remove the new colour, after asking the router; what is live is not touched."""
        self.telling.say(outcome.reason)
        try:
            self.lease.check()
            if self.made.colour is not None:
                self.not_live(self.made.colour)
                self.target.retire(self.place, self.made.colour, grace_seconds=readiness.grace_seconds(self.release))
            self.target.forget_before(self.place, self.made.id)
            self._drop_workspace()
            if self.standing.live_colour is None:
                self.target.clear(self.place)
                self.router.remove(self.route)
        except LeaseLost:
            raise
        except PipeError as error:
            self.attention(error)
            return
        point("promotion.undone")
        swaps.fail(self.lease, self.made, status, outcome)

    def attention(self, error: PipeError) -> None:
        """Stop, touch nothing, and call a person."""
        self.telling.say(f"needs attention: {error}")
        outcome = Outcome(status=Status.ERRORED, cause=Cause.ERRORED, reason=str(error))
        swaps.fail(self.lease, self.made, PromotionStatus.NEEDS_ATTENTION, outcome)


def _public(standing: Standing) -> str | None:
    return (standing.spec.get("public") or {}).get("process")
