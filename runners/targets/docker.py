"""The target on one Docker host: containers in two colours on one network per environment, through the Engine.

What the containers are is worded in `docker_specs`; here is what exists, and in which order things come and go.
Whoever calls `retire` has asked the router just before; nothing here knows which colour is live.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pipeline.definition import Accessory, Before, Ready
from pipeline.errors import PipeError, StageFailed
from pipeline.model import Colour
from runners.engines import Container, ContainerSpec, Engine
from runners.targets import Check, Instance, Place, Release, Server, docker_specs
from runners.targets.docker_specs import labels, prefix
from runners.targets.secret_files import SecretFiles

_T = TypeVar("_T")
_TOGETHER = 4  # containers started or stopped at once
_HOOK_OUTPUT_BYTES = 65536


class DockerTarget:
    """Keeps releases alive on one Docker Engine."""

    def __init__(self, engine: Engine, installation: str) -> None:
        self._engine = engine
        self._secrets = SecretFiles(installation)

    def prepare(self, place: Place, release: Release, secrets: Mapping[str, str]) -> None:
        """Make what both colours share: network, volumes, accessories until ready."""
        self._engine.ensure_network(prefix(place), labels=labels(place, "network"), subnet=place.subnet)
        present = {c.labels["pipewright.accessory"]: c for c in self._engine.find(labels(place, "accessory"))}
        taken = {int(c.labels["pipewright.number"]) for c in present.values()}
        for name in sorted(release.accessories):
            there = present.get(name)
            free = next((n for n in docker_specs.ACCESSORIES if n not in taken), docker_specs.ACCESSORIES[-1])
            number = int(there.labels["pipewright.number"]) if there else free
            taken.add(number)
            self._accessory(place, name, release, number, there, secrets)

    def pull(self, release: Release) -> None:
        """Bring every image here. Raises Unavailable(cause="image_pull")."""
        accessories = {Accessory.model_validate(data).image for data in release.accessories.values()}
        for reference in sorted({*release.images.values(), *accessories}):
            if self._engine.image_id(reference) is None:
                self._engine.pull(reference)

    def run_before(self, place: Place, release: Release, promotion: int, secrets: Mapping[str, str]) -> str:
        """Run the before-hook once for this promotion and return its output. Raises StageFailed."""
        before = Before.model_validate(release.before)
        name = f"{prefix(place)}.before.{promotion}"
        found = self._engine.inspect(name)
        if found is None:
            uses = docker_specs.secret_uses(release, docker_specs.processes(release)[before.process].secrets)
            folder = self._put_secrets(place, f"before.{promotion}", uses, secrets)
            spec = docker_specs.before_spec(place, release, promotion, secrets=secrets, secret_folder=folder)
            self._engine.create(spec)
        if found is None or found.state == "created":
            self._engine.start(name)
        ended = self._engine.wait(name, timeout_seconds=before.timeout)
        if ended is None:
            self._engine.kill(name)
            self._engine.wait(name, timeout_seconds=10)
        output = self._tail(name)
        if ended is None or ended.code:
            how = f"took longer than {before.timeout:g} s" if ended is None else f"ended with {ended.code}"
            raise StageFailed(
                f"the before-hook `{before.run}` {how}:\n{output}".rstrip(),
                hint="the route was not touched; the command runs in the new image before the new colour starts",
                cause="timeout" if ended is None else "failed",
                code=ended.code if ended else None,
            )
        return output

    def forget_before(self, place: Place, promotion: int) -> None:
        """Remove what the before-hook left, after its end was recorded; idempotent."""
        for container in self._engine.find(labels(place, "before", promotion=promotion)):
            self._engine.remove(container.id)
        self._secrets.remove(place.key, f"before.{promotion}")

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
        self._converge(place, release, colour, promotion, epoch, secrets, single=False)

    def stop_single(self, place: Place, release: Release, colour: Colour) -> None:
        """Stop the processes of a colour that must not run twice (`swap: stop_then_start`)."""
        singles = {name for name, process in docker_specs.processes(release).items() if process.swap != "blue_green"}
        there = self._engine.find(labels(place, "app", colour=colour))
        self._end([c for c in there if c.labels["pipewright.process"] in singles])

    def start_single(
        self, place: Place, release: Release, colour: Colour, promotion: int, epoch: int, secrets: Mapping[str, str]
    ) -> None:
        """Start the processes of a colour that must not run twice."""
        self._converge(place, release, colour, promotion, epoch, secrets, single=True)

    def run_check(self, place: Place, check: Check, on_output: Callable[[bytes], None]) -> int | None:
        """Run commands inside the environment's network and return the exit code, None when time was up."""
        spec = docker_specs.check_spec(place, check)
        self._engine.remove(spec.name)
        try:
            self._engine.create(spec)
            self._engine.start(spec.name)
            ended = self._engine.wait(spec.name, timeout_seconds=check.timeout_seconds)
            if ended is None:
                self._engine.kill(spec.name)
            for _, chunk in self._engine.logs(spec.name):
                on_output(chunk)
            return ended.code if ended else None
        finally:
            self._engine.remove(spec.name)

    def observe(self, place: Place) -> list[Instance]:
        """Return everything of this environment that exists, whatever made it."""
        return [_instance(container) for container in self._engine.find(labels(place, "app"))]

    def logs(self, place: Place, colour: Colour, *, lines: int) -> str:
        """Return the last lines of this colour's containers, for a person who asks why."""
        parts = []
        for container in self._engine.find(labels(place, "app", colour=colour)):
            said = self._engine.tail(container.id, lines=lines).decode(errors="replace").rstrip()
            who = f"{container.labels['pipewright.process']} {container.labels['pipewright.replica']}"
            parts.append(
                f"{who} ({container.state}):\n{said}" if said else f"{who} ({container.state}) printed nothing"
            )
        return "\n".join(parts)

    def retire(self, place: Place, colour: Colour, *, grace_seconds: int) -> None:
        """Stop and remove a colour; idempotent. The caller has asked the router just before."""
        self._end(self._engine.find(labels(place, "app", colour=colour)), grace_seconds)
        self._secrets.remove(place.key, f"{colour}.")

    def clear(self, place: Place) -> None:
        """Remove everything of an environment in which nothing is live, except its volumes; idempotent."""
        self._end(self._engine.find({k: v for k, v in labels(place, "").items() if k != "pipewright.role"}), 10)
        self._engine.remove_network(prefix(place))
        self._secrets.remove(place.key)

    def _converge(
        self,
        place: Place,
        release: Release,
        colour: Colour,
        promotion: int,
        epoch: int,
        secrets: Mapping[str, str],
        *,
        single: bool,
    ) -> None:
        """Adopt what runs for this promotion, end what belongs to another one, start what is missing."""
        wanted = {
            (slot.process, str(slot.replica)): slot
            for slot in docker_specs.slots(place, release, colour)
            if slot.single is single
        }
        names = docker_specs.processes(release)
        foreign = []
        for container in self._engine.find(labels(place, "app", colour=colour)):
            process = container.labels["pipewright.process"]
            key = (process, container.labels["pipewright.replica"])
            mine = container.labels["pipewright.promotion"] == str(promotion)
            if mine and key in wanted and container.state in ("running", "restarting"):
                del wanted[key]
            elif not mine or key in wanted or process not in names:
                foreign.append(container)
        self._end(foreign)
        specs = []
        for slot in wanted.values():
            uses = docker_specs.secret_uses(release, names[slot.process].secrets)
            folder = self._put_secrets(place, f"{colour}.{promotion}.{slot.process}", uses, secrets)
            specs.append(
                docker_specs.replica_spec(
                    place,
                    release,
                    slot,
                    colour,
                    promotion=promotion,
                    epoch=epoch,
                    secrets=secrets,
                    secret_folder=folder,
                )
            )
        _together(self._begin, specs)

    def _begin(self, spec: ContainerSpec) -> None:
        self._engine.start(self._engine.create(spec))

    def _end(self, containers: Iterable[Container], grace_seconds: int | None = None) -> None:
        def end(container: Container) -> None:
            if container.state == "running":
                self._engine.stop(container.id, grace_seconds=10 if grace_seconds is None else grace_seconds)
            self._engine.remove(container.id)

        _together(end, list(containers))

    def _put_secrets(self, place: Place, owner: str, uses: Mapping[str, str], secrets: Mapping[str, str]) -> str:
        missing = sorted(set(uses) - set(secrets))
        if missing:
            raise StageFailed(
                f"{place.key} has no secret {', '.join(missing)}",
                hint=f"offer it under `secrets` of {place.name} in environments.yml, or do not ask for it",
            )
        values = {name: secrets[name] for name, how in uses.items() if how == "file"}
        return str(self._secrets.put(place.key, owner, values)) if values else ""

    def _accessory(
        self,
        place: Place,
        name: str,
        release: Release,
        number: int,
        there: Container | None,
        secrets: Mapping[str, str],
    ) -> None:
        data = release.accessories[name]
        accessory = Accessory.model_validate(data)
        uses = {use.name: use.as_ for use in accessory.secrets}
        folder = self._put_secrets(place, f"accessory.{name}", uses, secrets)
        spec = docker_specs.accessory_spec(place, name, data, number=number, secrets=secrets, secret_folder=folder)
        if there and there.labels["pipewright.config"] != spec.labels["pipewright.config"]:
            self._end([there], 30)  # changed by the author: made anew on the same volumes
        for volume, _ in docker_specs.volumes(name, accessory):
            self._engine.ensure_volume(f"{prefix(place)}.{volume}", labels=labels(place, "volume"))
        self._engine.start(self._engine.create(spec))
        if accessory.ready:
            self._await_ready(name, spec, accessory.ready)

    def _await_ready(self, name: str, spec: ContainerSpec, ready: Ready) -> None:
        give_up = time.monotonic() + ready.timeout
        while not self._is_ready(spec, ready):
            if time.monotonic() > give_up:
                raise StageFailed(
                    f"the accessory `{name}` is not ready after {ready.timeout:g} s; it said:\n{self._tail(spec.name)}",
                    hint="look at its `ready`, image and environment in `app.accessories`; its volume was kept",
                    cause="service",
                )
            time.sleep(min(ready.interval, 1.0))

    def _is_ready(self, spec: ContainerSpec, ready: Ready) -> bool:
        try:
            if ready.run:
                return self._engine.execute(spec.name, ("sh", "-c", ready.run))[0] == 0
        except PipeError:
            return False  # it is being started again
        port, _, path = (ready.http or f":{ready.port}").removeprefix(":").partition("/")
        return _answers(spec.address, int(port or 80), f"/{path}" if ready.http else "")

    def _tail(self, container: str) -> str:
        return self._engine.tail(container, lines=50)[-_HOOK_OUTPUT_BYTES:].decode(errors="replace").strip()


def _answers(address: str, port: int, path: str) -> bool:
    try:
        if not path:
            with socket.create_connection((address, port), timeout=2):
                return True
        connection = http.client.HTTPConnection(address, port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status < 400
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def _instance(container: Container) -> Instance:
    label = {key.removeprefix("pipewright."): value for key, value in container.labels.items()}
    return Instance(
        process=label["process"],
        replica=int(label["replica"]),
        colour=Colour(label["colour"]),
        promotion=int(label["promotion"]),
        state=container.state,
        restarts=container.restarts,
        exit_code=container.exit.code if container.exit else None,
        address=label.get("address", ""),
        epoch=int(label.get("epoch", 0)),
        config_hash=label.get("config", ""),
    )


def _together(act: Callable[[_T], None], items: list[_T]) -> None:
    if len(items) < 2:
        for item in items:
            act(item)
        return
    with ThreadPoolExecutor(_TOGETHER) as pool:
        for done in [pool.submit(act, item) for item in items]:
            done.result()
