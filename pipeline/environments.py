"""The environments as they stand: what is live where, since when, by which run; and what each was given to live in.

Subnets and ports are given out once and recorded, so that addresses never change under a proxy. What exists on
the machine is the runners' to know: they say which networks and ports are taken.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from pipeline import records
from pipeline.db import inserted
from pipeline.errors import Conflict, NotFound, Unavailable
from pipeline.model import Colour
from pipeline.schema import environments

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from pipeline.db import Database
    from pipeline.policy import Environment
    from pipeline.settings import Settings

_PREFIX = 26  # addresses enough for 24 replicas in each colour, accessories and checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One environment of one application, as it stands."""

    id: int
    application: str
    name: str
    spec: Mapping[str, Any]  # policy.Environment as data, as last promoted
    subnet: str
    port: int  # public port of its own, or 0
    preview_port: int
    live_colour: Colour | None
    live_promotion: int | None
    live_since: float | None
    warm_promotion: int | None  # the release that a rollback reaches by the route alone
    warm_until: float | None
    epoch: int
    paused: bool  # record and reality contradicted each other: a person must look first

    @property
    def key(self) -> str:
        """Return `application.environment`."""
        return f"{self.application}.{self.name}"


def default() -> dict[str, Environment]:
    """Return the environments of a laptop on which nobody wrote any: both on the local engine, quick to promote."""
    from pipeline.policy import Environment

    quick = {"blue_green": {"drain": "5s", "keep_old": "30m", "bake": "3s"}}
    return {name: Environment.model_validate({"strategy": quick}) for name in ("test", "release")}


def get(db: Database, application: str, name: str) -> Standing:
    """Return an environment. Raises NotFound."""
    with db.read() as connection:
        row = _row(connection, application, name)
    if row is None:
        raise NotFound(f"there is no environment {application}/{name}", hint="`pipe env` lists those that exist")
    return standing(row)


def by_id(tx: Connection, environment_id: int) -> Standing:
    """Return an environment by its id. Raises NotFound."""
    row = tx.execute(select(environments).where(environments.c.id == environment_id)).first()
    if row is None:
        raise NotFound(f"there is no environment {environment_id}", hint="`pipe env` lists those that exist")
    return standing(row)


def listing(db: Database, *, application: str | None = None) -> list[Standing]:
    """Return all environments, in the order in which they were first used."""
    query = select(environments).order_by(environments.c.application, environments.c.id)
    if application:
        query = query.where(environments.c.application == application)
    with db.read() as connection:
        return [standing(row) for row in connection.execute(query)]


def ensure(
    db: Database,
    settings: Settings,
    application: str,
    name: str,
    spec: Mapping[str, Any],
    *,
    taken: Iterable[str] = (),
    port_is_free: Callable[[int], bool] = lambda port: True,
) -> Standing:
    """Return the environment, made or changed to what its spec says; a subnet and ports are given once.

    `taken` are networks of this host. Raises Unavailable when addresses or ports run out, Conflict when another
    environment has the port.
    """
    public = spec.get("public") or {}
    with db.write() as tx:
        row = _row(tx, application, name)
        others = [standing(other) for other in tx.execute(select(environments)) if row is None or other.id != row.id]
        used: set[int | None] = {port for other in others for port in (other.port, other.preview_port) if port}
        values: dict[str, Any] = {"spec": dict(spec)}
        if wanted := public.get("port"):
            _refuse_port(int(wanted), others, f"{application}.{name}")
            values["port"] = wanted
        elif public.get("host"):
            values["port"] = None
        elif row is None or not row.port:
            values["port"] = _port(settings, used, port_is_free, from_end=False)
        if row is None or not row.preview_port:
            values["preview_port"] = _port(settings, used | {values.get("port")}, port_is_free, from_end=True)
        if row is None or not row.subnet:
            values["subnet"] = _subnet(settings, [*taken, *(other.subnet for other in others if other.subnet)])
        if row is None:
            inserted(tx, environments, {"application": application, "name": name, **values})
        elif any(getattr(row, key) != value for key, value in values.items()):
            tx.execute(update(environments).where(environments.c.id == row.id).values(**values))
        found = _row(tx, application, name)
        assert found is not None
        return standing(found)


def resume(db: Database, standing: Standing, *, by: str, reason: str) -> None:
    """Let promotions come again after a person has looked at a contradiction. Raises Conflict when none is open."""
    if not standing.paused:
        raise Conflict(f"{standing.key} does not need attention", hint="`pipe env` tells what is where")
    with db.write() as tx:
        tx.execute(update(environments).where(environments.c.id == standing.id).values(paused=False))
        records.note(tx, "environment", standing.id, None, "paused", "resumed", by=by, reason=reason)


def standing(row: Row[Any]) -> Standing:
    """Read a row."""
    return Standing(
        id=row.id,
        application=row.application,
        name=row.name,
        spec=row.spec,
        subnet=row.subnet or "",
        port=row.port or 0,
        preview_port=row.preview_port or 0,
        live_colour=Colour(row.live_colour) if row.live_colour else None,
        live_promotion=row.live_promotion,
        live_since=row.live_since,
        warm_promotion=row.warm_promotion,
        warm_until=row.warm_until,
        epoch=row.epoch,
        paused=row.paused,
    )


def _row(tx: Connection, application: str, name: str) -> Row[Any] | None:
    mine = (environments.c.application == application) & (environments.c.name == name)
    return tx.execute(select(environments).where(mine)).first()


def _refuse_port(port: int, others: Iterable[Standing], key: str) -> None:
    for other in others:
        if port in (other.port, other.preview_port):
            what = "port" if port == other.port else "preview port"
            raise Conflict(
                f"port {port} of {key} is already the {what} of {other.key}",
                hint="give one of them another `public.port` in environments.yml",
            )


def _port(settings: Settings, used: set[int | None], is_free: Callable[[int], bool], *, from_end: bool) -> int:
    first, _, last = settings.public_ports.partition("-")
    ports = range(int(first), int(last or first) + 1)
    for port in reversed(ports) if from_end else ports:
        if port not in used and is_free(port):
            return port
    raise Unavailable(
        f"no port of {settings.public_ports} is free",
        hint="set PIPE_PUBLIC_PORTS to a wider range, or name a `public.port` in environments.yml",
    )


def _subnet(settings: Settings, taken: Iterable[str]) -> str:
    used = [ipaddress.ip_network(text) for text in taken if text]
    for subnet in ipaddress.ip_network(settings.subnets).subnets(new_prefix=_PREFIX):
        if not any(subnet.overlaps(other) for other in used):
            return str(subnet)
    raise Unavailable(
        f"no network of {settings.subnets} is free for another environment",
        hint="set PIPE_SUBNETS to a wider range; `docker network ls` shows what uses the present one",
    )
