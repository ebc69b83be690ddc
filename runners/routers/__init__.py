"""The seam Router: say which colour of an environment gets the traffic, and read it back.

`ensure` may reload the proxy without failing a request; `take` makes an epoch current;
`point` is the one line that users feel: it refuses an epoch older than the one taken (`LeaseLost`),
writes the durable truth first, changes the running proxy, and returns only after both were read back.
Ready means: the addresses of the new replicas equal the proxy's UP servers, on every proxy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.model import Colour
from runners.targets import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One colour as the proxy serves it."""

    servers: tuple[Server, ...]
    health_path: str = "/"
    health_status: int = 200
    health_interval_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An environment as a router sees it."""

    key: str  # application.environment
    port: int = 0  # public port of its own, or 0
    host: str = ""  # or a host name on the shared port
    preview_port: int = 0  # reaches the colour that is not live
    gateway: str = ""  # address of the host in the environment's network: previews are reached there too


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a router observes of one colour."""

    up: frozenset[str]  # "address:port" of the usable servers
    sessions: int  # requests and tunnels under way
    requests: int  # since the proxy started
    errors: int  # 5xx and connection errors since the proxy started
    checks: Mapping[str, str] = field(default_factory=dict)  # "address:port" -> what its last health check said


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointing:
    """Where the traffic goes: as recorded on disk and as the running proxy does."""

    recorded: Colour | None
    running: Colour | None  # None as well when the proxy is down
    epoch: int
    alive: bool
    fell_back: bool = False  # the proxy itself went back to the warm colour: an incident


class Router(Protocol):
    """Says who gets the traffic; see the module for the order of calls."""

    def ensure(self, route: Route, colour: Colour, backend: Backend) -> None:
        """Make the proxy know this environment and the servers of one colour. Reloads only when something changed."""

    def wake(self) -> None:
        """Make the router run again as recorded, when it does not; idempotent."""

    def suspend(self, route: Route, colour: Colour) -> None:
        """Stop checking a colour that is not live, before its servers are replaced: none of them counts as up.

        Else an address that answered a moment ago would count as ready. Raises NeedsAttention for the live colour.
        """

    def examine(self, route: Route, colour: Colour) -> None:
        """Check a suspended colour from now on; each server is down until its checks have passed."""

    def look(self, route: Route) -> Pointing:
        """Return where the traffic goes."""

    def take(self, route: Route, epoch: int) -> None:
        """Make `epoch` current: from now on older ones are refused."""

    def point(self, route: Route, colour: Colour, *, epoch: int, warm: Colour | None) -> None:
        """Send new requests to `colour`; `warm` may be fallen back to. Raises LeaseLost for an old epoch."""

    def forget_warm(self, route: Route, *, epoch: int) -> None:
        """End the falling back: the old colour is about to be retired."""

    def traffic(self, route: Route, colour: Colour) -> Traffic:
        """Return what one colour is doing."""

    def probe(self, route: Route) -> Colour | None:
        """Ask through the public port which colour answers; None when nothing does."""

    def cut(self, route: Route, colour: Colour) -> int:
        """End what is still under way on a colour after its drain deadline; return how many."""

    def urls(self, route: Route) -> tuple[str, str]:
        """Return the public URL and the preview URL."""

    def remove(self, route: Route, colours: Sequence[Colour] = ()) -> None:
        """Forget colours of an environment, or all of it; idempotent."""
