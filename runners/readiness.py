"""When a colour can take over: the addresses of its replicas are exactly those that the router finds up.

And what to tell a person when it never does. Decides nothing about what comes next.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline import swaps
from pipeline.definition import Health, Process
from pipeline.errors import StageFailed, Unavailable

if TYPE_CHECKING:
    from pipeline.model import Colour
    from runners.promotion import Swap
    from runners.targets import Instance, Release

POLL_SECONDS = 0.1
STEADY_SECONDS = 1.0  # a process without a health check counts as ready after running this long
LOG_LINES = 15


def processes(release: Release) -> list[Process]:
    """Return the processes of a release."""
    return [Process.model_validate(data) for data in release.processes.values()]


def health(release: Release, process: str | None) -> Health:
    """Return how a process says that it can take requests."""
    return Process.model_validate(release.processes[process]).health if process else Health()


def grace_seconds(release: Release) -> int:
    """Return how long the slowest process may take to stop."""
    return max((math.ceil(process.stop_grace) for process in processes(release)), default=10)


def wanted(swap: Swap, colour: Colour) -> set[str]:
    """Return the addresses that must be up: from the definition, never from what runs."""
    return {f"{s.address}:{s.port}" for s in swap.servers(swap.release, colour)}


def is_ready(swap: Swap, colour: Colour) -> bool:
    """Tell whether every replica runs for this promotion, and the router finds exactly these up."""
    mine = _mine(swap, colour)
    running = {(i.process, i.replica) for i in mine if i.state == "running"}
    expected = {
        (name, replica)
        for name, data in swap.release.processes.items()
        if (process := Process.model_validate(data)).swap == "blue_green"
        for replica in range(1, process.replicas + 1)
    }
    return expected <= running and swap.router.traffic(swap.route, colour).up == wanted(swap, colour)


def is_served(swap: Swap) -> bool:
    """Tell whether the warm colour still is what it was: a rollback to it is only the route."""
    colour = swaps.colour_of(swap.made)
    if is_ready(swap, colour):
        return True
    swap.telling.say(f"the warm {colour} is no longer whole; its release is started again")
    return False


def wait(swap: Swap) -> None:
    """Return when the colour is ready. Raises StageFailed at the stored deadline, or as soon as a replica ends."""
    colour = swaps.colour_of(swap.made)
    deadline = swap.made.ready_by or 0.0
    steady_since: float | None = None
    checked = any(process.port is None for process in processes(swap.release))
    while True:
        crashed = [i for i in _mine(swap, colour) if i.restarts or i.state in ("exited", "dead", "restarting")]
        if crashed:
            raise StageFailed(_crashed(swap, colour, crashed), hint="the route was not touched; mend how it starts")
        now = swap.hands.db.now()
        if is_ready(swap, colour):
            steady_since = now if steady_since is None else steady_since
            if not checked or now - steady_since >= STEADY_SECONDS:
                return
        else:
            steady_since = None
        if now >= deadline:
            raise StageFailed(_never(swap, colour), hint=_hint(swap))
        swap.pause(POLL_SECONDS)


def _mine(swap: Swap, colour: Colour) -> list[Instance]:
    carrier = swap.made.carrier
    return [i for i in swap.target.observe(swap.place) if i.colour == colour and i.promotion == carrier]


def _crashed(swap: Swap, colour: Colour, crashed: list[Instance]) -> str:
    who = ", ".join(f"{i.process} {i.replica}" for i in crashed)
    code = next((i.exit_code for i in crashed if i.exit_code is not None), None)
    ended = "ended" if code is None else f"ended with {code}"
    return f"{colour} did not stay up: {who} {ended}\n{_logs(swap, colour)}"


def _never(swap: Swap, colour: Colour) -> str:
    try:
        found = swap.router.traffic(swap.route, colour)
    except Unavailable as error:
        return f"{colour} was not seen to be ready: {error.message}"
    check = health(swap.release, swap.public)
    left = sorted(wanted(swap, colour) - found.up)
    said = "; ".join(f"GET {check.http} at {where}: {found.checks.get(where, 'unknown')}" for where in left)
    missing = f"{len(left)} of {len(wanted(swap, colour))} replicas are not ready" if left else "not every process runs"
    return f"{colour} was not ready within {check.timeout:g} s: {missing}\n  {said}\n{_logs(swap, colour)}"


def _hint(swap: Swap) -> str:
    check = health(swap.release, swap.public)
    return (
        f"the route was not touched; the image must answer {check.status} at {check.http} on the process's port,"
        " or `app.processes` must say another `health: {http: …}`, `port` or a longer `timeout`"
    )


def _logs(swap: Swap, colour: Colour) -> str:
    text = swap.target.logs(swap.place, colour, lines=LOG_LINES)
    return "\n".join(f"  | {line}" for line in text.splitlines())
