"""The seam Target: keep a release alive, in two colours. Who gets the traffic is the Router's.

Order of calls for one swap: `prepare` (networks, accessories) -> `pull` -> `run_before` (once per
promotion; a hook that ran is looked up, never run again) -> `up` (the idle colour only) -> ... ->
`retire` (after the router was asked). All are idempotent and keyed by the promotion's id in labels;
`up` adopts what is there for the same promotion and replaces what belongs to another one.
Every (environment, colour, process, replica) has a fixed address, because Docker hands a dead
container's address to the next one that starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.model import Colour


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What is put live, frozen at the request: everything the switch and a rollback depend on."""

    application: str
    images: Mapping[str, str]  # process -> reference by digest (or image id without a registry)
    processes: Mapping[str, Mapping[str, Any]]  # process -> definition.Process as data, replicas resolved
    accessories: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    run: int = 0
    commit: str = ""
    config_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An environment as a target sees it."""

    environment_id: int
    application: str
    name: str
    installation: str
    subnet: str  # IPv4 network of this environment

    @property
    def key(self) -> str:
        """Return `application.environment`, the prefix of every object's name."""
        return f"{self.application}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One replica as the router must know it."""

    process: str
    replica: int
    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One running thing as the target observes it."""

    process: str
    replica: int
    colour: Colour
    promotion: int
    state: str  # running | exited | ...
    restarts: int = 0
    exit_code: int | None = None
    address: str = ""
    epoch: int = 0
    config_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Commands that look at the idle colour from inside the environment's network."""

    promotion: int
    image: str
    commands: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    workspace: str = ""  # a folder of this host, mounted at /workspace
    prefix: str = ""  # the folder in it where the commands start
    timeout_seconds: float = 600.0


class Target(Protocol):
    """Keeps releases alive; see the module for the order of calls."""

    def prepare(self, place: Place, release: Release, secrets: Mapping[str, str]) -> None:
        """Make what both colours share: network, volumes, accessories until ready."""

    def pull(self, release: Release) -> None:
        """Bring every image here. Raises Unavailable(cause="image_pull")."""

    def run_before(self, place: Place, release: Release, promotion: int, secrets: Mapping[str, str]) -> str:
        """Run the before-hook once for this promotion and return its output. Raises StageFailed."""

    def forget_before(self, place: Place, promotion: int) -> None:
        """Remove what the before-hook left, after its end was recorded; idempotent."""

    def servers(self, place: Place, release: Release, colour: Colour) -> list[Server]:
        """Return where the replicas of this colour are or will be: fixed, known before they start."""

    def up(
        self, place: Place, release: Release, colour: Colour, promotion: int, epoch: int, secrets: Mapping[str, str]
    ) -> None:
        """Make this colour run exactly this release."""

    def stop_single(self, place: Place, release: Release, colour: Colour) -> None:
        """Stop the processes of a colour that must not run twice (`swap: stop_then_start`)."""

    def start_single(
        self, place: Place, release: Release, colour: Colour, promotion: int, epoch: int, secrets: Mapping[str, str]
    ) -> None:
        """Start the processes of a colour that must not run twice."""

    def run_check(self, place: Place, check: Check, on_output: Callable[[bytes], None]) -> int | None:
        """Run commands inside the environment's network and return the exit code, None when time was up.

        Repeatable: what an earlier try left is removed first. Raises StageFailed, Unavailable.
        """

    def observe(self, place: Place) -> list[Instance]:
        """Return everything of this environment that exists, whatever made it."""

    def logs(self, place: Place, colour: Colour, *, lines: int) -> str:
        """Return the last lines of this colour's containers, for a person who asks why."""

    def retire(self, place: Place, colour: Colour, *, grace_seconds: int) -> None:
        """Stop and remove a colour; idempotent. The caller has asked the router just before."""

    def clear(self, place: Place) -> None:
        """Remove everything of an environment in which nothing is live, except its volumes; idempotent."""
