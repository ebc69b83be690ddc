"""Two worlds in which a release can be put live: one in a file, and one of real containers behind a real HAProxy.

The same releases behave the same in both: `ok`, `never-ready`, `dies`, `breaks`, `hook-fails`.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import settings as settings_module
from pipeline.model import Colour
from pipeline.settings import Settings
from runners.engines.docker import DockerEngine
from runners.routers import Backend, Route, Router
from runners.routers.dummy import DummyRouter
from runners.routers.haproxy import HaproxyRouter
from runners.targets import Place, Release, Target
from runners.targets.docker import DockerTarget
from runners.targets.dummy import DummyTarget

IMAGE = "pipewright/python:3.11"
SUBNETS = ipaddress.ip_network("198.18.224.0/20")  # of tests: apart from what the settings give out by default

_given: set[str] = set()  # a network is made later than its subnet is chosen

SERVER = """
import http.server, os, signal, sys, threading, time
how = os.environ.get("BEHAVIOUR", "ok")
if how == "dies":
    sys.exit("this release can not start")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, text):
        body = (text + "\\n").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(404 if how == "never-ready" else 200, "fine")
        if self.path.startswith("/secret/"):
            try:
                return self.answer(200, open("/run/secrets/" + self.path.split("/")[2]).read())
            except OSError as error:
                return self.answer(404, str(error))
        if self.path.startswith("/env/"):
            return self.answer(200, os.environ.get(self.path.split("/")[2], ""))
        if self.path.startswith("/stream/"):
            return self.stream(int(self.path.split("/")[2]))
        if self.path.startswith("/slow/"):
            time.sleep(float(self.path.split("/")[2]))
        self.answer(500 if how == "breaks" else 200, os.environ["PIPE_COLOUR"] + " " + os.environ["PIPE_RUN"])
    def do_POST(self):
        order = self.rfile.read(int(self.headers["Content-Length"])).decode()
        print("order", order, flush=True)
        self.answer(200, order)
    def stream(self, ticks):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for tick in range(ticks):
            self.wfile.write(b"data: %d\\n\\n" % tick)
            time.sleep(0.2)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = False
server = Server(("", 8000), Handler)
signal.signal(signal.SIGTERM, lambda *a: threading.Thread(target=server.shutdown).start())
print("listening", how, flush=True)
server.serve_forever()
server.server_close()
"""


@dataclass
class Stand:
    """One world: a target, a router, and an environment in them."""

    target: Target
    router: Router
    place: Place
    route: Route
    settings: Settings
    real: bool
    engine: DockerEngine | None = None

    def release(self, run: int = 1, behaviour: str = "ok", **more: Any) -> Release:
        """Return a release that behaves in a certain way."""
        web: dict[str, Any] = {"port": 8000, "health": {"http": "/healthz", "interval": 0.2, "timeout": 20.0}}
        if self.real:
            web["command"] = ["python3", "-c", SERVER]
            more["env"] = {"BEHAVIOUR": behaviour, **more.get("env", {})}
        web |= more.pop("web", {})
        others = more.pop("processes", {})
        image = IMAGE if self.real else f"sha256:{run:064x}#{behaviour}"
        return Release(
            application=self.place.application,
            images=dict.fromkeys(("web", *others), image),
            processes={"web": web, **others},
            run=run,
            commit=f"{run:040x}",
            config_hash=f"config-{run}",
            **more,
        )

    def serve(self, release: Release, colour: Colour, promotion: int, epoch: int = 1) -> None:
        """Bring a colour up and wait until it is ready."""
        self.target.prepare(self.place, release, {})
        servers = tuple(self.target.servers(self.place, release, colour))
        self.router.ensure(
            self.route, colour, Backend(servers=servers, health_path="/healthz", health_interval_seconds=0.2)
        )
        self.router.suspend(self.route, colour)
        self.target.up(self.place, release, colour, promotion, epoch, {})
        self.router.examine(self.route, colour)
        wanted = {f"{s.address}:{s.port}" for s in servers}
        eventually(lambda: self.router.traffic(self.route, colour).up == wanted, f"{colour} is not ready")

    def kill_router(self) -> None:
        """End the proxy as a crash would, and do not let it come back by itself."""
        if self.engine:
            name = f"pipe-proxy-{self.place.installation[:8]}"
            self.engine.stop(name, grace_seconds=0)
        else:
            with self.router.world.changing() as world:  # type: ignore[attr-defined]
                world["alive"] = False
                for known in world["routes"].values():
                    known["running"] = {}

    def kill_colour(self, colour: Colour) -> None:
        """End all containers of a colour, as a crash would."""
        if self.engine:
            for container in self.engine.find({"pipewright.place": self.place.key, "pipewright.colour": str(colour)}):
                self.engine.stop(container.id, grace_seconds=0)
        else:
            with self.target.world.changing() as world:  # type: ignore[attr-defined]
                for container in world["containers"].values():
                    if container["colour"] == colour:
                        container["state"] = "exited"


def kill_from_outside(stand: Stand, container: str) -> None:
    """Send SIGKILL to a container's first process as the kernel would: Docker takes it for a crash."""
    assert stand.engine
    kill_process(stand.engine, container)


def kill_process(engine: DockerEngine, container: str) -> None:
    """Send SIGKILL to a container's first process."""
    with engine._daemon.asked("looking for a process") as client:
        os.kill(client.inspect_container(container)["State"]["Pid"], signal.SIGKILL)


def eventually(holds: Callable[[], object], complaint: str, *, seconds: float = 20.0) -> None:
    """Wait until something holds; it is looked at often, and the time is only the limit."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, complaint
        time.sleep(0.02)


def get(port: int, path: str = "/", host: str = "", timeout: float = 10) -> tuple[int, str]:
    """Ask once, on a connection of its own; return status and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        response = connection.getresponse()
        return response.status, response.read().decode().strip()
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, below those that the system gives out by itself."""
    found = []
    start = 20000 + (os.getpid() * 37 + time.monotonic_ns() // 1000) % 11000
    for port in range(start, start + 1500):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def free_subnet() -> str:
    """Return a /26 of the tests' range that no network of this host uses."""
    used = set(Path("/proc/net/route").read_text().split())
    choices = list(SUBNETS.subnets(new_prefix=26))
    start = (os.getpid() * 7 + time.monotonic_ns() // 1000) % len(choices)
    for subnet in choices[start:] + choices[:start]:
        if bytes(reversed(subnet.network_address.packed)).hex().upper() not in used and str(subnet) not in _given:
            _given.add(str(subnet))
            return str(subnet)
    raise AssertionError("no free subnet")


@contextmanager
def dummy_stand(home: Path) -> Iterator[Stand]:
    """Give the world in a file."""
    world = home / "world.json"
    place = Place(
        environment_id=1, application="hello", name="test", installation=str(uuid.uuid4()), subnet="10.0.0.0/26"
    )
    yield Stand(
        target=DummyTarget(world),
        router=DummyRouter(world),
        place=place,
        route=Route(key=place.key, port=1, preview_port=2),
        settings=settings_module.load({"PIPE_HOME": str(home)}),
        real=False,
    )


@contextmanager
def docker_stand(home: Path) -> Iterator[Stand]:
    """Give the real world, and leave nothing of it behind."""
    settings = settings_module.load({"PIPE_HOME": str(home)})
    installation = str(uuid.uuid4())
    engine = DockerEngine(settings, installation)
    subnet = free_subnet()
    place = Place(environment_id=1, application="hello", name="test", installation=installation, subnet=subnet)
    public, preview = free_ports(2)
    gateway = str(ipaddress.ip_network(subnet)[1])
    try:
        yield Stand(
            target=DockerTarget(engine, installation),
            router=HaproxyRouter(settings, engine, installation),
            place=place,
            route=Route(key=place.key, port=public, preview_port=preview, gateway=gateway),
            settings=settings,
            real=True,
            engine=engine,
        )
    finally:
        sweep(engine, installation)
        engine.close()


def sweep(engine: DockerEngine, installation: str) -> None:
    """Remove every container, network, volume and secret of an installation."""
    shutil.rmtree(f"/dev/shm/pipewright-{os.getuid()}/{installation[:8]}", ignore_errors=True)
    for container in engine.find({}):
        engine.remove(container.id)
    with engine._daemon.asked("sweeping") as client:
        wish = {"label": [f"pipewright.installation={installation}"]}
        for network in client.networks(filters=wish):
            client.remove_network(network["Id"])
        for volume in client.volumes(filters=wish)["Volumes"] or []:
            client.remove_volume(volume["Name"], force=True)
