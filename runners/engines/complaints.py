"""What the daemon's complaints mean: the same trouble as an error of ours, with what to do about it.

The daemon tells most things only in English text, so this is a table of phrases. It decides nothing and
calls nothing; a complaint that is not in the table is passed on as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import PipeError, StageFailed, Unavailable


@dataclass(frozen=True, slots=True)
class _Complaint:
    pattern: re.Pattern[str]
    message: str  # may use the pattern's groups: {0}, {1}
    hint: str
    cause: str = "errored"
    author: bool = False  # the author's news, not the machine's
    code: int | None = None


def _entry(pattern: str, message: str, hint: str, **rest: object) -> _Complaint:
    return _Complaint(re.compile(pattern, re.IGNORECASE | re.DOTALL), message, hint, **rest)  # type: ignore[arg-type]


_UNREACHABLE = (
    _entry(
        r"permission denied",
        "no permission to use the Docker engine at {where}",
        "add yourself to the group of its socket (`usermod -aG docker NAME`, then log in again), or run as root",
    ),
    _entry(
        r"no such file|connection refused|connection aborted|filenotfounderror|connectionrefused",
        "no Docker engine answers at {where}",
        "start it (`make setup` installs and starts one), or name another in PIPE_ENGINE; `pipe doctor` looks closer",
    ),
    _entry(
        r"api version|is no longer supported|is too (new|old)",
        "the Docker engine at {where} speaks another version of its API",
        "Docker Engine 20.10 or newer is needed; `pipe doctor` says which one answers",
    ),
    _entry(
        r"timed? ?out",
        "the Docker engine at {where} did not answer in time",
        "look at the machine's load and at the daemon's log; `pipe doctor` looks closer",
        cause="runner_lost",
    ),
)

_ANSWERS = (
    _entry(
        r"no space left on device|disk quota exceeded",
        "the Docker engine's disk is full",
        "free space with `pipe gc` (ours only) or `docker system prune`; `pipe doctor` shows the disk",
    ),
    _entry(
        r"(port is already allocated|address already in use)",
        "a port is in use already",
        "find who listens there (`ss -ltnp`), or choose another port",
    ),
    _entry(
        r"non-overlapping IPv4 address pool|predefined address pools|fully subnetted",
        "the Docker engine has no free network address range left",
        "remove networks that nobody uses (`pipe gc`, `docker network prune`), or give the daemon larger"
        " `default-address-pools`",
    ),
    _entry(
        r"pool overlaps with other one|networks have overlapping",
        "the network's address range is used by another network",
        "remove the other network, or set PIPE_SUBNETS to a range that is free",
    ),
    _entry(
        r"manifest unknown|manifest for .* not found|repository does not exist|not found: does not exist|no such image",
        "there is no image `{subject}`",
        "check its name and tag; an image of a private registry needs a login",
        cause="image_pull",
    ),
    _entry(
        r"unauthorized|access.*denied|authentication required|no basic auth",
        "the registry refuses to give the image `{subject}`",
        "log in to its registry, or check the name: registries answer so for images that are not there, too",
        cause="image_pull",
    ),
    _entry(
        r"toomanyrequests|rate limit",
        "the registry gives no more images for now: its rate limit is reached",
        "log in to the registry, use a mirror, or wait",
        cause="image_pull",
    ),
    _entry(
        r"no such host|i/o timeout|network is unreachable|TLS handshake|x509|connection refused",
        "the registry of the image `{subject}` can not be reached",
        "check the registry's name, the network and its certificate; an image that is here already is used as it is",
        cause="image_pull",
    ),
    _entry(
        r"invalid reference format|invalid repository name",
        "`{subject}` is not the name of an image",
        "an image is written as name:tag, registry/name:tag or name@sha256:…",
        cause="image_pull",
    ),
    _entry(
        r'exec: "?([^":]+)"?: (?:executable file not found|stat .*no such file|no such file)',
        "the image `{subject}` has no `{0}`",
        "name a shell that it has with `shell:`, or use another image",
        author=True,
        code=127,
    ),
    _entry(
        r'exec: "?([^":]+)"?: (?:permission denied|is a directory)',
        "`{0}` in the image `{subject}` can not be executed",
        "check its mode in the image, or use another image",
        author=True,
        code=126,
    ),
    _entry(
        r"exec format error",
        "the image `{subject}` is built for another kind of processor",
        "use an image for this machine's platform",
        author=True,
        code=126,
    ),
    _entry(
        r"unable to find (user|group) ([^:]+):",
        "the image `{subject}` has no {0} `{1}`",
        'use a name from its /etc/passwd, or numbers: `user: "1000:1000"`',
        author=True,
        code=126,
    ),
    _entry(
        r"chdir to cwd \(\"?([^\")]+)\"?\)[^:]*: (.*)",
        "the work folder {0} can not be entered in the image `{subject}`",
        "check `workdir` and the rights of `user`",
        author=True,
        code=126,
    ),
    _entry(
        r"bind source path does not exist: (\S+)",
        "the engine does not see the folder {0}",
        "is it on this machine, and shared with the engine (Docker Desktop: Settings, Resources, File sharing)?",
    ),
)


def unreachable(text: str, *, where: str) -> Unavailable:
    """Return the error for a daemon that could not be talked to."""
    for entry in _UNREACHABLE:
        if entry.pattern.search(text):
            return Unavailable(entry.message.format(where=where), hint=entry.hint, cause=entry.cause)
    return Unavailable(
        f"the Docker engine at {where} can not be used: {_short(text)}", hint="`pipe doctor` looks closer"
    )


def lost(text: str, *, where: str) -> Unavailable:
    """Return the error for a daemon that went away in the middle of something."""
    return Unavailable(
        f"the connection to the Docker engine at {where} was lost: {_short(text)}",
        hint="the daemon was stopped or restarted; look at its log",
        cause="runner_lost",
    )


def refused(text: str, *, doing: str, subject: str) -> PipeError:
    """Return the error for a daemon that answered no."""
    for entry in _ANSWERS:
        if found := entry.pattern.search(text):
            message = entry.message.format(*found.groups(), subject=subject)
            if entry.author:
                return StageFailed(message, hint=entry.hint, code=entry.code)
            return Unavailable(f"{message} ({_short(text)})", hint=entry.hint, cause=entry.cause)
    return Unavailable(f"{doing}: {_short(text)}", hint="the daemon's log says more; `pipe doctor` looks closer")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:297] + "..."
