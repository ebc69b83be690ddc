"""The proxy's configuration as text, made from the routes that are recorded. Pure: nothing is written or run here.

Per environment: a frontend on its own port or a rule for its host name, a preview frontend, two
permanent backends, and one map file with the keys `live`, `idle` and `warm`. Which colour gets the
traffic is only ever in the map; the configuration changes when an environment, port, slot or health check does.
Syntax: HAProxy 2.6 configuration manual.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import DefinitionError
from pipeline.model import Colour
from runners.routers import Backend, Route
from runners.targets import Server

FOLDER = "/etc/pipewright"  # where the proxy sees its folder
PROBE_HEADER = "X-Pipe-Probe"  # on requests of ours only
ANSWER_HEADER = "X-Pipe-Backend"  # on their answers only

_PATH = re.compile(r"/[A-Za-z0-9._~!$&()*+,;=:@%/?-]*")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One environment as the registry of routes holds it."""

    route: Route
    backends: Mapping[Colour, Backend]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is the same for all environments of one proxy."""

    bind: str  # address of public ports
    shared_port: int  # for environments with a host name
    uid: int  # who may talk to the proxy's sockets
    gid: int
    user: str = "haproxy"  # what the workers run as


def backend_name(key: str, colour: Colour) -> str:
    """Return the name of one colour's backend."""
    return f"{key}.{colour}"


def map_path(key: str) -> str:
    """Return an environment's map as the proxy sees it."""
    return f"{FOLDER}/maps/{key}.map"


def server_name(server: Server) -> str:
    """Return a replica's name inside its backend."""
    return f"{server.process}-{server.replica}"


_HEAD = """\
# Written by pipe; changes made by hand are lost at the next one.
global
  description {description}
  stats socket {folder}/admin.sock mode 600 uid {uid} gid {gid} level admin expose-fd listeners
  stats timeout 1m
  hard-stop-after 1h
  fd-hard-limit 40000
  user {user}
  group {user}

defaults
  mode http
  timeout connect 2s
  timeout http-request 30s
  timeout http-keep-alive 30s
  timeout client 5m
  timeout server 5m
  timeout tunnel 1h
  timeout queue 10s
  timeout check 5s
  # A server closing an idle connection just when it is used again would cost a request that may not be repeated.
  option http-server-close
  # A reload must not close a connection under a client that is about to use it.
  option idle-close-on-response
  option redispatch 1
  option forwardfor
  retries 3
  retry-on conn-failure empty-response
  http-error status 503 content-type text/plain string "No replica can answer at the moment.\\n"
"""


def _public(entry: Entry, when: str = "") -> Iterable[str]:
    """Yield the rules that lead a request to the live colour; `when` limits them to a host name."""
    path, key = map_path(entry.route.key), entry.route.key
    app, _, name = key.partition(".")
    only = f" {when}" if when else ""
    yield f"  http-request set-var(txn.live) str(live),map({path}){' if' + only if only else ''}"
    yield f"  http-request set-var(txn.warm) str(warm),map({path}){' if' + only if only else ''}"
    # The proxy itself goes back to the warm colour when the live one has no usable server, and stays there.
    yield (
        f"  http-request set-var(txn.fell) bool(true) if{only} {{ var(txn.warm) -m found }}"
        " { var(txn.live),nbsrv eq 0 } { var(txn.warm),nbsrv gt 0 }"
    )
    yield f"  http-request set-map({path}) live %[var(txn.warm)] if{only} {{ var(txn.fell) -m bool }}"
    yield f"  http-request set-var(txn.live) var(txn.warm) if{only} {{ var(txn.fell) -m bool }}"
    yield (
        f"  http-request return status 503 content-type text/plain string"
        f' "Nothing is live yet in {app}/{name}.\\n" if{only} !{{ var(txn.live) -m found }}'
    )


_FRONT = [
    "  http-request disable-l7-retry unless METH_GET",
    f"  http-request set-var(txn.probe) req.hdr({PROBE_HEADER})",
    f"  http-request del-header {PROBE_HEADER}",
    f"  http-after-response set-header {ANSWER_HEADER} %[be_name] if {{ var(txn.probe) -m found }}",
]


def _own_port(entry: Entry, site: Site) -> Iterable[str]:
    yield f"frontend {entry.route.key}"
    yield f"  bind {site.bind}:{entry.route.port}"
    yield from _FRONT
    yield from _public(entry)
    yield "  use_backend %[var(txn.live)]"


def _shared_port(entries: list[Entry], site: Site) -> Iterable[str]:
    yield "frontend hosts"
    yield f"  bind {site.bind}:{site.shared_port}"
    yield from _FRONT
    for entry in entries:
        if not _HOST.fullmatch(entry.route.host):
            raise DefinitionError(
                f"`{entry.route.host}` is no host name", hint="`public.host` is written like shop.example"
            )
        acl = f"is_{entry.route.key}"
        yield f"  acl {acl} hdr(host),lower,regsub(:[0-9]+$,) -m str {entry.route.host}"
        yield from _public(entry, acl)
    yield (
        '  http-request return status 404 content-type text/plain string "No environment has this host name.\\n"'
        " if !{ var(txn.live) -m found }"
    )
    yield "  use_backend %[var(txn.live)]"


def _preview(entry: Entry) -> Iterable[str]:
    route = entry.route
    yield f"frontend {route.key}.preview"
    yield f"  bind 127.0.0.1:{route.preview_port}"
    if route.gateway:  # transparent: the address may come later than the proxy
        yield f"  bind {route.gateway}:{route.preview_port} transparent"
    yield from _FRONT
    yield f"  http-request set-var(txn.idle) str(idle),map({map_path(route.key)})"
    yield (
        '  http-request return status 503 content-type text/plain string "There is no idle colour.\\n"'
        " if !{ var(txn.idle) -m found }"
    )
    yield "  use_backend %[var(txn.idle)]"


def _colour(entry: Entry, colour: Colour) -> Iterable[str]:
    backend = entry.backends.get(colour)
    yield f"backend {backend_name(entry.route.key, colour)}"
    if backend is None:
        return
    if not _PATH.fullmatch(backend.health_path):
        raise DefinitionError(
            f"`{backend.health_path}` can not be a health path", hint="`health.http` is written like /healthz"
        )
    every = max(int(backend.health_interval_seconds * 1000), 50)
    yield "  option httpchk"
    yield f"  http-check send meth GET uri {backend.health_path} ver HTTP/1.1 hdr Host localhost"
    # Makes the check read the whole answer before it judges: it is not broken off under the application's hands.
    yield "  http-check expect ! string pipewright-reads-to-the-end"
    yield f"  http-check expect status {backend.health_status}"
    yield f"  default-server check inter {every} fastinter {min(every, 200)} downinter {min(every, 400)} rise 2 fall 3"
    for server in backend.servers:
        yield f"  server {server_name(server)} {server.address}:{server.port}"


def render(entries: Mapping[str, Entry], site: Site) -> str:
    """Return the whole configuration; its own hash stands in `description`, where the running proxy shows it."""
    ordered = [entries[key] for key in sorted(entries)]
    blocks: list[Iterable[str]] = []
    hosts = [entry for entry in ordered if entry.route.host]
    if hosts:
        blocks.append(_shared_port(hosts, site))
    for entry in ordered:
        if entry.route.port:
            blocks.append(_own_port(entry, site))
        if entry.route.preview_port:
            blocks.append(_preview(entry))
        blocks.extend(_colour(entry, colour) for colour in Colour)
    body = "\n\n".join("\n".join(block) for block in blocks)
    head = {"folder": FOLDER, "uid": site.uid, "gid": site.gid, "user": site.user}
    digest = hashlib.sha256(_HEAD.format(description="", **head).encode() + body.encode()).hexdigest()[:16]
    return f"{_HEAD.format(description=digest, **head)}\n{body}\n"


def description(text: str) -> str:
    """Return the hash that a configuration carries."""
    found = re.search(r"^  description (\S+)$", text, re.MULTILINE)
    return found[1] if found else ""


def to_data(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain data for the registry on disk."""
    route = {name: getattr(entry.route, name) for name in ("key", "port", "host", "preview_port", "gateway")}
    backends = {
        str(colour): {
            "servers": [[s.process, s.replica, s.address, s.port] for s in backend.servers],
            "health_path": backend.health_path,
            "health_status": backend.health_status,
            "health_interval_seconds": backend.health_interval_seconds,
        }
        for colour, backend in entry.backends.items()
    }
    return {"route": route, "backends": backends}


def from_data(data: Mapping[str, Any]) -> Entry:
    """Read an entry of the registry on disk."""
    backends = {
        Colour(colour): Backend(
            servers=tuple(Server(process=p, replica=r, address=a, port=n) for p, r, a, n in one["servers"]),
            health_path=one["health_path"],
            health_status=one["health_status"],
            health_interval_seconds=one["health_interval_seconds"],
        )
        for colour, one in data["backends"].items()
    }
    return Entry(route=Route(**data["route"]), backends=backends)
