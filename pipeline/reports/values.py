"""What a test report says, as values: cases, totals, findings. Nothing here reads a file.

The words are those of docs/reference/test-reports.md, which is the policy; the code follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

SUITE = "(suite)"
UNNAMED = "(no name)"


class Status(StrEnum):
    """How one test case ended; `flaky` is a case that passed after it had failed."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    FLAKY = "flaky"

    @property
    def bad(self) -> bool:
        """Tell whether this status keeps a stage from being green."""
        return self in (Status.FAILED, Status.ERROR)


@dataclass(frozen=True, slots=True)
class Case:
    """One test case with all its attempts.

    `id` is the same in every run and unique within one reading; `suite` is the path of nested suites;
    `file` may end in `:line`. `seconds` is None where the report states no usable time. `message`,
    `detail` and `output` are capped, and empty where the case passed at once.
    """

    id: str
    suite: str
    name: str
    classname: str
    file: str
    status: Status
    seconds: float | None = None
    message: str = ""
    detail: str = ""
    output: str = ""
    attempts: int = 1


Sink = Callable[[Sequence[Case]], None]


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of cases, and the sum of their seconds. `tests` is the sum of the five others."""

    tests: int = 0
    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0
    flaky: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, counts: Mapping[Status, int], seconds: float) -> Totals:
        """Make totals of a count per status."""
        passed, failed, errors, skipped, flaky = (counts.get(status, 0) for status in Status)
        return cls(sum(counts.values()), passed, failed, errors, skipped, flaky, seconds)

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.tests + other.tests,
            self.passed + other.passed,
            self.failed + other.failed,
            self.errors + other.errors,
            self.skipped + other.skipped,
            self.flaky + other.flaky,
            self.seconds + other.seconds,
        )

    def __str__(self) -> str:
        parts = {
            "failed": self.failed,
            "in error": self.errors,
            "flaky": self.flaky,
            "skipped": self.skipped,
            "passed": self.passed,
        }
        said = ", ".join(f"{count} {word}" for word, count in parts.items() if count)
        return f"{self.tests} {'test' if self.tests == 1 else 'tests'}" + (f": {said}" if said else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a report can not be trusted: where, what, and what to do."""

    file: str
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}: {self.hint}"


class Refused(Exception):
    """Something that is not taken in: what, and what to do. Inside this package only; it ends as a Finding."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def at(self, file: str) -> Finding:
        """Say it of a file or a pattern."""
        return Finding(file, self.what, self.hint)


@dataclass(frozen=True, slots=True)
class Report:
    """One file that was read. `broken` is set when it could not be read whole; its cases up to there count.

    `size` is in bytes read, `text` in characters of messages, details and outputs that were kept.
    """

    path: str
    totals: Totals = Totals()
    warnings: tuple[str, ...] = ()
    truncated: bool = False
    size: int = 0
    text: int = 0
    broken: Finding | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """All reports of one stage attempt, and what was wrong with them."""

    reports: tuple[Report, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def totals(self) -> Totals:
        """Sum the totals of all reports."""
        return sum((report.totals for report in self.reports), Totals())

    def verdict(self) -> str | None:
        """Say in one line why a stage whose commands succeeded must fail all the same; None when it need not."""
        if self.findings:
            more = len(self.findings) - 1
            return f"{self.findings[0]}" + (f" (and {more} more like it)" if more else "")
        if self.totals.failed or self.totals.errors:
            return f"the commands succeeded, but their reports do not: {self.totals}"
        return None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of hostile or careless reports is taken in. Sizes are bytes of files or characters of text.

    `total`, `cases` and `kept` are budgets of all reports of a stage attempt, the others of one report.
    """

    size: int = 256 * 1024 * 1024
    total: int = 1024 * 1024 * 1024
    cases: int = 500_000
    elements: int = 4_000_000
    depth: int = 64
    attributes: int = 256
    tag: int = 4 * 1024 * 1024
    names: int = 10_000
    label: int = 1_000
    message: int = 8_000
    text: int = 64_000
    kept: int = 16 * 1024 * 1024
    files: int = 5_000
