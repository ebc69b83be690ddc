"""The installation's own settings, from the environment. Nothing else reads the environment.

What a pipeline or an environment says is not here: that is `definition`.
"""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.errors import DefinitionError


@dataclass(frozen=True)
class Settings:
    """Where things live and which images and engines are used; every field has a PIPE_* variable."""

    home: Path  # PIPE_HOME: database, logs, artifacts, mirrors, proxy state; one per user and host
    database_url: str  # PIPE_DATABASE_URL: sqlite:///… or postgresql://…
    engine_url: str  # PIPE_ENGINE or DOCKER_HOST; empty means the docker CLI's own default
    base_image: str  # PIPE_BASE_IMAGE: small image with a shell, for pauses and helpers
    proxy_image: str  # PIPE_HAPROXY_IMAGE
    registry_image: str  # PIPE_REGISTRY_IMAGE
    registry_port: int  # PIPE_REGISTRY_PORT: the local registry, on loopback
    subnets: str  # PIPE_SUBNETS: environments' networks are cut out of this range
    public_ports: str  # PIPE_PUBLIC_PORTS: "first-last" given to environments that name no port or host
    shared_port: int  # PIPE_SHARED_PORT: where environments with a host name of their own are served
    bind_address: str  # PIPE_BIND: address of public ports
    capacity: int  # PIPE_CAPACITY: stages at once
    ca_bundle: str  # PIPE_CA_BUNDLE (trust.ca_bundle): mounted into stages and builds where set
    disk_budget_gb: int  # PIPE_DISK_BUDGET_GB: what our images and build cache may hold before `pipe gc` trims them
    crash_at: str  # PIPE_CRASH_AT: name of a crash point; for fault tests only
    colour: bool  # NO_COLOR unset
    dumb: bool  # TERM=dumb: a terminal that can not redraw
    user: str  # who is asking, for local runs

    @cached_property
    def hostname(self) -> str:
        """Return this machine's name."""
        return socket.gethostname()

    @property
    def logs(self) -> Path:
        """Return the folder of log segments."""
        return self.home / "logs"

    @property
    def artifacts(self) -> Path:
        """Return the folder of stored artifacts."""
        return self.home / "artifacts"

    @property
    def mirrors(self) -> Path:
        """Return the folder of bare mirrors, one per repository."""
        return self.home / "mirrors"

    @property
    def proxy(self) -> Path:
        """Return the folder that the proxy mounts: its configuration, maps and socket."""
        return self.home / "proxy"


# What programs that we start may see of our environment: how to find things, and how to reach the network.
_PASSED_ON = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "TMPDIR",
        "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR",
        "SSH_AUTH_SOCK",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ]
)
_PASSED_ON_PREFIXES = ("DOCKER_", "BUILDX_")
_PROXIES = frozenset({"http_proxy", "https_proxy", "no_proxy", "all_proxy"})


def passed_on(environ: dict[str, str] | None = None) -> dict[str, str]:
    """Return the part of the environment that programs started by us get; all else is given to them explicitly."""
    env = dict(os.environ) if environ is None else environ
    kept = {
        name: value
        for name, value in env.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES) or name.lower() in _PROXIES
    }
    kept.setdefault("PATH", os.defpath)
    return kept


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no passwd entry, as in many containers
        return f"uid{os.getuid()}"


def _ca_bundle(env: dict[str, str]) -> str:
    """Return the bundle that was chosen for us, or the host's own explicit choice; without one, images keep theirs."""
    if "PIPE_CA_BUNDLE" in env:
        return env["PIPE_CA_BUNDLE"]
    host = env.get("SSL_CERT_FILE", "")
    return host if host and Path(host).is_file() else ""


def _number(env: dict[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise DefinitionError(
            f"the setting {name} is {text!r}, which is no whole number", hint=f"such as {name}={default}"
        )
    return int(text)


def load(environ: dict[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (default: the process's environment). Raises DefinitionError."""
    env = dict(os.environ) if environ is None else environ
    home = Path(env.get("PIPE_HOME") or Path(env.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "pipewright")
    return Settings(
        home=home,
        database_url=env.get("PIPE_DATABASE_URL") or f"sqlite:///{home / 'pipewright.db'}",
        engine_url=env.get("PIPE_ENGINE") or env.get("DOCKER_HOST") or "",
        base_image=env.get("PIPE_BASE_IMAGE") or "pipewright/debian:12",
        proxy_image=env.get("PIPE_HAPROXY_IMAGE") or "pipewright/haproxy:2.6",
        registry_image=env.get("PIPE_REGISTRY_IMAGE") or "pipewright/registry:2.8",
        registry_port=_number(env, "PIPE_REGISTRY_PORT", 5461),
        subnets=env.get("PIPE_SUBNETS") or "198.18.192.0/18",
        public_ports=env.get("PIPE_PUBLIC_PORTS") or "8080-8179",
        shared_port=_number(env, "PIPE_SHARED_PORT", 80),
        bind_address=env.get("PIPE_BIND") or "127.0.0.1",
        capacity=_number(env, "PIPE_CAPACITY", os.cpu_count() or 2),
        ca_bundle=_ca_bundle(env),
        disk_budget_gb=_number(env, "PIPE_DISK_BUDGET_GB", 20),
        crash_at=env.get("PIPE_CRASH_AT") or "",
        colour=not env.get("NO_COLOR"),
        dumb=env.get("TERM") == "dumb",
        user=env.get("PIPE_USER") or _user(),
    )


def secret_variables(environ: dict[str, str] | None = None) -> dict[str, str]:
    """Return the secrets given as PIPE_SECRET_<NAME>, by name."""
    env = dict(os.environ) if environ is None else environ
    prefix = "PIPE_SECRET_"
    return {name.removeprefix(prefix): value for name, value in env.items() if name.startswith(prefix)}
