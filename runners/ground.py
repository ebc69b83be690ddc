"""Where an environment lives: its target and router, and its place and route in them, made from the record.

The only spot that knows which kinds of target there are. Which networks and ports of this host are taken is
read here too, for `pipeline.environments`, which gives out what is free.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import environments
from pipeline.environments import Standing
from pipeline.errors import DefinitionError
from runners.routers import Pointing, Route, Router, ports
from runners.targets import Place, Target

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.settings import Settings
    from runners.hands import Hands


@dataclass(frozen=True, kw_only=True)
class Ground:
    """One environment, ready to be worked on."""

    standing: Standing
    place: Place
    route: Route
    target: Target
    router: Router


def of(hands: Hands, standing: Standing) -> Ground:
    """Return the ground of an environment. Raises DefinitionError for a kind of target that is not there yet."""
    target, router = _kinds(hands, standing)
    return Ground(
        standing=standing,
        target=target,
        router=router,
        place=Place(
            environment_id=standing.id,
            application=standing.application,
            name=standing.name,
            installation=hands.db.installation,
            subnet=standing.subnet,
        ),
        route=route_of(standing),
    )


def route_of(standing: Standing) -> Route:
    """Return an environment as its router sees it."""
    host = str((standing.spec.get("public") or {}).get("host") or "")
    return Route(
        key=standing.key,
        port=0 if host else standing.port,
        host=host,
        preview_port=standing.preview_port,
        gateway=str(ipaddress.ip_network(standing.subnet)[1]),
    )


def looked_at(settings: Settings, standing: Standing) -> Pointing | None:
    """Return where the traffic of an environment goes now, or None for a target whose router is not on this machine."""
    if _wanted(standing).keys() != {"docker"} or not standing.subnet:
        return None
    from runners.routers import haproxy

    return haproxy.seen(settings.proxy, route_of(standing))


def ensure(db: Database, settings: Settings, application: str, name: str, spec: Mapping[str, Any]) -> Standing:
    """Return the record of an environment, with a subnet and ports that were free when they were given out."""
    address = settings.bind_address
    return environments.ensure(
        db,
        settings,
        application,
        name,
        spec,
        taken=taken_networks(),
        port_is_free=lambda port: ports.is_free(address, port) and ports.is_free("127.0.0.1", port),
    )


def taken_networks(table: Path = Path("/proc/net/route")) -> list[str]:
    """Return the networks that this host has routes to; Docker's are among them."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    found = []
    for row in rows:
        network, mask = (bytes.fromhex(row[column])[::-1] for column in (1, 7))
        if any(mask):
            found.append(f"{ipaddress.ip_address(network)}/{ipaddress.ip_address(mask)}")
    return found


def _wanted(standing: Standing) -> dict[str, str]:
    """Return the kind of target and where it is."""
    target = standing.spec.get("target") or {"docker": ""}
    return {kind: where for kind, where in target.items() if where is not None}


def _kinds(hands: Hands, standing: Standing) -> tuple[Target, Router]:
    wanted = _wanted(standing)
    if "dummy" in wanted:
        from runners.routers.dummy import DummyRouter
        from runners.targets.dummy import DummyTarget

        world = Path(str(wanted["dummy"]))
        return DummyTarget(world), DummyRouter(world)
    if "docker" not in wanted:
        raise DefinitionError(
            f"{standing.key} has the target `{', '.join(wanted)}`, which can not be promoted to yet",
            hint="`target: {docker: unix:///var/run/docker.sock}` is what this version swaps on",
        )
    from runners.routers.haproxy import HaproxyRouter
    from runners.targets.docker import DockerTarget

    engine = hands.engine
    if wanted["docker"] not in ("", hands.settings.engine_url):
        from runners.engines.docker import DockerEngine

        engine = DockerEngine(replace(hands.settings, engine_url=str(wanted["docker"])), hands.db.installation)
    router = HaproxyRouter(hands.settings, engine, hands.db.installation)
    return DockerTarget(engine, hands.db.installation), router
