"""A router without a proxy, for tests: what is recorded and what runs are kept apart, and outlive a crash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import LeaseLost, NeedsAttention, Unavailable
from pipeline.faults import point as crash_point
from pipeline.model import Colour
from runners.routers import Backend, Pointing, Route, Traffic
from runners.targets.dummy_world import World, behaves, is_up


class DummyRouter:
    """Routes in a `World`."""

    def __init__(self, path: Path) -> None:
        self.world = World(path)

    def ensure(self, route: Route, colour: Colour, backend: Backend) -> None:
        """Make the proxy know this environment and the servers of one colour. Reloads only when something changed."""
        with self.world.changing() as world:
            world["alive"] = True
            nothing = {"epoch": 0, "recorded": {}, "running": {}, "backends": {}, "suspended": [], "reloads": 0}
            known = world["routes"].setdefault(route.key, nothing)
            servers = [f"{s.address}:{s.port}" for s in backend.servers]
            wanted = {"servers": servers, "health": [backend.health_path, backend.health_status]}
            if known["backends"].get(str(colour)) != wanted:
                known["backends"][str(colour)] = wanted
                known["reloads"] += 1

    def wake(self) -> None:
        """Make the router run again as recorded, when it does not; idempotent."""
        with self.world.changing() as world:
            if not world["alive"]:
                world["alive"] = True
                for known in world["routes"].values():
                    known["running"] = dict(known["recorded"])

    def suspend(self, route: Route, colour: Colour) -> None:
        """Stop checking a colour that is not live, before its servers are replaced: none of them counts as up."""
        with self.world.changing() as world:
            known = self._not_live(world, route, colour)
            known["suspended"] = sorted({*known["suspended"], str(colour)})

    def examine(self, route: Route, colour: Colour) -> None:
        """Check a suspended colour from now on; each server is down until its checks have passed."""
        with self.world.changing() as world:
            known = self._not_live(world, route, colour)
            known["suspended"] = [c for c in known["suspended"] if c != colour]

    def look(self, route: Route) -> Pointing:
        """Return where the traffic goes."""
        with self.world.changing() as world:
            known = world["routes"].get(route.key)
            if known is None:
                return Pointing(recorded=None, running=None, epoch=0, alive=world["alive"])
            self._fall_back(world, known)
            recorded, running = known["recorded"], known["running"] if world["alive"] else {}
        return Pointing(
            recorded=_colour(recorded.get("live")),
            running=_colour(running.get("live")),
            epoch=known["epoch"],
            alive=world["alive"],
            fell_back=bool(running) and running.get("live") != recorded.get("live") == running.get("fell"),
        )

    def take(self, route: Route, epoch: int) -> None:
        """Make `epoch` current: from now on older ones are refused."""
        with self.world.changing() as world:
            self._owned(world, route, epoch)["epoch"] = epoch

    def point(self, route: Route, colour: Colour, *, epoch: int, warm: Colour | None) -> None:
        """Send new requests to `colour`; `warm` may be fallen back to. Raises LeaseLost for an old epoch."""
        self._write(route, epoch, {"live": str(colour), "warm": str(warm) if warm else ""})

    def forget_warm(self, route: Route, *, epoch: int) -> None:
        """End the falling back: the old colour is about to be retired."""
        pointing = self.look(route)
        if pointing.recorded != pointing.running:
            raise NeedsAttention(f"{route.key} does not do what is recorded", hint="`pipe env` tells what is where")
        self._write(route, epoch, {"live": str(pointing.recorded) if pointing.recorded else "", "warm": ""})

    def traffic(self, route: Route, colour: Colour) -> Traffic:
        """Return what one colour is doing."""
        with self.world.changing() as world:
            if not world["alive"]:
                raise Unavailable("the dummy router does not answer", hint="wake it")
            known = world["routes"].get(route.key, {"backends": {}, "suspended": [], "running": {}})
            self._fall_back(world, known)
            mine = [
                c
                for c in world["containers"].values()
                if c["place"] == route.key and c["colour"] == colour and c["port"]
            ]
            requests, errors = known.get(f"requests.{colour}", 0), known.get(f"errors.{colour}", 0)
            if known["running"].get("live") == colour:
                requests += 100
                errors += 50 if any(behaves(c, "breaks") for c in mine) else 0
                known[f"requests.{colour}"], known[f"errors.{colour}"] = requests, errors
        servers = known["backends"].get(str(colour), {"servers": []})["servers"]
        checked = {} if str(colour) in known["suspended"] else {f"{c['address']}:{c['port']}": c for c in mine}
        return Traffic(
            up=frozenset(where for where in servers if where in checked and is_up(checked[where])),
            sessions=0,
            requests=requests,
            errors=errors,
            checks={where: _said(checked.get(where)) for where in servers},
        )

    def probe(self, route: Route) -> Colour | None:
        """Ask through the public port which colour answers; None when nothing does."""
        live = self.look(route).running
        return live if live and self.traffic(route, live).up else None

    def cut(self, route: Route, colour: Colour) -> int:
        """End what is still under way on a colour after its drain deadline; return how many."""
        return self.traffic(route, colour).sessions

    def urls(self, route: Route) -> tuple[str, str]:
        """Return the public URL and the preview URL."""
        return (f"dummy://{route.host or route.port}", f"dummy://{route.preview_port}")

    def remove(self, route: Route, colours: Sequence[Colour] = ()) -> None:
        """Forget colours of an environment, or all of it; idempotent."""
        with self.world.changing() as world:
            known = world["routes"].get(route.key, {"backends": {}})
            left = {c: b for c, b in known["backends"].items() if colours and c not in colours}
            if left:
                known["backends"] = left
            else:
                world["routes"].pop(route.key, None)

    def _owned(self, world: dict[str, Any], route: Route, epoch: int) -> dict[str, Any]:
        known: dict[str, Any] = world["routes"][route.key]
        if known["epoch"] > epoch:
            raise LeaseLost(f"{route.key} belongs to epoch {known['epoch']}, this is {epoch}")
        return known

    def _not_live(self, world: dict[str, Any], route: Route, colour: Colour) -> dict[str, Any]:
        known: dict[str, Any] = world["routes"][route.key]
        if known["running"].get("live") == colour:
            raise NeedsAttention(f"{colour} is live in {route.key}", hint="`pipe env` tells what is where")
        return known

    def _write(self, route: Route, epoch: int, wanted: dict[str, str]) -> None:
        with self.world.changing() as world:
            known = self._owned(world, route, epoch)
            known["recorded"], known["epoch"] = wanted, epoch
        crash_point("router.file")
        with self.world.changing() as world:
            if not world["alive"]:
                raise Unavailable("the dummy router does not answer", hint="wake it")
            world["routes"][route.key]["running"] = dict(wanted)
            world["happened"].append(f"pointed {route.key} to {wanted['live']}")
        crash_point("router.commit")

    def _fall_back(self, world: dict[str, Any], known: dict[str, Any]) -> None:
        """Do what the real proxy does by itself: go back to the warm colour when the live one has nothing usable."""
        running = known["running"]
        live, warm = running.get("live"), running.get("warm")
        if not warm or live == warm or not world["alive"]:
            return
        usable = {
            colour: [
                c
                for c in world["containers"].values()
                if c["colour"] == colour and f"{c['address']}:{c['port']}" in known["backends"][colour]["servers"]
                if is_up(c)
            ]
            for colour in (live, warm)
            if colour in known["backends"]
        }
        if not usable.get(live) and usable.get(warm):
            known["running"] = {"live": warm, "warm": warm, "fell": live}


def _colour(name: object) -> Colour | None:
    return Colour(str(name)) if name else None


def _said(container: dict[str, Any] | None) -> str:
    if container is None or container["state"] != "running":
        return "nothing answers at that port"
    return "status 200" if is_up(container) else "status 404"
