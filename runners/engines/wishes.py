"""Our values as the Docker Engine API wants to read them, and its answers as our values. Pure, no calls."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from runners.engines import Container, ContainerSpec, Exit, Mount

_UNROTATED = {"max-size": "1000g", "max-file": "1", "compress": "false"}


def container_config(spec: ContainerSpec) -> dict[str, Any]:
    """Return the body of "create a container"."""
    config: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Labels": dict(spec.labels),
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin,
        "AttachStdin": spec.stdin,
        "HostConfig": _host_config(spec),
    }
    if spec.command:
        config["Cmd"] = list(spec.command)
    if spec.entrypoint is not None:
        config["Entrypoint"] = list(spec.entrypoint)
    if spec.workdir:
        config["WorkingDir"] = spec.workdir
    if spec.user:
        config["User"] = spec.user
    if spec.restart or spec.stop_seconds != 10:
        config["StopTimeout"] = spec.stop_seconds
    if spec.aliases or spec.address:
        endpoint: dict[str, Any] = {"Aliases": list(spec.aliases)}
        if spec.address:
            endpoint["IPAMConfig"] = {"IPv4Address": spec.address}
        config["NetworkingConfig"] = {"EndpointsConfig": {spec.network: endpoint}}
    return config


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    host: dict[str, Any] = {
        "NetworkMode": spec.network,
        "Init": spec.init,
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "Mounts": [_mount(mount) for mount in spec.mounts],
        "LogConfig": {"Type": "local", "Config": dict(_UNROTATED)},
        "AutoRemove": spec.ephemeral,
    }
    if spec.log_max_bytes:
        host["LogConfig"]["Config"] = {"max-size": str(spec.log_max_bytes), "max-file": "2", "compress": "false"}
    if spec.restart:
        host["RestartPolicy"] = {"Name": "unless-stopped"}
    if spec.cpus is not None:
        host["NanoCpus"] = int(spec.cpus * 1e9)
    if spec.memory_bytes is not None:
        host["Memory"] = host["MemorySwap"] = spec.memory_bytes  # no swap: the limit is what it says
    if spec.pids is not None:
        host["PidsLimit"] = spec.pids
    return host


def _mount(mount: Mount) -> dict[str, Any]:
    if not mount.source:
        return {"Type": "tmpfs", "Target": mount.target, "TmpfsOptions": {"Mode": 0o1777}}
    kind = "bind" if mount.source.startswith("/") else "volume"
    return {"Type": kind, "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}


def network_config(name: str, *, labels: Mapping[str, str], subnet: str, isolated: bool) -> dict[str, Any]:
    """Return the arguments of "create a network"."""
    ipam = None
    if subnet:
        gateway = str(next(ipaddress.ip_network(subnet).hosts()))
        ipam = {"Driver": "default", "Config": [{"Subnet": subnet, "Gateway": gateway}]}
    options = {"com.docker.network.bridge.enable_icc": "false"} if isolated else {}
    return {"name": name, "driver": "bridge", "labels": dict(labels), "options": options, "ipam": ipam}


def container_seen(answer: Mapping[str, Any]) -> Container:
    """Return what "inspect a container" answered."""
    state = answer["State"]
    networks = (answer.get("NetworkSettings") or {}).get("Networks") or {}
    status = state["Status"]
    ended = status in ("exited", "dead")
    exit_ = Exit(code=state["ExitCode"], oom=bool(state.get("OOMKilled")), error=state.get("Error") or "")
    return Container(
        id=answer["Id"],
        name=answer["Name"].lstrip("/"),
        state=status,
        labels=answer["Config"].get("Labels") or {},
        image=answer["Image"],
        addresses={name: net["IPAddress"] for name, net in networks.items() if net and net.get("IPAddress")},
        restarts=answer.get("RestartCount", 0),
        exit=exit_ if ended else None,
    )
