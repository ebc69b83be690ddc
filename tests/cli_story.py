"""A run of a shop as the views are told of it: data for tests, in the order in which it happened.

Time starts at 1000. `told(until)` gives the events up to a moment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.cli.view_board import Event, FailedTest, Output, PromotionSeen, ReportSeen, RunSeen, Said, StageSeen
from pipeline.model import Event as Cause
from pipeline.model import Image, Run, StageRun, Status

LAST = {"image": 20.0, "lint": 2.0, "unit [shard=1]": 12.0, "unit [shard=2]": 12.0, "push": 1.0, "release": 30.0}
RUN = Run(
    id=12,
    pipeline="shop",
    status=Status.RUNNING,
    reason="",
    event=Cause(kind="push", repository="/shop", ref="refs/heads/main", sha="1f79b46a" * 5, branch="main", dirty=True),
    definition={},
    environments={},
    trusted=True,
    scope="",
    created_at=1000.0,
    started_at=1000.0,
    finished_at=None,
    cancel_requested_at=None,
    retry_of=None,
)


def stage(name: str, kind: str = "run", *needs: str, status: Status = Status.QUEUED, **changes: Any) -> StageRun:
    """Return a stage of the shop's run."""
    order = list(LAST)
    blank = StageRun(
        id=order.index(name) + 1 if name in order else 99,
        run_id=12,
        position=order.index(name) if name in order else 98,
        name=name,
        base=name.partition(" ")[0],
        kind=kind,
        spec={},
        matrix={},
        needs=tuple({"stage": need, "optional": False} for need in needs),
        line=1,
        status=status,
        cause="",
        reason="",
        allow_failure=False,
        attempts=0 if status is Status.QUEUED else 1,
        outputs={},
        image=None,
        result={},
        started_at=None,
        finished_at=None,
    )
    return replace(blank, **changes)


IMAGE = stage("image", "build")
LINT = stage("lint")
UNIT1 = stage("unit [shard=1]", "run", "image")
UNIT2 = stage("unit [shard=2]", "run", "image")
PUSH = stage("push", "push", "image", "lint", "unit [shard=1]", "unit [shard=2]")
RELEASE = stage("release", "promote", "push")
ALL = (IMAGE, LINT, UNIT1, UNIT2, PUSH, RELEASE)

CACHE = {"instructions": 11, "hits": 9, "saved_seconds": 14.2, "steps": []}
WRONG = FailedTest(
    name="tests.test_cart::test_total", message="assert 3 == 4\n +  where 3 = total()", news="newly failing"
)


def _tested(name: str, at: float, *failing: FailedTest) -> ReportSeen:
    return ReportSeen(stage=name, tests=41, bad=len(failing), skipped=2 * len(failing), failing=failing, at=at)


def _seen(row: StageRun, at: float, **changes: Any) -> StageSeen:
    return StageSeen(stage=replace(row, **changes), at=at)


def _began(row: StageRun, at: float) -> StageSeen:
    return _seen(row, at, status=Status.RUNNING, attempts=1, started_at=at)


def _ended(row: StageRun, since: float, at: float, status: Status = Status.SUCCEEDED, **more: Any) -> StageSeen:
    return _seen(row, at, status=status, attempts=1, started_at=since, finished_at=at, **more)


def _says(name: str, first: int, text: str, at: float, stream: str = "out") -> Output:
    return Output(stage=name, attempt=1, stream=stream, first=first, text=text, at=at)


def _promotion(at: float, status: str, phase: str, **more: Any) -> PromotionSeen:
    return PromotionSeen(id=7, stage="release", environment="release", status=status, phase=phase, at=at, **more)


def opening() -> list[Event]:
    """Return the run's first half: the image is built, the tests run."""
    return [
        RunSeen(run=RUN, at=1000.0),
        *(StageSeen(stage=row, at=1000.0) for row in ALL),
        _began(IMAGE, 1000.1),
        _began(LINT, 1000.1),
        _says("image", 1, "#1 [base 1/3] FROM debian:12\n#1 CACHED", 1000.5),
        _says("lint", 1, "\x1b[32mAll checks passed!\x1b[0m", 1001.8),
        _ended(LINT, 1000.1, 1002.0),
        _says("image", 3, "#9 exporting to image", 1005.0),
        _ended(IMAGE, 1000.1, 1006.0, result={"cache": CACHE}, image=Image(id="sha256:" + "ab" * 32)),
        _began(UNIT1, 1006.1),
        _began(UNIT2, 1006.1),
        _says("unit [shard=1]", 1, "collected 41 items\n" + "tests/test_cart.py ." * 3, 1007.0),
        _says("unit [shard=2]", 1, "collected 41 items", 1007.1, "err"),
    ]


def failing() -> list[Event]:
    """Return a run whose tests failed."""
    why = "`pytest` exited with 1"
    return [
        *opening(),
        _says("unit [shard=1]", 3, "E   assert 3 == 4", 1013.9),
        _tested(UNIT1.name, 1014.0, WRONG),
        _ended(UNIT1, 1006.1, 1014.0, Status.FAILED, cause="failed", reason=why),
        _tested(UNIT2.name, 1015.0),
        _ended(UNIT2, 1006.1, 1015.0),
        _seen(PUSH, 1015.0, status=Status.SKIPPED, reason="unit [shard=1] failed"),
        _seen(RELEASE, 1015.0, status=Status.SKIPPED, reason="push was skipped"),
        RunSeen(run=replace(RUN, status=Status.FAILED, reason="unit [shard=1] failed", finished_at=1015.0), at=1015.0),
    ]


def _to_the_gate() -> list[Event]:
    digest = Image(id="sha256:" + "ab" * 32, repository="127.0.0.1:5461/shop", digest="sha256:" + "cd" * 32)
    return [
        *opening(),
        _tested(UNIT1.name, 1014.0),
        _ended(UNIT1, 1006.1, 1014.0),
        _tested(UNIT2.name, 1015.0),
        _ended(UNIT2, 1006.1, 1015.0),
        _began(PUSH, 1015.1),
        _ended(PUSH, 1015.1, 1016.0, image=digest),
        _began(RELEASE, 1016.1),
    ]


def waiting() -> list[Event]:
    """Return a run that stands at the gate of release."""
    return [
        *_to_the_gate(),
        _seen(RELEASE, 1016.2, status=Status.WAITING, attempts=1, started_at=1016.1),
        _promotion(1016.2, "requested", ""),
        RunSeen(run=replace(RUN, status=Status.WAITING), at=1016.2),
    ]


def released() -> list[Event]:
    """Return a run that went live."""
    live = {"colour": "green", "url": "http://127.0.0.1:8081"}
    phases = ("locked", "pulling", "creating", "waiting_ready", "verifying", "switching")
    return [
        *_to_the_gate(),
        *(_promotion(1017.0 + i / 10, "deploying", phase, colour="green") for i, phase in enumerate(phases)),
        _promotion(1018.0, "deploying", "baking", until=1028.0, **live),
        _promotion(1028.0, "live", "done", **live),
        _ended(RELEASE, 1016.1, 1028.0),
        Said(text="blue stays warm for 30 minutes; the next `pipe` command after that removes it", at=1028.0),
        RunSeen(run=replace(RUN, status=Status.SUCCEEDED, finished_at=1028.0), at=1028.0),
    ]


def unready() -> list[Event]:
    """Return a run whose new colour did not become ready."""
    why = (
        "green was not ready within 5 s: 1 of 1 replicas are not ready\n"
        "GET /healthz at 198.18.192.5:8000: status 404\n"
        "  the image must answer 200 at /healthz on the process's port, or `app.processes` must say another `health`"
    )
    return [
        *_to_the_gate(),
        _promotion(1017.0, "deploying", "waiting_ready", colour="green"),
        _promotion(1022.0, "failed", "waiting_ready", colour="green", reason=why),
        _ended(RELEASE, 1016.1, 1022.0, Status.FAILED, cause="failed", reason=why),
        RunSeen(run=replace(RUN, status=Status.FAILED, reason="release failed", finished_at=1022.0), at=1022.0),
    ]
