"""What the views are told of a run's test reports, read from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.cli.view_board import FailedTest, ReportSeen

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.results import StageCase

_SHOWN = 50


def reports_of(db: Database, run_id: int, *, at: float) -> list[ReportSeen]:
    """Return the sums of each stage's reports, with the tests that failed."""
    from pipeline import results

    failing = results.failing(db, run_id, limit=_SHOWN)
    return [
        ReportSeen(
            stage=stage,
            tests=totals.tests,
            bad=totals.failed + totals.errors,
            skipped=totals.skipped,
            flaky=totals.flaky,
            failing=tuple(_failed(one) for one in failing if one.stage == stage),
            at=at,
        )
        for stage, totals in results.totals(db, run_id).items()
    ]


def _failed(one: StageCase) -> FailedTest:
    case = one.case
    return FailedTest(name=case.id, message=case.message or case.detail, news=str(one.news or ""))
