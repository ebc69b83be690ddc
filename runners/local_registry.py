"""The registry of this machine, for local runs: one container on loopback, its images in a volume.

It is made when it is first needed, adopted afterwards, and comes back after a restart. How a registry is
spoken to is `registry`'s; which images are worth keeping is not decided here.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

from pipeline.errors import Unavailable
from runners.engines import ContainerSpec, Mount
from runners.registry import Registry, Repository

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from runners.engines import Engine

_READY_SECONDS = 30.0
_STORAGE = "/var/lib/registry"


def host(settings: Settings) -> str:
    """Return where it listens."""
    return f"127.0.0.1:{settings.registry_port}"


def spec(settings: Settings, installation: str) -> ContainerSpec:
    """Return its container as a value."""
    name = f"pipe-registry-{installation[:8]}"
    labels = {"pipewright.installation": installation, "pipewright.role": "registry"}
    return ContainerSpec(
        name=name,
        image=settings.registry_image,
        env={"REGISTRY_HTTP_ADDR": host(settings), "REGISTRY_STORAGE_DELETE_ENABLED": "true"},
        labels={**labels, "pipewright.address": host(settings)},
        mounts=(Mount(source=name, target=_STORAGE),),
        network="host",  # on loopback alone, and nothing needs to be published
        restart=True,
        log_max_bytes=10 << 20,
    )


def ensure(engine: Engine, settings: Settings, installation: str) -> str:
    """Make the registry answer, and return its host and port.

    Raises:
        Unavailable: its port is somebody else's, or it does not start.
    """
    wanted = spec(settings, installation)
    there = engine.inspect(wanted.name)
    if there and there.labels.get("pipewright.address") != host(settings):
        engine.remove(there.id)  # the port was changed in the settings; its volume stays
        there = None
    if there is None:
        engine.ensure_volume(wanted.name, labels=wanted.labels)
    if there is None or there.state != "running":
        if _answers(settings):
            raise _taken(settings)
        engine.start(engine.create(wanted))
    _await(engine, settings, wanted)
    return host(settings)


def _answers(settings: Settings) -> bool:
    try:
        socket.create_connection(("127.0.0.1", settings.registry_port), timeout=2).close()
    except OSError:
        return False
    return True


def _taken(settings: Settings) -> Unavailable:
    return Unavailable(
        f"the port {settings.registry_port} of the local registry is in use by another program",
        hint="Stop that, or choose another port in PIPE_REGISTRY_PORT.",
        cause="registry",
    )


def _await(engine: Engine, settings: Settings, wanted: ContainerSpec) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    stop = threading.Event()
    stop.set()  # no retries inside a question: they are ours
    registry = Registry(Repository(host(settings), "ping"), settings, cancelled=stop)
    try:
        while True:
            seen = engine.inspect(wanted.name)
            if seen is None or seen.state != "running" or seen.restarts:
                raise _failure(engine, settings, wanted)
            try:
                registry.ping()
                return
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                threading.Event().wait(0.02)
    finally:
        registry.close()


def _failure(engine: Engine, settings: Settings, wanted: ContainerSpec) -> Unavailable:
    """Remove what does not start, and say why it did not."""
    engine.stop(wanted.name, grace_seconds=1)
    said = b"".join(data for _, data in engine.logs(wanted.name)).decode(errors="replace")
    engine.remove(wanted.name)
    if "address already in use" in said:
        return _taken(settings)
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    return Unavailable(f"the local registry does not start: {last}", hint="See `pipe doctor`.", cause="registry")
