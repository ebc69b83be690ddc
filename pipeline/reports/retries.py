"""Attempts of one test become one case, and equal names become distinct ids.

A retry is a failure followed by another attempt of the same id in the same report. Nothing is retried after it
passed: a failure that follows a pass is a case of its own, and is never explained away.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.reports.text import clip
from pipeline.reports.values import SUITE, UNNAMED, Case, Limits, Status

HELD = 5_000
_SHOWN_ATTEMPTS = 20


class Ids:
    """Counts how often each id was used; one of these spans all reports of a stage attempt."""

    def __init__(self) -> None:
        # Hashes instead of texts: 150 000 cases must not cost more than some ten megabytes.
        self._used: dict[int, int] = {}

    def number(self, case: Case) -> Case:
        """Return the case under an id not used before: the second `x` is `x #2`."""
        count = self._count(case.id)
        if count == 1:
            return case
        while self._count(name := f"{case.id} #{count}") > 1:  # some test is really called `x #2`
            count += 1
        return replace(case, id=name)

    def _count(self, name: str) -> int:
        key = hash(name)
        used = self._used[key] = self._used.get(key, 0) + 1
        return used


class Attempts:
    """Holds failing cases of one report back until their retry arrives or the report ends."""

    def __init__(self, ids: Ids, limits: Limits) -> None:
        self._ids = ids
        self._limits = limits
        self._failing: dict[str, Case] = {}

    def take(self, case: Case) -> Case | None:
        """Return the case when its last attempt is known, else None. Beyond `HELD` failing cases none is held."""
        earlier = self._failing.get(case.id)
        if earlier is None or case.status is Status.SKIPPED:
            numbered = self._ids.number(case)
            if not case.status.bad or case.name in (SUITE, UNNAMED) or len(self._failing) >= HELD:
                return numbered
            self._failing[case.id] = numbered
            return None
        merged = self._merge(earlier, case)
        if merged.status.bad:
            self._failing[case.id] = merged
            return None
        del self._failing[case.id]
        return merged

    def rest(self) -> list[Case]:
        """Return the cases that no retry mended, in the order of their first attempts."""
        left, self._failing = list(self._failing.values()), {}
        return left

    def _merge(self, earlier: Case, later: Case) -> Case:
        limits = self._limits
        known = [seconds for seconds in (earlier.seconds, later.seconds) if seconds is not None]
        detail, output = earlier.detail, earlier.output
        if later.status.bad and earlier.attempts < _SHOWN_ATTEMPTS:
            again = f"\n--- attempt {earlier.attempts + 1}: {later.message}\n"
            detail = clip(detail + again + later.detail, limits.text)
            output = clip(output + later.output, limits.text)
        return replace(
            earlier,
            status=later.status if later.status.bad else Status.FLAKY,
            seconds=sum(known) if known else None,
            detail=detail,
            output=output,
            attempts=earlier.attempts + later.attempts,
        )
