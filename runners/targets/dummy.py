"""A target without containers, for tests: the same names, addresses and promises, in a file that outlives a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.definition import Before
from pipeline.errors import StageFailed, Unavailable
from pipeline.faults import point
from pipeline.model import Colour
from runners.targets import Check, Instance, Place, Release, Server, docker_specs
from runners.targets.dummy_world import World, behaves


class DummyTarget:
    """Keeps releases in a `World`."""

    def __init__(self, path: Path) -> None:
        self.world = World(path)

    def prepare(self, place: Place, release: Release, secrets: Mapping[str, str]) -> None:
        """Make what both colours share: network, volumes, accessories until ready."""
        with self.world.changing() as world:
            for kind, names in (
                ("networks", [place.key]),
                ("accessories", [f"{place.key}.{a}" for a in release.accessories]),
            ):
                world[kind] += [name for name in names if name not in world[kind]]

    def pull(self, release: Release) -> None:
        """Bring every image here. Raises Unavailable(cause="image_pull")."""
        for image in release.images.values():
            if "missing" in image.partition("#")[2]:
                raise Unavailable(f"pulling the image {image}: not found", hint="push it first", cause="image_pull")

    def run_before(self, place: Place, release: Release, promotion: int, secrets: Mapping[str, str]) -> str:
        """Run the before-hook once for this promotion and return its output. Raises StageFailed."""
        before = Before.model_validate(release.before)
        key = f"{place.key}/{promotion}"
        with self.world.changing() as world:
            if key not in world["hooks"]:
                code = 1 if "hook-fails" in release.images[before.process] else 0
                world["hooks"][key] = {"code": code, "runs": 1}
                world["happened"].append(f"hook {key}")
            code = world["hooks"][key]["code"]
        point("target.hook_ran")
        if code:
            raise StageFailed(f"the before-hook `{before.run}` ended with {code}", hint="mend it", code=code)
        return f"ran {before.run}"

    def forget_before(self, place: Place, promotion: int) -> None:
        """Remove what the before-hook left, after its end was recorded; idempotent."""
        with self.world.changing() as world:
            world["hooks"].pop(f"{place.key}/{promotion}", None)

    def servers(self, place: Place, release: Release, colour: Colour) -> list[Server]:
        """Return where the replicas of this colour are or will be: fixed, known before they start."""
        return [
            Server(process=slot.process, replica=slot.replica, address=slot.address, port=slot.port)
            for slot in docker_specs.slots(place, release, colour)
            if slot.port
        ]

    def up(
        self, place: Place, release: Release, colour: Colour, promotion: int, epoch: int, secrets: Mapping[str, str]
    ) -> None:
        """Make this colour run exactly this release."""
        self._converge(place, release, colour, promotion, epoch, single=False)

    def stop_single(self, place: Place, release: Release, colour: Colour) -> None:
        """Stop the processes of a colour that must not run twice (`swap: stop_then_start`)."""
        singles = {name for name, process in docker_specs.processes(release).items() if process.swap != "blue_green"}
        self._remove(place, lambda c: c["colour"] == colour and c["process"] in singles)

    def start_single(
        self, place: Place, release: Release, colour: Colour, promotion: int, epoch: int, secrets: Mapping[str, str]
    ) -> None:
        """Start the processes of a colour that must not run twice."""
        self._converge(place, release, colour, promotion, epoch, single=True)

    def run_check(self, place: Place, check: Check, on_output: Callable[[bytes], None]) -> int | None:
        """Run commands inside the environment's network and return the exit code, None when time was up."""
        on_output("\n".join(check.commands).encode() + b"\n")
        return {"exit 1": 1, "sleep": None}.get(check.commands[-1], 0)

    def observe(self, place: Place) -> list[Instance]:
        """Return everything of this environment that exists, whatever made it."""
        return [
            Instance(
                process=c["process"],
                replica=c["replica"],
                colour=Colour(c["colour"]),
                promotion=c["promotion"],
                state=c["state"],
                restarts=c["restarts"],
                address=c["address"],
                epoch=c["epoch"],
                config_hash=c["config"],
            )
            for c in self._of(self.world.now(), place).values()
        ]

    def logs(self, place: Place, colour: Colour, *, lines: int) -> str:
        """Return the last lines of this colour's containers, for a person who asks why."""
        mine = [c for c in self._of(self.world.now(), place).values() if c["colour"] == colour]
        return "\n".join(f"{c['process']} {c['replica']} ({c['state']}):\nstarted {c['image']}" for c in mine)

    def retire(self, place: Place, colour: Colour, *, grace_seconds: int) -> None:
        """Stop and remove a colour; idempotent. The caller has asked the router just before."""
        self._remove(place, lambda c: c["colour"] == colour)

    def clear(self, place: Place) -> None:
        """Remove everything of an environment in which nothing is live, except its volumes; idempotent."""
        self._remove(place, lambda c: True)
        with self.world.changing() as world:
            world["hooks"] = {k: v for k, v in world["hooks"].items() if not k.startswith(f"{place.key}/")}
            world["networks"] = [name for name in world["networks"] if name != place.key]
            world["accessories"] = [name for name in world["accessories"] if not name.startswith(f"{place.key}.")]

    def _of(self, world: dict[str, Any], place: Place) -> dict[str, dict[str, Any]]:
        return {name: c for name, c in world["containers"].items() if c["place"] == place.key}

    def _remove(self, place: Place, which: Callable[[dict[str, Any]], bool]) -> None:
        with self.world.changing() as world:
            for name, container in self._of(world, place).items():
                if which(container):
                    del world["containers"][name]
                    world["happened"].append(f"removed {name}")

    def _converge(
        self, place: Place, release: Release, colour: Colour, promotion: int, epoch: int, *, single: bool
    ) -> None:
        slots = [slot for slot in docker_specs.slots(place, release, colour) if slot.single is single]
        names = {(slot.process, slot.replica): slot for slot in slots}
        kinds = {name: process.swap != "blue_green" for name, process in docker_specs.processes(release).items()}

        def is_foreign(container: dict[str, Any]) -> bool:
            if container["colour"] != colour:
                return False
            if container["promotion"] != promotion:
                return True
            key = (container["process"], container["replica"])
            return kinds.get(container["process"]) is single and key not in names

        self._remove(place, is_foreign)
        for slot in slots:
            name = f"{docker_specs.prefix(place)}.{colour}.{slot.process}.{slot.replica}.{promotion}"
            container = {
                "place": place.key,
                "colour": str(colour),
                "process": slot.process,
                "replica": slot.replica,
                "promotion": promotion,
                "epoch": epoch,
                "config": release.config_hash,
                "address": slot.address,
                "port": slot.port,
                "image": release.images[slot.process],
                "state": "running",
                "restarts": 0,
            }
            if "no-such-command" in docker_specs.processes(release)[slot.process].command:
                raise StageFailed(f"{name} can not start: no such command", hint="name one that the image has")
            if behaves(container, "dies"):
                container |= {"state": "restarting", "restarts": 1}
            with self.world.changing() as world:
                if name not in world["containers"]:
                    world["containers"][name] = container
                    world["happened"].append(f"started {name}")
            point("target.started_one")
