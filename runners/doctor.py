"""Looks at this machine: what runs need, whether it is there, and how to mend what is not. Changes nothing.

The judgements are `diagnosis`; here is only the looking. A look that fails is a check that says so,
never an error: the doctor must not die of what it examines.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipeError, Unavailable
from pipeline.settings import passed_on
from runners import diagnosis, process
from runners.diagnosis import Check, Info, fail, ok, warn

if TYPE_CHECKING:
    from pipeline.settings import Settings

_PATIENCE_SECONDS = 10
_REMOTE_FILES = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph"})


@dataclass(frozen=True)
class _Sight:
    """What one look at the engine showed."""

    info: Info
    skew_seconds: float


def examine(settings: Settings) -> list[Check]:
    """Return every check, in the order in which they are worth mending. Raises nothing of ours."""
    checks = [_git(), *_home(settings), _database(settings)]
    seen = _engine(settings)
    if isinstance(seen, Check):
        return [seen, *checks]
    info = seen.info
    return [
        diagnosis.engine(info),
        _address(settings, info),
        diagnosis.kind(info, bind_address=settings.bind_address),
        diagnosis.limits(info),
        diagnosis.confinement(info, home=str(settings.home)),
        diagnosis.plugin(info, "buildx", package="docker-buildx (docker-buildx-plugin)", needed_for="builds need it"),
        diagnosis.plugin(
            info,
            "compose",
            package="docker-compose (docker-compose-plugin)",
            needed_for="only `compose` targets need it",
        ),
        *_images(settings),
        _registry(settings),
        _proxy(settings),
        diagnosis.ways_out(info, passed_on()),
        diagnosis.addresses(info, settings.subnets, _routes()),
        diagnosis.clock(seen.skew_seconds),
        *_engine_disk(info),
        *checks,
    ]


def _docker(settings: Settings, *words: str) -> process.Completed:
    env = passed_on()
    if settings.engine_url:
        env["DOCKER_HOST"] = settings.engine_url
    return process.run(("docker", *words), env=env, timeout_seconds=_PATIENCE_SECONDS)


def _engine(settings: Settings) -> Check | _Sight:
    where = settings.engine_url or "the docker client's own address"
    try:
        before = time.time()
        done = _docker(settings, "info", "--format", "{{json .}}")
        after = time.time()
    except Unavailable as error:
        return fail("engine", error.message, "make setup installs the docker client; or put it on the PATH.")
    if done.stopped:
        mend = "Look at the machine's load and the engine's log; restart the engine when it hangs."
        return fail("engine", f"the engine at {where} did not answer within {_PATIENCE_SECONDS} s", mend)
    try:
        info = json.loads(done.out or b"{}")
    except ValueError:
        info = {}
    if not info.get("ServerVersion"):
        said = " ".join([*info.get("ServerErrors", ()), done.err.decode(errors="replace")])
        return diagnosis.silence(said, where=where, user=settings.user)
    return _Sight(info, _skew(str(info.get("SystemTime", "")), before, after))


def _address(settings: Settings, info: Info) -> Check:
    """Ask directly, as stages do: containers must not be started on another engine than the one that builds."""
    from runners.engines.daemon import Daemon

    daemon = Daemon(settings.engine_url, timeout_seconds=_PATIENCE_SECONDS)
    try:
        with daemon.asked("asking the engine who it is") as client:
            its = client.info()
    except PipeError as error:
        return fail("engine address", error.message, error.hint)
    finally:
        daemon.close()
    if its.get("ID") != info.get("ID"):
        mend = "Set PIPE_ENGINE to the one that is meant; `docker context inspect` shows the client's."
        return fail("engine address", f"the docker client speaks to another engine than {daemon.url}", mend)
    return ok("engine address", daemon.url)


def _skew(its_time: str, before: float, after: float) -> float:
    """Return how far the engine's clock is outside of the moments between which it was asked."""
    try:
        its = datetime.fromisoformat(its_time).timestamp()
    except ValueError:
        return 0.0
    return max(its - after, 0.0) or min(its - before, 0.0)


def _images(settings: Settings) -> Iterator[Check]:
    wanted = {"PIPE_BASE_IMAGE": settings.base_image, "PIPE_HAPROXY_IMAGE": settings.proxy_image}
    wanted["PIPE_REGISTRY_IMAGE"] = settings.registry_image
    for variable, name in wanted.items():
        try:
            there = _docker(settings, "image", "inspect", "--format", ".", name).ok
        except Unavailable:
            there = False
        mend = f"make setup makes or pulls it; or name another image in {variable}."
        yield ok("image", name) if there else fail("image", f"{name} is not there", mend)


def _registry(settings: Settings) -> Check:
    """Ask the local registry; that nobody listens is well, for the first push starts it."""
    where = f"127.0.0.1:{settings.registry_port}"
    connection = http.client.HTTPConnection("127.0.0.1", settings.registry_port, timeout=3)
    mend = f"See who listens on port {settings.registry_port}, or set PIPE_REGISTRY_PORT to a free one."
    try:
        connection.request("GET", "/v2/")
        answer = connection.getresponse()
        if answer.getheader("Docker-Distribution-Api-Version"):
            return ok("registry", f"answers at {where}")
        return fail("registry", f"what answers at {where} is no registry", mend)
    except ConnectionRefusedError:
        return ok("registry", f"not running; the first push starts it at {where}")
    except (OSError, http.client.HTTPException) as error:
        return fail("registry", f"what listens at {where} does not answer as a registry: {error}", mend)
    finally:
        connection.close()


def _proxy(settings: Settings) -> Check:
    """Knock at the proxy's own socket; without one there has been no promotion yet."""
    door = settings.proxy / "admin.sock"
    if not door.exists():
        return ok("proxy", "not running; the first promotion starts it")
    with socket.socket(socket.AF_UNIX) as knock:
        knock.settimeout(3)
        try:
            knock.connect(str(door))
        except OSError as error:
            mend = "The next promotion starts it again, on the colour that was live. `pipe env` shows what should be."
            return warn("proxy", f"HAProxy does not answer at {door}: {error.strerror or error}", mend)
    return ok("proxy", "HAProxy answers")


def _routes() -> list[str]:
    """Return the networks that this machine itself is in or has routes to, the engine's own left out."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            device, destination, mask = line.split()[0], line.split()[1], line.split()[7]
            if not device.startswith(("docker", "br-")):
                number, bits = int(destination, 16).to_bytes(4, "little"), int(mask, 16).bit_count()
                found.append(f"{'.'.join(map(str, number))}/{bits}")
    return found


def _engine_disk(info: Info) -> Iterator[Check]:
    root = Path(str(info.get("DockerRootDir", "")))
    with contextlib.suppress(OSError):  # not on this machine, or not ours to look at
        yield _room("engine's disk", root)


def _room(name: str, where: Path) -> Check:
    free, files = shutil.disk_usage(where).free, os.statvfs(where)
    share = files.f_favail / files.f_files if files.f_files else 1.0
    return diagnosis.disk(name, str(where), free, share)


def _home(settings: Settings) -> Iterator[Check]:
    """Look at $PIPE_HOME: whether we may write there and nobody else may read, what it is on, and its room."""
    there = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    mend = f"Make {settings.home} yours: chown -R {settings.user} {there}; or set PIPE_HOME to a folder of your own."
    if not os.access(there, os.W_OK | os.X_OK):
        yield fail("permissions", f"no right to write to {there}", mend)
    elif there == settings.home and stat.S_IMODE(there.stat().st_mode) & 0o077:
        yield warn("permissions", f"others may look into {there}, where secrets are", f"chmod 700 {there}")
    else:
        yield ok(
            "permissions", f"{settings.home} is ours" if there == settings.home else f"{settings.home} can be made"
        )
    if (kind := _file_system(there)) in _REMOTE_FILES and settings.database_url.startswith("sqlite"):
        mend = "SQLite needs a local disk: set PIPE_HOME to one, or PIPE_DATABASE_URL to a PostgreSQL."
        yield fail("file system", f"{there} is on {kind}", mend)
    yield _room("disk", there)


def _file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on, or nothing where that can not be told."""
    best, kind = -1, ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            mounted, _, tail = line.partition(" - ")
            point = Path(mounted.split()[4].replace("\\040", " "))
            if folder.resolve().is_relative_to(point) and len(point.parts) >= best:
                best, kind = len(point.parts), tail.split()[0]
    return kind


def _database(settings: Settings) -> Check:
    scheme, _, path = settings.database_url.partition(":///")
    if scheme.startswith("sqlite") and not Path(path).exists():
        return ok("database", "the first run makes it")
    from pipeline.db import Database

    try:
        database = Database.open(settings)
    except PipeError as error:
        return fail("database", error.message, error.hint)
    try:
        return ok("database", f"{database.dialect}, installation {database.installation[:8]}")
    finally:
        database.close()


def _git() -> Check:
    try:
        done = process.run(("git", "--version"), env=passed_on(), timeout_seconds=_PATIENCE_SECONDS)
    except Unavailable as error:
        return fail("git", error.message, "Install git 2.30 or newer.")
    return (
        ok("git", done.text.removeprefix("git version "))
        if done.ok
        else fail("git", done.complaint, "Install git anew.")
    )
