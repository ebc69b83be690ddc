"""How things are measured: interleaved rounds in a rotated order, paired ratios, medians. Times vary, ratios less."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Row:
    """One line of the table; `bound` is what was promised."""

    name: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = False
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Tell whether the bound holds, or None without one."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True)
class Ran:
    """How one process ran: seconds of wall time, peak resident memory in MB, output."""

    seconds: float
    peak_mb: float
    code: int
    out: str


def run(argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Ran:
    """Run a process to its end, and say what it took."""
    began = time.perf_counter()
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as child:
        assert child.stdout
        out = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        return Ran(time.perf_counter() - began, usage.ru_maxrss / 1024, child.returncode, out.decode(errors="replace"))


def demand(ran: Ran, what: str) -> Ran:
    """Return it if it succeeded: a figure of something that failed is no figure."""
    if ran.code != 0:
        raise SystemExit(f"{what} failed with exit code {ran.code}:\n{ran.out[-3000:]}")
    return ran


def rounds(ways: Mapping[str, Callable[[], float]], *, count: int, warm: int = 1) -> dict[str, list[float]]:
    """Measure each way `count` times, interleaved, beginning with another one each round; warm-ups are thrown away."""
    names = list(ways)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm + count):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            seconds = ways[name]()
            if number >= warm:
                figures[name].append(seconds)
    return figures


def ratio(figures: Mapping[str, list[float]], name: str, floor: str) -> float:
    """Return the median of the rounds' ratios of one way to another."""
    return median(a / b for a, b in zip(figures[name], figures[floor], strict=True))


def difference(figures: Mapping[str, list[float]], name: str, floor: str) -> float:
    """Return the median of the rounds' differences, in seconds."""
    return median(a - b for a, b in zip(figures[name], figures[floor], strict=True))
