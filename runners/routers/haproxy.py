"""The router on one Docker host: HAProxy in a container on the host's network, switched by one map entry.

The files in `settings.proxy` are the truth after a restart; `haproxy_files` writes them, `haproxy_config`
words the configuration, `haproxy_proxy` keeps the container running. Here is the order: under the lock, epoch
read again, file, running map, read back. A switch never reloads. Never `add server` or `del server` on 2.6.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import LeaseLost, NeedsAttention, PipeError, Unavailable
from pipeline.faults import point as crash_point
from pipeline.model import Colour
from pipeline.settings import Settings
from runners.engines import Engine
from runners.routers import Backend, Pointing, Route, Traffic
from runners.routers.haproxy_config import (
    ANSWER_HEADER,
    PROBE_HEADER,
    Entry,
    backend_name,
    map_path,
    server_name,
)
from runners.routers.haproxy_files import Recorded, locked, read_map, read_registry, remove_map, write_map
from runners.routers.haproxy_proxy import Proxy
from runners.routers.haproxy_socket import ask, ask_all, pairs, table, workers


class HaproxyRouter:
    """The routes of one installation on one host."""

    def __init__(self, settings: Settings, engine: Engine, installation: str) -> None:
        self._settings = settings
        self._folder = settings.proxy
        self._proxy = Proxy(settings, engine, installation)
        self._versions: dict[str, str] = {}  # the map's version that was prepared when the epoch was taken

    def ensure(self, route: Route, colour: Colour, backend: Backend) -> None:
        """Make the proxy know this environment and the servers of one colour. Reloads only when something changed."""
        with locked(self._folder):
            entries = read_registry(self._folder)
            before = entries.get(route.key)
            backends = {**(before.backends if before else {}), colour: backend}
            wanted = {**entries, route.key: Entry(route=route, backends=backends)}
            if read_map(self._folder, route.key) is None:
                write_map(self._folder, route.key, Recorded(idle=backend_name(route.key, colour)))
            self._settle(entries)
            if self._proxy.apply(entries, wanted):
                self._versions.clear()  # a new worker counts versions anew

    def wake(self) -> None:
        """Make the proxy run again as recorded, when it does not; idempotent."""
        with locked(self._folder):
            entries = read_registry(self._folder)
            if entries:
                self._proxy.apply(entries, entries)

    def suspend(self, route: Route, colour: Colour) -> None:
        """Stop checking a colour that is not live, before its servers are replaced: none of them counts as up."""
        self._set_servers(route, colour, "state maint")

    def examine(self, route: Route, colour: Colour) -> None:
        """Check a suspended colour from now on; each server is down until its checks have passed."""
        self._set_servers(route, colour, "state ready", "health down")

    def _set_servers(self, route: Route, colour: Colour, *states: str) -> None:
        with locked(self._folder):
            if self._running(route).get("live") == backend_name(route.key, colour):
                raise NeedsAttention(
                    f"{colour} is live in {route.key} and can not be replaced", hint="`pipe env` tells what is where"
                )
            for name in self._server_names(route, colour):
                server = f"{backend_name(route.key, colour)}/{name}"
                ask(self._folder, ";".join(f"set server {server} {state}" for state in states))

    def look(self, route: Route) -> Pointing:
        """Return where the traffic goes."""
        return seen(self._folder, route)

    def take(self, route: Route, epoch: int) -> None:
        """Make `epoch` current: from now on older ones are refused."""
        with locked(self._folder):
            recorded = self._owned(route, epoch)
            self._settle(read_registry(self._folder))
            recorded = self._owned(route, epoch)
            write_map(self._folder, route.key, replace(recorded, epoch=epoch))
            self._load(route, recorded)  # commits: versions that others prepared before are refused from now on
            self._versions[route.key] = self._prepare(route)

    def point(self, route: Route, colour: Colour, *, epoch: int, warm: Colour | None) -> None:
        """Send new requests to `colour`; `warm` may be fallen back to. Raises LeaseLost for an old epoch."""
        wanted = Recorded(
            epoch=epoch,
            live=backend_name(route.key, colour),
            idle=backend_name(route.key, colour.other),
            warm=backend_name(route.key, warm) if warm else "",
        )
        with locked(self._folder):
            self._owned(route, epoch)
            self._write(route, wanted)

    def forget_warm(self, route: Route, *, epoch: int) -> None:
        """End the falling back: the old colour is about to be retired."""
        with locked(self._folder):
            recorded = self._owned(route, epoch)
            if self._running(route).get("live", "") != recorded.live:
                raise NeedsAttention(
                    f"the proxy of {route.key} does not do what is recorded; nothing was touched",
                    hint="`pipe env` tells what is where",
                )
            self._write(route, replace(recorded, epoch=epoch, warm=""))

    def traffic(self, route: Route, colour: Colour) -> Traffic:
        """Return what one colour is doing; sessions are counted on old workers too."""
        answers = [
            table(answer) for answer in ask_all(self._folder, f"show stat {backend_name(route.key, colour)} 7 -1")
        ]
        servers = [row for row in answers[0] if row["svname"] != "BACKEND"]
        totals = [row for rows in answers for row in rows if row["svname"] == "BACKEND"]
        known = self._entry(route).backends.get(colour, Backend(servers=()))
        addresses = {server_name(s): f"{s.address}:{s.port}" for s in known.servers}
        return Traffic(
            up=frozenset(addresses[row["svname"]] for row in servers if _usable(row) and row["svname"] in addresses),
            sessions=sum(int(row["scur"] or 0) + int(row["qcur"] or 0) for row in totals),
            requests=int(totals[0]["stot"] or 0) if totals else 0,
            errors=int(totals[0]["hrsp_5xx"] or 0) if totals else 0,
            checks={addresses[row["svname"]]: _said(row) for row in servers if row["svname"] in addresses},
        )

    def probe(self, route: Route) -> Colour | None:
        """Ask through the public port which colour answers; None when nothing does."""
        entry = self._entry(route)
        live = _colour((read_map(self._folder, route.key) or Recorded()).live)
        path = entry.backends[live].health_path if live and live in entry.backends else "/"
        address = "127.0.0.1" if self._settings.bind_address == "0.0.0.0" else self._settings.bind_address
        connection = http.client.HTTPConnection(address, route.port or self._settings.shared_port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": route.host or address, PROBE_HEADER: "1"})
            response = connection.getresponse()
            response.read(4096)
            return _colour(response.headers.get(ANSWER_HEADER, "")) if response.status < 500 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def cut(self, route: Route, colour: Colour) -> int:
        """End what is still under way on a colour after its drain deadline; return how many."""
        sessions = self.traffic(route, colour).sessions
        for name in self._server_names(route, colour):
            ask_all(self._folder, f"shutdown sessions server {backend_name(route.key, colour)}/{name}")
        return sessions

    def urls(self, route: Route) -> tuple[str, str]:
        """Return the public URL and the preview URL."""
        host = self._settings.bind_address
        host = self._settings.hostname if host == "0.0.0.0" else host
        shared = self._settings.shared_port
        name = route.host + ("" if shared == 80 else f":{shared}")
        return (f"http://{name if route.host else f'{host}:{route.port}'}", f"http://127.0.0.1:{route.preview_port}")

    def remove(self, route: Route, colours: Sequence[Colour] = ()) -> None:
        """Forget colours of an environment, or all of it; idempotent."""
        with locked(self._folder):
            entries = read_registry(self._folder)
            before = entries[route.key].backends if route.key in entries else {}
            left = {c: b for c, b in before.items() if colours and c not in colours}
            wanted = {key: entry for key, entry in entries.items() if key != route.key}
            if left:
                wanted[route.key] = replace(entries[route.key], backends=left)
            self._settle(entries)
            if not wanted:
                self._proxy.end()
            elif self._proxy.apply(entries, wanted):
                self._versions.clear()
            if not left:
                remove_map(self._folder, route.key)

    def _entry(self, route: Route) -> Entry:
        return read_registry(self._folder).get(route.key) or Entry(route=route, backends={})

    def _server_names(self, route: Route, colour: Colour) -> list[str]:
        backend = self._entry(route).backends.get(colour)
        return [server_name(server) for server in backend.servers] if backend else []

    def _running(self, route: Route) -> dict[str, str]:
        return _running(self._folder, route)

    def _owned(self, route: Route, epoch: int) -> Recorded:
        """Read the map again under the lock; whoever comes with an older epoch has lost the environment."""
        recorded = read_map(self._folder, route.key) or Recorded()
        if recorded.epoch > epoch:
            raise LeaseLost(f"{route.key} belongs to epoch {recorded.epoch}, this is {epoch}")
        return recorded

    def _settle(self, entries: dict[str, Entry]) -> None:
        """Record where the proxy went back to the warm colour by itself, before a reload would undo it."""
        for key, entry in entries.items():
            recorded = read_map(self._folder, key)
            if recorded is None or not recorded.warm:
                continue
            try:
                live = self._running(entry.route).get("live", "")
            except Unavailable:
                return
            if live == recorded.warm != recorded.live:
                fallen = replace(recorded, live=live, idle=recorded.live, warm="", fell_back=True)
                write_map(self._folder, key, fallen)

    def _write(self, route: Route, wanted: Recorded) -> None:
        write_map(self._folder, route.key, wanted)
        crash_point("router.file")
        self._load(route, wanted)
        crash_point("router.commit")

    def _prepare(self, route: Route) -> str:
        answer = ask(self._folder, f"prepare map {map_path(route.key)}")
        number = answer.rpartition(":")[2].strip()
        if not number.isdigit():
            raise Unavailable(f"the proxy does not know {route.key}: {answer}", hint="`pipe doctor` looks at the proxy")
        return number

    def _load(self, route: Route, wanted: Recorded) -> None:
        """Make the running proxy, and old workers that still finish, do what is recorded; read it back."""
        version = self._versions.pop(route.key, None) or self._prepare(route)
        if "out of range" in self._commit(route, wanted, version):  # a worker that began since counts anew
            self._commit(route, wanted, self._prepare(route))
        if (running := self._running(route)) != wanted.pairs:
            raise Unavailable(
                f"the proxy of {route.key} shows {running} instead of {wanted.pairs}",
                hint="`pipe doctor` looks at the proxy",
            )
        for pid in workers(self._folder)[1]:
            self._load_old(pid, map_path(route.key), wanted)

    def _commit(self, route: Route, wanted: Recorded, version: str) -> str:
        path = map_path(route.key)
        adds = ";".join(f"add map @{version} {path} {key} {value}" for key, value in wanted.pairs.items())
        refused = ask(self._folder, adds) if adds else ""
        return refused if "out of range" in refused else ask(self._folder, f"commit map @{version} {path}")

    def _load_old(self, pid: int, path: str, wanted: Recorded) -> None:
        """A connection kept alive in a worker that is ending must reach the new colour as well."""
        try:
            for key, value in wanted.pairs.items():
                said = ask(self._folder, f"@!{pid} set map {path} {key} {value}", name="master.sock")
                if "not found" in said:
                    ask(self._folder, f"@!{pid} add map {path} {key} {value}", name="master.sock")
            if not wanted.warm:
                ask(self._folder, f"@!{pid} del map {path} warm", name="master.sock")
        except PipeError:
            return  # it has ended meanwhile


def _colour(backend: str) -> Colour | None:
    name = backend.rpartition(".")[2]
    return Colour(name) if name in tuple(Colour) else None


def _usable(row: dict[str, str]) -> bool:
    """A server that has not been checked yet counts as up for HAProxy, but not for us."""
    return row["status"].startswith("UP") and "INI" not in row["check_status"] and bool(row["check_status"])


def _said(row: dict[str, str]) -> str:
    status = row["check_status"].removeprefix("* ")
    code = row["check_code"]
    words = {
        "L4CON": "the connection was refused or has no route",
        "L4TOUT": "nothing answers at that port",
        "L6RSP": "the answer is not HTTP",
        "L7TOUT": "no answer in time",
        "L7RSP": "the answer is not HTTP",
        "INI": "not checked yet",
    }
    if status in ("L7STS", "L7OK", "L7OKC") and code:
        return f"status {code}"
    return words.get(status, row.get("check_desc") or status)


def seen(folder: Path, route: Route) -> Pointing:
    """Return where the traffic of a route goes: as recorded in `folder`, and as the proxy that runs there does."""
    recorded = read_map(folder, route.key) or Recorded()
    try:
        live = _running(folder, route).get("live", "")
    except Unavailable:
        return Pointing(recorded=_colour(recorded.live), running=None, epoch=recorded.epoch, alive=False)
    fell_back = recorded.fell_back or (live != recorded.live and bool(live) and live == recorded.warm)
    return Pointing(
        recorded=_colour(recorded.live),
        running=_colour(live),
        epoch=recorded.epoch,
        alive=True,
        fell_back=fell_back,
    )


def _running(folder: Path, route: Route) -> dict[str, str]:
    return pairs(ask(folder, f"show map {map_path(route.key)}"))
