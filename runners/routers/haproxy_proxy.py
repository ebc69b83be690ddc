"""Keep the proxy's container running with the recorded configuration. What the routes mean is not known here.

A configuration is checked by HAProxy itself before it replaces the old one; a reload is asked of the master
and has happened when the new worker shows the new configuration's hash. Listening sockets are handed over,
idle connections are closed only with their next answer: a reload fails no request.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from pipeline.errors import Unavailable
from pipeline.settings import Settings
from runners.engines import ContainerSpec, Engine, Mount
from runners.routers import ports
from runners.routers.haproxy_config import FOLDER, Entry, Site, description, render
from runners.routers.haproxy_files import write_durably, write_registry
from runners.routers.haproxy_socket import ask

_PATIENCE_SECONDS = 15.0


class Proxy:
    """One HAProxy per installation, on the host's network."""

    def __init__(self, settings: Settings, engine: Engine, installation: str) -> None:
        self._settings = settings
        self._engine = engine
        self._installation = installation
        self._folder = settings.proxy
        self.name = f"pipe-proxy-{installation[:8]}"

    @property
    def spec(self) -> ContainerSpec:
        """Return the container as a value."""
        master = f"{FOLDER}/master.sock,mode,600,uid,{os.getuid()},gid,{os.getgid()}"
        return ContainerSpec(
            name=self.name,
            image=self._settings.proxy_image,
            command=("haproxy", "-W", "-db", "-f", f"{FOLDER}/haproxy.cfg", "-S", master),
            user="0:0",
            labels={"pipewright.installation": self._installation, "pipewright.role": "proxy"},
            mounts=(Mount(source=str(self._folder), target=FOLDER),),
            network="host",
            restart=True,
            init=False,  # the master is the one that reaps
            log_max_bytes=10_000_000,
        )

    def apply(self, before: Mapping[str, Entry], wanted: Mapping[str, Entry]) -> bool:
        """Make the proxy run with `wanted`; return whether it was reloaded or started. The caller holds the lock."""
        text = self._render(wanted)
        running = self._running_description()
        if running == description(text):
            if before != wanted:
                write_registry(self._folder, wanted)
            return False
        self._refuse_taken_ports(before if running else {}, wanted)
        if running is None:
            self._start(before, wanted, text)
        else:
            self._check(text)
            write_durably(self._folder / "haproxy.cfg", text)
            write_registry(self._folder, wanted)
            ask(self._folder, "reload", name="master.sock")
            self._await(description(text), "did not take its new configuration")
        return True

    def end(self) -> None:
        """Remove the proxy after its last environment; idempotent. The caller holds the lock."""
        self._engine.remove(self.name)
        write_registry(self._folder, {})

    def _render(self, entries: Mapping[str, Entry]) -> str:
        site = Site(
            bind=self._settings.bind_address, shared_port=self._settings.shared_port, uid=os.getuid(), gid=os.getgid()
        )
        return render(entries, site)

    def _running_description(self) -> str | None:
        """Return the hash of the configuration that answers, or None when no proxy does."""
        try:
            lines = ask(self._folder, "show info").splitlines()
        except Unavailable:
            return None
        return next((line.partition(": ")[2].strip() for line in lines if line.lower().startswith("description: ")), "")

    def _refuse_taken_ports(self, before: Mapping[str, Entry], wanted: Mapping[str, Entry]) -> None:
        """Look before anything is touched: a port that the proxy does not hold yet must be free."""
        site = self._settings
        for key in sorted(wanted):
            for address, port in self._listens(wanted[key]):
                held = any((address, port) in self._listens(entry) for entry in before.values())
                if not held and not ports.is_free(address, port):
                    what = "shared port" if port == site.shared_port and wanted[key].route.host else "port"
                    raise Unavailable(
                        f"{what} {port} of {key} is in use: {ports.holder(port)} listens on {address}:{port}",
                        hint=f"end it, or give {key} another `public.port` in environments.yml"
                        if what == "port"
                        else "end it, or set PIPE_SHARED_PORT to another port",
                    )

    def _listens(self, entry: Entry) -> list[tuple[str, int]]:
        site, route = self._settings, entry.route
        public = (site.bind_address, site.shared_port if route.host else route.port)
        return [pair for pair in (public, ("127.0.0.1", route.preview_port)) if pair[1]]

    def _check(self, text: str) -> None:
        """Let HAProxy itself read a configuration before it replaces the old one."""
        trial = self._folder / "haproxy.cfg.new"
        write_durably(trial, text)
        code, said = self._engine.execute(self.name, ("haproxy", "-c", "-f", f"{FOLDER}/{trial.name}"))
        trial.unlink(missing_ok=True)
        if code:
            raise Unavailable(
                "the proxy refuses its new configuration:\n" + _last(said, 5),
                hint="the old configuration goes on; this is a fault of ours, please report it",
            )

    def _start(self, before: Mapping[str, Entry], wanted: Mapping[str, Entry], text: str) -> None:
        """Start the container; when it can not come up, put the old configuration back."""
        if not self._engine.shares_files:
            raise Unavailable(
                "the proxy must run on this machine, and the engine is elsewhere",
                hint="run the worker on the host of the environment",
            )
        write_durably(self._folder / "haproxy.cfg", text)
        write_registry(self._folder, wanted)
        found = self._engine.inspect(self.name)
        if found is not None and found.state not in ("running", "restarting"):
            self._engine.remove(self.name)  # its sockets and mounts may be stale; everything that counts is on disk
        try:
            self._engine.start(self._engine.create(self.spec))
            self._await(description(text), "does not start")
        except Unavailable:
            if before != wanted:
                write_durably(self._folder / "haproxy.cfg", self._render(before))
                write_registry(self._folder, before)
                if not before:
                    self._engine.remove(self.name)
            raise

    def _await(self, wanted: str, complaint: str) -> None:
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while self._running_description() != wanted:
            found = self._engine.inspect(self.name)
            gone = found is None or found.state in ("exited", "dead") or found.restarts > 3
            if gone or time.monotonic() > give_up:
                said = b"".join(chunk for _, chunk in self._engine.logs(self.name)) if gone and found else b""
                raise Unavailable(
                    f"the proxy {self.name} {complaint}" + (f":\n{_last(said, 5)}" if said else ""),
                    hint=f"`docker logs {self.name}` tells more",
                )
            time.sleep(0.02)


def _last(output: bytes, lines: int) -> str:
    return "\n".join(output.decode(errors="replace").strip().splitlines()[-lines:])
