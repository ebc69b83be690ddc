"""What a person who watches a run has been told so far: one state, changed by events, drawn by the views.

No terminal, no clock and no database here: events come in, and the views ask. Who
produces the events is `view_follow`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.model import Run, StageRun, Status

TAIL = 12  # lines of a stage's output that are kept for the summary


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSeen:
    """The run as it is now."""

    run: Run
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSeen:
    """A stage as it is now, after it has moved."""

    stage: StageRun
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Whole lines of a stage's output, without the last newline; `first` is the number of the first."""

    stage: str
    attempt: int
    stream: str  # out, err, or pipe for what the engine says
    first: int
    text: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionSeen:
    """A promotion of this run as it is now: the steps of the swap, the gate, the address."""

    id: int
    stage: str
    environment: str
    status: str
    phase: str
    colour: str = ""
    url: str = ""
    preview: str = ""
    until: float | None = None  # when the present phase ends by itself: bake, gate
    reason: str = ""
    first: bool = False  # nothing was live there before
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTest:
    """A test that said no, and what it said; `news` is empty where nothing is known of earlier runs."""

    name: str
    message: str = ""
    news: str = ""  # newly failing | still failing | flaky


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSeen:
    """The test reports of a stage that has ended; `failing` may be cut short."""

    stage: str
    tests: int
    bad: int
    skipped: int = 0
    flaky: int = 0
    failing: tuple[FailedTest, ...] = ()
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A word of the command itself, such as that it is cancelling; `lasting` ones are said again at the end."""

    text: str
    lasting: bool = True
    at: float = 0.0


Event = RunSeen | StageSeen | Output | PromotionSeen | ReportSeen | Said


@dataclass
class Board:
    """The run, its stages in order, its promotions, and the tails of the output."""

    last: Mapping[str, float] = field(default_factory=dict)  # seconds of each stage in the last good run
    run: Run | None = None
    stages: dict[str, StageRun] = field(default_factory=dict)
    promotions: dict[str, PromotionSeen] = field(default_factory=dict)  # by stage
    reports: dict[str, ReportSeen] = field(default_factory=dict)  # by stage
    tails: dict[str, deque[str]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Change the state as the event says."""
        match event:
            case RunSeen():
                self.run = event.run
            case StageSeen():
                self.stages[event.stage.name] = event.stage
            case PromotionSeen():
                self.promotions[event.stage] = event
            case ReportSeen():
                self.reports[event.stage] = event
            case Output():
                tail = self.tails.setdefault(event.stage, deque(maxlen=TAIL))
                tail.extend(event.text.rsplit("\n", TAIL)[-TAIL:])
            case Said(lasting=True):
                self.said.append(event.text)

    @property
    def ordered(self) -> list[StageRun]:
        """Return the stages in the order of the file."""
        return sorted(self.stages.values(), key=lambda stage: stage.position)

    def failing(self, stage: StageRun) -> tuple[FailedTest, ...]:
        """Return the tests of this stage that failed, the new ones first."""
        report = self.reports.get(stage.name)
        found = [test for test in report.failing if test.news != "flaky"] if report else []
        return tuple(sorted(found, key=lambda test: test.news != "newly failing"))

    @property
    def waiting(self) -> list[PromotionSeen]:
        """Return the promotions that wait for a person."""
        return [p for p in self.promotions.values() if p.status == "requested" or p.phase == "gate"]

    def elapsed(self, now: float) -> float:
        """Return how long the run has been going on, or how long it took."""
        if self.run is None:
            return 0.0
        begun = self.run.started_at or self.run.created_at
        return max((self.run.finished_at or now) - begun, 0.0)

    def last_total(self) -> float | None:
        """Return how long the slowest chain of these stages took last time, or None where that is not known."""
        ends: dict[str, float] = {}
        for stage in self.ordered:
            if stage.status is Status.SKIPPED:
                continue
            if stage.name not in self.last:
                return None
            needs = (ends.get(str(need["stage"]), 0.0) for need in stage.needs)
            ends[stage.name] = max(needs, default=0.0) + self.last[stage.name]
        return max(ends.values(), default=None)


def took(stage: StageRun, now: float) -> float | None:
    """Return how long a stage took or has been running; None before it began."""
    if stage.started_at is None:
        return None
    return max((stage.finished_at or now) - stage.started_at, 0.0)


def unmet(stage: StageRun, stages: Mapping[str, StageRun]) -> list[str]:
    """Return the names of the stages that this one still waits for."""
    names = [str(need["stage"]) for need in stage.needs]
    return [name for name in names if name in stages and not stages[name].status.final]
