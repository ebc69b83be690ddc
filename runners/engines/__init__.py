"""The seam Engine: run one container for a stage. What a stage means is not known here.

Order of calls for one container: `create` -> `attach` -> `start` -> read the attached
stream to its end -> `wait` -> `remove`. `create` is idempotent by name: a container of
that name with the same labels is adopted, never doubled. After a crash: `find` by labels,
then `logs` from the first line, `wait`, `remove`; the exit code of a container that ended
meanwhile is read, not guessed. `remove`, `kill` and the removals of networks and volumes are
idempotent: what is gone is done. Every object carries `pipewright.installation`; objects
without it are never touched. Errors of the machine are `Unavailable` with a cause of the language; what the
author asked for and the image does not have (a shell, a user) is `StageFailed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

Stream = Literal["out", "err"]

# With all dropped, apt-get and PostgreSQL's own image fail on day one.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A host folder (`source` starts with /), a named volume, or, with no source, a tmpfs at `target`."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything about a container, as a value; compared with `==` in tests."""

    name: str  # deterministic: the intent that is recorded before `create`
    image: str  # id, repository@digest, or a reference of the author's
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    mounts: tuple[Mount, ...] = ()
    network: str = "none"  # a network's name, "none", or "container:<name>"
    aliases: tuple[str, ...] = ()  # names under which others in the network find it
    address: str = ""  # fixed IPv4 address in that network
    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    capabilities: tuple[str, ...] = CAPABILITIES
    stdin: bool = False  # the attached stream can be written to: how secrets get in
    restart: bool = False  # unless-stopped, for what stays alive
    init: bool = True
    stop_seconds: int = 10
    log_max_bytes: int = 0  # 0: unlimited and unrotated, removed with the container
    ephemeral: bool = False  # the engine removes it by itself as soon as it has ended; its exit code is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a container ended."""

    code: int
    oom: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What an engine says about a container of ours."""

    id: str
    name: str
    state: Literal["created", "running", "exited", "dead", "paused", "restarting", "removing"]
    labels: Mapping[str, str]
    image: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)  # network -> IPv4
    restarts: int = 0
    exit: Exit | None = None


class Attached(Protocol):
    """A container's output from its first byte, and its standard input where the spec asked for it."""

    def __iter__(self) -> Iterator[tuple[Stream, bytes]]:
        """Yield chunks as they come, until the container ends or the daemon is lost."""

    def write(self, data: bytes) -> None:
        """Write to standard input."""

    def end_input(self) -> None:
        """Close standard input."""

    def close(self) -> None:
        """Give the connection back; idempotent."""


class Engine(Protocol):
    """Runs containers; see the module for the order of calls."""

    shares_files: bool  # host folders can be mounted: the engine sees the worker's file system

    def check(self) -> None:
        """Raise Unavailable, saying what to do, unless the engine can be reached; before anything is begun."""

    def create(self, spec: ContainerSpec) -> str:
        """Create the container, or adopt the one of that name and labels; return its id. Pulls a missing image."""

    def attach(self, container: str) -> Attached:
        """Attach to a created container before it is started: nothing is lost."""

    def start(self, container: str) -> None:
        """Start it; a running one stays as it is."""

    def logs(self, container: str) -> Iterator[tuple[Stream, bytes]]:
        """Yield all output from the first byte, and follow it to the end."""

    def tail(self, container: str, *, lines: int) -> bytes:
        """Return the last lines of its output, running or not, out and err as they came; empty when it is gone."""

    def wait(self, container: str, *, timeout_seconds: float | None = None) -> Exit | None:
        """Return how it ended, or None when it still runs after `timeout_seconds`."""

    def execute(
        self, container: str, command: tuple[str, ...], *, env: Mapping[str, str] | None = None, user: str = ""
    ) -> tuple[int, bytes]:
        """Run a command in a running container; return exit code and output."""

    def stop(self, container: str, *, grace_seconds: int) -> None:
        """Ask it to end (SIGTERM), and after the grace make it end; idempotent."""

    def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal; a container that has ended or is gone is no error."""

    def remove(self, container: str) -> None:
        """Remove it, running or not, with its log; idempotent."""

    def inspect(self, container: str) -> Container | None:
        """Return what is known of it by id or name, or None."""

    def find(self, labels: Mapping[str, str]) -> list[Container]:
        """Return all containers, in any state, that carry these labels."""

    def copy_in(self, container: str, path: str, archive: BinaryIO | Iterable[bytes]) -> None:
        """Unpack a tar archive at `path` in a container, created or running."""

    def copy_out(self, container: str, path: str) -> Iterator[bytes] | None:
        """Yield a tar archive of `path`, or return None when it is not there."""

    def ensure_network(self, name: str, *, labels: Mapping[str, str], subnet: str = "", isolated: bool = False) -> None:
        """Make the network if it is missing; `isolated` forbids its members to reach each other."""

    def networks(self, labels: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of all our networks that carry these labels, by name."""

    def remove_network(self, name: str) -> None:
        """Remove it; idempotent."""

    def ensure_volume(self, name: str, *, labels: Mapping[str, str], in_memory: bool = False) -> None:
        """Make the volume if it is missing; one in memory keeps its files only while a running container mounts it."""

    def volumes(self, labels: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of all our volumes that carry these labels, by name."""

    def remove_volume(self, name: str) -> None:
        """Remove it; idempotent."""

    def image_id(self, reference: str) -> str | None:
        """Return the id of a local image, or None."""

    def image_user(self, reference: str) -> str | None:
        """Return as whom an image's containers run (a name, a number, "user:group", "" for root), None if not here."""

    def pull(self, reference: str, *, auth: Mapping[str, str] | None = None) -> str:
        """Pull an image and return its id. Raises Unavailable(cause="image_pull")."""

    def remove_image(self, reference: str) -> None:
        """Remove an image if nothing uses it; idempotent, with a deadline of its own."""


def is_same_host(url: str) -> bool:
    """Tell whether an engine at `url` sees this machine's files."""
    return url == "" or url.startswith("unix://") or Path(url).is_absolute()
