"""What is found on a machine, judged: pure functions from facts to checks, each with how to mend it.

The facts about the engine are what `docker info` says as JSON. Nothing is looked up here (that is
`doctor`), and nothing is printed (that is the command line's).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Info = Mapping[str, Any]

GB = 1 << 30
_LIMITS = {"MemoryLimit": "memory", "SwapLimit": "swap", "CpuCfsQuota": "cpu", "CPUSet": "cpuset", "PidsLimit": "pids"}
_OURS = {"memory", "cpu", "pids"}  # what `limits` of a stage sets; the others only sharpen these


class Verdict(StrEnum):
    """How a check ended; `warn` means that runs work, but not all that the engine offers."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    detail: str
    mend: str = ""  # what to do about it; empty when there is nothing to do


def ok(name: str, detail: str) -> Check:
    """Return a check that found nothing to mend."""
    return Check(name, Verdict.OK, detail)


def warn(name: str, detail: str, mend: str) -> Check:
    """Return a check that found something that limits, but does not prevent."""
    return Check(name, Verdict.WARN, detail, mend)


def fail(name: str, detail: str, mend: str) -> Check:
    """Return a check that found something that prevents runs."""
    return Check(name, Verdict.FAIL, detail, mend)


def silence(said: str, *, where: str, user: str) -> Check:
    """Judge what the docker client said when no engine answered it."""
    if re.search("permission denied", said, re.IGNORECASE):
        mend = f"usermod -aG docker {user}, as root; then log in again. Members of that group are as good as root."
        return fail("engine", f"no permission to use the engine at {where}", mend)
    if re.search("client version .* is too (old|new)", said, re.IGNORECASE):
        return fail("engine", said.strip(), "Bring client and engine to versions that know each other; 26.1 is tested.")
    mend = "make setup starts one, or installs it on Debian as root; PIPE_ENGINE or DOCKER_HOST names another."
    return fail("engine", f"no engine answers at {where}", mend)


def engine(info: Info) -> Check:
    """Judge the engine's version and what it runs on."""
    version = str(info.get("ServerVersion", ""))
    major = int(re.match(r"\d*", version).group() or 0)  # type: ignore[union-attr]
    memory = f"{int(info.get('MemTotal', 0)) / GB:.0f} GB"
    detail = f"Docker Engine {version} on {info.get('OperatingSystem', '?')}, {info.get('NCPU', '?')} CPUs, {memory}"
    if major < 20:
        return fail("engine", detail, "Install Docker Engine 23 or newer: this one knows no BuildKit that we can use.")
    if major < 23:
        return warn("engine", detail, "Install Docker Engine 23 or newer; 26.1 is tested.")
    return ok("engine", detail)


def _options(info: Info) -> set[str]:
    return {part for option in info.get("SecurityOptions") or () for part in option.split(",") if "=" in part}


def kind(info: Info, *, bind_address: str) -> Check:
    """Judge what kind of engine it is: on this host as root, rootless, Docker Desktop, with user namespaces."""
    options = _options(info)
    if "name=rootless" in options:
        detail = "rootless: the proxy's host network is the engine's own, so public ports are not on this machine's"
        mend = "For `promote` use an engine that runs as root. Builds, tests and pushes work with this one."
        return warn("engine kind", detail, mend)
    if "Docker Desktop" in str(info.get("OperatingSystem", "")):
        detail = "Docker Desktop: the proxy's host network is that of its virtual machine"
        mend = (
            f"Settings, Resources, Network: enable host networking, or public ports will not answer at {bind_address}."
        )
        return warn("engine kind", detail, mend)
    if "name=userns" in options:
        detail = "user namespaces are remapped: the engine refuses containers on the host's network"
        mend = "Take `userns-remap` out of /etc/docker/daemon.json, or do not use `promote` here."
        return warn("engine kind", detail, mend)
    return ok("engine kind", f"on {info.get('Name', 'this host')} as root, storage driver {info.get('Driver', '?')}")


def confinement(info: Info, *, home: str) -> Check:
    """Judge SELinux: a folder that is mounted into containers must carry their label."""
    options = _options(info)
    if "name=selinux" in options:
        mend = (
            f"chcon -Rt container_file_t {home} (and the workspaces' folders .pipe/), or containers can not read them."
        )
        return warn("SELinux", "the engine confines containers with SELinux", mend)
    return ok("SELinux", "containers are not confined by SELinux")


def limits(info: Info) -> Check:
    """Judge which cgroup limits the engine can set, by name."""
    version = str(info.get("CgroupVersion", "1"))
    missing = {name for key, name in _LIMITS.items() if not info.get(key)}
    if version == "2":
        missing.discard("swap")  # reported per container there
    has = [name for name in _LIMITS.values() if name not in missing]
    detail = f"cgroup v{version} ({info.get('CgroupDriver', '?')}): {', '.join(has) or 'no limit at all'}"
    if not missing & _OURS:
        return ok("limits", detail)
    detail += f"; missing: {', '.join(sorted(missing & _OURS))}. Such limits of a stage are ignored"
    if "name=rootless" in _options(info):
        mend = "Rootless engines need cgroup v2 and, for user@.service, Delegate=cpu cpuset io memory pids."
    elif version == "1":
        mend = "Boot with cgroup_enable=memory swapaccount=1, or mount the missing hierarchies; restart the engine."
    else:
        mend = "Add these names to cgroup.subtree_control of the engine's parent cgroup; restart the engine."
    return warn("limits", detail, mend)


def plugin(info: Info, name: str, *, package: str, needed_for: str) -> Check:
    """Judge one of the docker client's plugins."""
    for found in (info.get("ClientInfo") or {}).get("Plugins") or ():
        if found.get("Name") == name:
            if problem := found.get("Err"):
                return fail(name, f"the plugin does not start: {problem}", f"Install {package} anew.")
            return ok(name, f"{found.get('Version', '?')}")
    verdict = fail if name == "buildx" else warn
    return verdict(name, f"the docker client lacks it; {needed_for}", f"make setup installs it, or: install {package}.")


def ways_out(info: Info, ours: Mapping[str, str]) -> Check:
    """Judge HTTP proxies: whether engine and this program take the same way, and loopback none."""
    https = {name.lower(): value for name, value in ours.items()}
    mine, excepted = https.get("https_proxy", ""), https.get("no_proxy", "")
    its = str(info.get("HttpsProxy") or info.get("HttpProxy") or "")
    if not mine and not its:
        return ok("HTTP proxy", "none in use")
    around = {part.strip() for part in excepted.split(",")}
    if mine and not around & {"127.0.0.1", "127.0.0.0/8", "*"}:
        mend = "Add 127.0.0.1 to no_proxy: the local registry and health checks are there."
        return warn("HTTP proxy", "requests to this machine itself would go to the proxy", mend)
    if mine and not its:
        mend = (
            'Give the engine the same: "proxies" in /etc/docker/daemon.json, or HTTPS_PROXY in its service; restart it.'
        )
        return warn("HTTP proxy", "this program uses one, the engine does not: pulls and pushes may fail", mend)
    return ok("HTTP proxy", "the engine uses one" if its and not mine else "this program and the engine use one")


def clock(skew_seconds: float) -> Check:
    """Judge the difference between this machine's clock and the engine's."""
    detail = f"{abs(skew_seconds):.1f} s between this machine and the engine"
    if abs(skew_seconds) < 2:
        return ok("clock", detail)
    mend = (
        "Let both follow a time server (systemd-timesyncd or chrony); a virtual machine may need a restart after sleep."
    )
    return warn("clock", detail, mend)


def disk(name: str, where: str, free_bytes: int, free_files_share: float) -> Check:
    """Judge the room that is left in a folder's file system."""
    detail = f"{free_bytes / GB:.1f} GB free at {where}"
    mend = "pipe gc removes what runs left behind; `docker system df` shows what the engine holds."
    if free_bytes < GB:
        return fail(name, detail, mend)
    if free_files_share < 0.02:
        return warn(name, f"{detail}, but hardly any file can be added (inodes)", mend)
    return warn(name, detail, mend) if free_bytes < 5 * GB else ok(name, detail)


def addresses(info: Info, subnets: str, routes: Iterable[str]) -> Check:
    """Judge whether environments' networks are cut out of a range that nobody else uses."""
    try:
        ours = ipaddress.ip_network(subnets)
    except ValueError as error:
        return fail("addresses", f"PIPE_SUBNETS is no network: {error}", "Write it like 198.18.192.0/18.")
    taken = [str(pool.get("Base", "")) for pool in info.get("DefaultAddressPools") or ()]
    for other in (*taken, *routes):
        network = ipaddress.ip_network(other, strict=False)
        if network.version == ours.version and network.prefixlen and network.overlaps(ours):
            mend = "Set PIPE_SUBNETS to a private range that neither the engine's pools nor this machine's routes use."
            return warn("addresses", f"{ours} overlaps with {network}, which is in use", mend)
    return ok("addresses", f"environments take theirs from {ours}")
