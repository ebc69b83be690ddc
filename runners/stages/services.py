"""The containers beside a stage: databases and the like, in a network of the attempt's own, reached by their names.

A pause container, the anchor, holds the network: the stage's container joins it, it holds the volumes in memory in
which the services find their secrets, and it knocks at ports from inside the network, which this machine may not be
able to reach. Services start in parallel; without `ready`, running is enough. What a stage does is not known here.
"""

from __future__ import annotations

import io
import shlex
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.errors import StageFailed, Unavailable
from pipeline.model import Cause
from runners.engines import ContainerSpec, Mount
from runners.sandboxes import pause

if TYPE_CHECKING:
    from pipeline.definition import Ready, Service
    from runners.stages import Work

_ROLE = "pipewright.role"
_LOG_BYTES = 64 << 20
_TOLD_LINES = 100
_KNOCK_SECONDS = 2  # one probe from inside the network; between probes we look whether the service still lives
_HOLD = "/secrets"


class Services:
    """The services of one attempt."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._engine = work.engine
        self._services = work.spec.services
        self.anchor = f"{work.key}-net"

    def up(self) -> None:
        """Bring all of them up and wait until they are ready; what runs already is left as it is.

        Raises StageFailed(cause="service") for one that does not become ready, and Unavailable.
        """
        work, engine = self._work, self._engine
        engine.ensure_network(work.key, labels=work.labels)
        volumes = {name: self._volume(name) for name in self._services if self._files(name)}
        for volume in volumes.values():
            engine.ensure_volume(volume, labels=work.labels, in_memory=True)
        anchor = pause(self.anchor, image=work.settings.base_image, network=work.key, labels=work.labels)
        held = tuple(Mount(source=volume, target=f"{_HOLD}/{name}") for name, volume in volumes.items())
        engine.create(replace(anchor, mounts=held, ephemeral=False))
        engine.start(self.anchor)
        for name in volumes:
            engine.copy_in(self.anchor, f"{_HOLD}/{name}", _packed(self._files(name)))
        self._all(self._start)
        self._all(self._await_ready)

    def tell(self) -> None:
        """Show the last lines of every service, for a person who asks why."""
        for name in self._services:
            text = self._engine.tail(self._container(name), lines=_TOLD_LINES).decode(errors="replace").rstrip("\n")
            if text:
                lines = "\n".join(f"{name} | {line}" for line in text.splitlines())
                self._work.log.say(f"the last lines of the service {name}:\n{lines}")

    def down(self) -> None:
        """Remove everything; idempotent."""
        for name in self._services:
            self._engine.remove(self._container(name))
        self._engine.remove(self.anchor)
        self._engine.remove_network(self._work.key)
        for name in self._services:
            if self._files(name):
                self._engine.remove_volume(self._volume(name))

    def _all(self, do: Callable[[str], None]) -> None:
        with ThreadPoolExecutor(max_workers=len(self._services), thread_name_prefix="service") as pool:
            futures = [pool.submit(do, name) for name in self._services]
        for future in futures:
            future.result()

    def _container(self, name: str) -> str:
        return f"{self._work.key}-{name}"

    def _volume(self, name: str) -> str:
        return f"{self._work.key}-{name}-secrets"

    def _files(self, name: str) -> dict[str, str]:
        uses = self._services[name].secrets
        return {use.name: self._work.secrets[use.name] for use in uses if use.as_ == "file"}

    def _spec(self, name: str, service: Service) -> ContainerSpec:
        work = self._work
        env = dict(service.env) | {use.name: work.secrets[use.name] for use in service.secrets if use.as_ == "env"}
        mounts = (Mount(source=self._volume(name), target="/run/secrets", read_only=True),) if self._files(name) else ()
        return ContainerSpec(
            name=self._container(name),
            image=service.image,
            command=tuple(service.command),
            env=env,
            labels={**work.labels, _ROLE: "service", "pipewright.service": name},
            network=work.key,
            aliases=(name,),
            mounts=mounts,
            log_max_bytes=_LOG_BYTES,
        )

    def _start(self, name: str) -> None:
        spec = self._spec(name, self._services[name])
        if self._engine.image_id(spec.image) is None:
            self._work.log.say(f"pulling the image {spec.image} of the service {name}")
        self._engine.create(spec)
        try:
            self._engine.start(spec.name)
        except StageFailed as error:
            raise StageFailed(
                f"the service {name} can not start: {error.message}", hint=error.hint, cause=Cause.SERVICE
            ) from error

    def _await_ready(self, name: str) -> None:
        ready = self._services[name].ready
        begun = time.monotonic()
        if ready is None:
            return
        pause_between = threading.Event()
        while time.monotonic() < begun + ready.timeout:
            if self._work.cancelled.is_set():
                return
            if self._is_ready(name, ready):
                self._work.log.say(f"the service {name} is ready after {time.monotonic() - begun:.1f} s")
                return
            self._check_alive(name)
            pause_between.wait(ready.interval)
        raise StageFailed(
            f"the service {name} is not ready after {ready.timeout:g} s ({_wish(ready)})",
            hint="its last lines are in the log; raise `ready: {timeout: …}`, or mend what it waits for",
            cause=Cause.SERVICE,
        )

    def _is_ready(self, name: str, ready: Ready) -> bool:
        if ready.run is not None:
            command, where = ["sh", "-c", ready.run], self._container(name)
        else:
            command, where = ["timeout", str(_KNOCK_SECONDS), "bash", "-c", _knock(name, ready)], self.anchor
        try:
            return self._engine.execute(where, tuple(command))[0] == 0
        except Unavailable:  # it ended in this moment: whoever looks whether it lives says so
            return False

    def _check_alive(self, name: str) -> None:
        seen = self._engine.inspect(self._container(name))
        if seen is None or seen.exit is not None:
            code = seen.exit.code if seen and seen.exit else None
            raise StageFailed(
                f"the service {name} ended with exit code {code} before it was ready",
                hint="its last lines are in the log",
                cause=Cause.SERVICE,
            )


def _wish(ready: Ready) -> str:
    if ready.run is not None:
        return f"`{ready.run}` does not succeed"
    return f"port {ready.port} does not answer" if ready.port else f"{ready.http} does not answer"


def _knock(name: str, ready: Ready) -> str:
    """Return a bash script that succeeds when the service answers."""
    if ready.port is not None:
        return f"exec 3<>/dev/tcp/{name}/{ready.port}"
    port, path = _address(ready.http or "/")
    request = shlex.quote(f"GET {path} HTTP/1.0\r\nHost: {name}\r\nConnection: close\r\n\r\n")
    return (
        f"exec 3<>/dev/tcp/{name}/{port} && printf %s {request} >&3 && read -r protocol status rest <&3 "
        '&& case "$status" in 2??) exit 0;; *) exit 1;; esac'
    )


def _address(wish: str) -> tuple[int, str]:
    """Return port and path of `http://host:port/path`, `:port/path` or `/path`; the host is the service itself."""
    if wish.startswith(":"):
        wish = f"//service{wish}"
    parts = urlsplit(wish)
    path = parts.path or "/"
    return parts.port or 80, f"{path}?{parts.query}" if parts.query else path


def _packed(files: Mapping[str, str]) -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, value in files.items():
            data = value.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o444
            tar.addfile(info, io.BytesIO(data))
    archive.seek(0)
    return archive
