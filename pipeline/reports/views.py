"""What a person wants to see of many cases: failing ones first, the slowest, and what changed since the last runs.

Pure functions and one sink with flat memory. History is asked of the database elsewhere and given here as statuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from heapq import heappush, heappushpop, nlargest
from itertools import pairwise

from pipeline.reports.values import Case, Status

_ORDER = {Status.FAILED: 0, Status.ERROR: 0, Status.FLAKY: 1, Status.SKIPPED: 2, Status.PASSED: 3}


class News(StrEnum):
    """What is noteworthy about a test when its earlier results are known."""

    NEWLY_FAILING = "newly failing"
    STILL_FAILING = "still failing"
    FIXED = "fixed"
    FLAKY = "flaky"


def classify(current: Status, previous: Sequence[Status]) -> News | None:
    """Compare a result with earlier ones of the same test, newest first; None when there is nothing to tell.

    Skipped results say nothing and are passed over. Two or more changes between good and bad among the earlier
    results make a failure flaky rather than new.
    """
    told = [status.bad for status in previous if status is not Status.SKIPPED]
    if current is Status.SKIPPED:
        return None
    if current is Status.FLAKY:
        return News.FLAKY
    if current.bad and told and told[0]:
        return News.STILL_FAILING
    if current.bad:
        changes = sum(one != other for one, other in pairwise(told))
        return News.FLAKY if changes >= 2 or Status.FLAKY in previous else News.NEWLY_FAILING
    return News.FIXED if told and told[0] else None


def failing_first(cases: Iterable[Case]) -> list[Case]:
    """Sort failed and broken cases to the front, then flaky, skipped and passed ones; otherwise the order stays."""
    return sorted(cases, key=lambda case: _ORDER[case.status])


def slowest(cases: Iterable[Case], count: int) -> list[Case]:
    """List the cases that took longest, longest first; those without a time are left out."""
    return nlargest(count, (case for case in cases if case.seconds is not None), key=lambda case: case.seconds or 0.0)


class Highlights:
    """A sink that remembers only what a summary shows: the first failing, the first flaky, the slowest cases."""

    def __init__(self, *, failing: int = 50, slow: int = 10) -> None:
        self.failing: list[Case] = []
        self.flaky: list[Case] = []
        self._most_failing = failing
        self._most_slow = slow
        self._slow: list[tuple[float, int, Case]] = []
        self._seen = 0

    def __call__(self, cases: Sequence[Case]) -> None:
        """Take a batch."""
        for case in cases:
            self._seen += 1
            if case.status.bad and len(self.failing) < self._most_failing:
                self.failing.append(case)
            elif case.status is Status.FLAKY and len(self.flaky) < self._most_failing:
                self.flaky.append(case)
            if case.seconds is not None and self._most_slow:
                entry = (case.seconds, -self._seen, case)
                if len(self._slow) < self._most_slow:
                    heappush(self._slow, entry)
                elif entry > self._slow[0]:
                    heappushpop(self._slow, entry)

    @property
    def slowest(self) -> list[Case]:
        """The cases that took longest, longest first."""
        return [case for _, _, case in sorted(self._slow, reverse=True)]
