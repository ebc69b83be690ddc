"""Test results in the record, with their history: failing first, slowest, flaky, newly failing.

Recorded again after a crash, the later recording counts. How a report is read and what is noteworthy about a
test is `reports`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, delete, insert, or_, select

from pipeline.masking import Masker
from pipeline.model import StageRun
from pipeline.reports import Case, Reading, Report, Sink, Totals
from pipeline.reports import Status as CaseStatus
from pipeline.reports.views import News, classify
from pipeline.schema import cases, reports, runs, stages

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

    from pipeline.db import Database
    from pipeline.queue import Lease

HISTORY = 10  # earlier results of a test that are looked at
_BAD = (CaseStatus.FAILED, CaseStatus.ERROR)


@dataclass(frozen=True, slots=True)
class StageCase:
    """A test case, the stage that ran it, and what is noteworthy about it."""

    stage: str
    case: Case
    news: News | None = None


def case_sink(lease: Lease, stage: StageRun, attempt: int, pipeline: str, *, masker: Masker | None = None) -> Sink:
    """Return what stores test cases as they are read, batch by batch; earlier ones of this attempt are forgotten.

    Messages, details and outputs are masked before they are stored. The sink raises LeaseLost and Unavailable.
    """
    hide = masker.mask_text if masker else _as_it_is
    with lease.db.write() as tx:
        lease.guard(tx)
        tx.execute(delete(cases).where(cases.c.stage_id == stage.id, cases.c.attempt == attempt))

    def store(batch: Sequence[Case]) -> None:
        rows = [_case_row(stage, attempt, pipeline, one, hide) for one in batch]
        with lease.db.write(serial=False, durable=False) as tx:  # recording the outcome makes it durable
            lease.guard(tx)
            if rows:
                tx.execute(insert(cases), rows)

    return store


def _as_it_is(text: str) -> str:
    return text


def _case_row(stage: StageRun, attempt: int, pipeline: str, one: Case, hide: Callable[[str], str]) -> dict[str, Any]:
    return {
        "stage_id": stage.id,
        "attempt": attempt,
        "pipeline": pipeline,
        "case_key": hashlib.sha1(f"{stage.name}\0{one.id}".encode(errors="replace"), usedforsecurity=False).hexdigest(),
        "test": _storable(one.id),
        "suite": _storable(one.suite),
        "name": _storable(one.name),
        "classname": _storable(one.classname),
        "file": _storable(one.file),
        "status": one.status.value,
        "seconds": one.seconds,
        "message": hide(_storable(one.message)),
        "detail": hide(_storable(one.detail)),
        "output": hide(_storable(one.output)),
        "attempts": one.attempts,
    }


def _storable(text: str) -> str:
    """Return a text that both databases take: no NUL, no lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def record_reports(lease: Lease, stage: StageRun, attempt: int, reading: Reading) -> None:
    """Store the totals and warnings of an attempt's reports. Raises LeaseLost."""
    rows = [_report_row(stage, attempt, report) for report in reading.reports]
    with lease.db.write() as tx:
        lease.guard(tx)
        tx.execute(delete(reports).where(reports.c.stage_id == stage.id, reports.c.attempt == attempt))
        if rows:
            tx.execute(insert(reports), rows)


def _report_row(stage: StageRun, attempt: int, report: Report) -> dict[str, Any]:
    totals = {name: getattr(report.totals, name) for name in Totals.__dataclass_fields__}
    warnings = [*report.warnings, *([str(report.broken)] if report.broken else [])]
    path = _storable(report.path)
    return {"stage_id": stage.id, "attempt": attempt, "path": path, "totals": totals, "warnings": warnings}


def totals(db: Database, run_id: int) -> dict[str, Totals]:
    """Return the sums of each stage's reports (of its last attempt), by the stage's name."""
    found: dict[str, Totals] = {}
    with db.read() as connection:
        for row in connection.execute(_of_run(run_id, reports, stages.c.name, reports.c.totals)):
            found[row.name] = found.get(row.name, Totals()) + Totals(**row.totals)
    return found


def warnings(db: Database, run_id: int) -> list[tuple[str, str, str]]:
    """Return (stage, report, warning) for everything odd in a run's reports."""
    with db.read() as connection:
        rows = connection.execute(_of_run(run_id, reports, stages.c.name, reports.c.path, reports.c.warnings)).all()
    return [(row.name, row.path, warning) for row in rows for warning in row.warnings]


def _of_run(run_id: int, table: Any, *columns: Any) -> Select[Any]:
    """Return a query over the rows of a run's stages, of their last attempts, in the order of the stages."""
    joined = table.join(stages, (table.c.stage_id == stages.c.id) & (table.c.attempt == stages.c.attempts))
    ordered = (stages.c.position, stages.c.id, table.c.id)
    return select(*columns).select_from(joined).where(stages.c.run_id == run_id).order_by(*ordered)


def failing(db: Database, run_id: int, *, limit: int = 50) -> list[StageCase]:
    """Return the failed and broken tests of a run, then the flaky ones, each with what is noteworthy about it."""
    bad = cases.c.status.in_([*_BAD, CaseStatus.FLAKY])
    first = case((cases.c.status == CaseStatus.FLAKY, 1), else_=0)
    query = _of_run(run_id, cases, cases, stages.c.name.label("stage")).where(bad).order_by(None)
    query = query.order_by(first, stages.c.position, stages.c.id, cases.c.id).limit(limit)
    return _with_news(db, run_id, query)


def fixed(db: Database, run_id: int, *, limit: int = 50) -> list[StageCase]:
    """Return the tests of a run that pass and that failed when they were last run before."""
    earlier = _earlier(db, run_id)
    newest = select(cases.c.case_key, cases.c.status, cases.c.id).where(earlier, cases.c.status.in_(_BAD)).subquery()
    query = _of_run(run_id, cases, cases, stages.c.name.label("stage")).where(
        cases.c.status == CaseStatus.PASSED, cases.c.case_key.in_(select(newest.c.case_key))
    )
    return [one for one in _with_news(db, run_id, query) if one.news == News.FIXED][:limit]


def slowest(db: Database, run_id: int, *, limit: int = 10) -> list[StageCase]:
    """Return the tests of a run that took longest, longest first."""
    query = _of_run(run_id, cases, cases, stages.c.name.label("stage")).where(cases.c.seconds.is_not(None))
    query = query.order_by(None).order_by(cases.c.seconds.desc(), cases.c.id).limit(limit)
    with db.read() as connection:
        return [StageCase(row.stage, _case(row)) for row in connection.execute(query)]


def of_stage(
    db: Database, stage_id: int, *, statuses: Collection[str] = (), limit: int = 1000, after: int = 0
) -> list[Case]:
    """Return the tests of a stage's last attempt in the order of its reports."""
    joined = cases.join(stages, (cases.c.stage_id == stages.c.id) & (cases.c.attempt == stages.c.attempts))
    query = select(cases).select_from(joined).where(stages.c.id == stage_id, cases.c.id > after)
    if statuses:
        query = query.where(cases.c.status.in_(statuses))
    with db.read() as connection:
        return [_case(row) for row in connection.execute(query.order_by(cases.c.id).limit(limit))]


def _with_news(db: Database, run_id: int, query: Select[Any]) -> list[StageCase]:
    with db.read() as connection:
        rows = connection.execute(query).all()
    keys = {row.case_key for row in rows}
    before = previous_statuses(db, run_id, keys)
    unsteady = both_outcomes(db, run_id, keys)
    found = []
    for row in rows:
        one = _case(row)
        news = classify(one.status, before.get(row.case_key, ()))
        if one.status in _BAD and row.case_key in unsteady:
            news = News.FLAKY
        found.append(StageCase(row.stage, one, news))
    return found


def _case(row: Any) -> Case:
    names = ("suite", "name", "classname", "file", "seconds", "message", "detail", "output", "attempts")
    values = {name: getattr(row, name) for name in names}
    return Case(id=row.test, status=CaseStatus(row.status), **values)


def previous_statuses(db: Database, run_id: int, keys: Collection[str]) -> dict[str, list[CaseStatus]]:
    """Return how tests ended in earlier runs of the same branch, newest first, by their keys.

    A branch without a history of its own is compared with all branches.
    """
    earlier = _earlier(db, run_id)
    found: dict[str, list[CaseStatus]] = {}
    for some in _portions(keys):
        query = select(cases.c.case_key, cases.c.status).where(earlier, cases.c.case_key.in_(some))
        with db.read() as connection:
            for row in connection.execute(query.order_by(cases.c.id.desc())):
                found.setdefault(row.case_key, []).append(CaseStatus(row.status))
    return {key: statuses[:HISTORY] for key, statuses in found.items()}


def _earlier(db: Database, run_id: int) -> ColumnElement[bool]:
    """Return the condition of the cases in the last runs before this one, of its branch if it had any."""
    with db.read() as connection:
        run = connection.execute(select(runs.c.pipeline, runs.c.branch).where(runs.c.id == run_id)).one()
        tested = select(cases.c.id).where(cases.c.stage_id == stages.c.id).exists()
        query = (
            select(runs.c.id)
            .distinct()
            .select_from(runs.join(stages, stages.c.run_id == runs.c.id))
            .where(runs.c.pipeline == run.pipeline, runs.c.id < run_id, tested)
            .order_by(runs.c.id.desc())
            .limit(HISTORY)
        )
        ids = connection.execute(query.where(runs.c.branch == run.branch)).scalars().all()
        ids = ids or connection.execute(query).scalars().all()
    return and_(
        cases.c.pipeline == run.pipeline, cases.c.stage_id.in_(select(stages.c.id).where(stages.c.run_id.in_(ids)))
    )


def both_outcomes(db: Database, run_id: int, keys: Collection[str]) -> set[str]:
    """Return which tests have both passed and failed on the same source: in other attempts, or runs of the commit.

    A working tree with uncommitted changes is like no other run's.
    """
    seen: dict[str, set[bool]] = {}
    told = or_(cases.c.status == CaseStatus.PASSED, cases.c.status.in_(_BAD))
    with db.read() as connection:
        pipeline, same = _of_same_source(connection, run_id)
        ours = cases.c.stage_id.in_(select(stages.c.id).where(stages.c.run_id.in_(same)))
        for some in _portions(keys):
            query = select(cases.c.case_key, cases.c.status).where(cases.c.case_key.in_(some), ours, told)
            for row in connection.execute(query.where(cases.c.pipeline == pipeline)):
                seen.setdefault(row.case_key, set()).add(CaseStatus(row.status).bad)
    return {key for key, outcomes in seen.items() if len(outcomes) == 2}


def _of_same_source(connection: Connection, run_id: int) -> tuple[str, list[int]]:
    """Return the run's pipeline and the runs that had exactly its source."""
    run = connection.execute(select(runs.c.pipeline, runs.c.sha, runs.c.event).where(runs.c.id == run_id)).one()
    if run.event.get("dirty"):
        return run.pipeline, [run_id]
    query = select(runs.c.id, runs.c.event).where(runs.c.pipeline == run.pipeline, runs.c.sha == run.sha)
    found = connection.execute(query.order_by(runs.c.id.desc()).limit(HISTORY * 5)).all()
    return run.pipeline, [row.id for row in found if not row.event.get("dirty")]


def _portions(keys: Iterable[str], size: int = 500) -> Iterable[list[str]]:
    ordered = sorted(keys)
    return (ordered[at : at + size] for at in range(0, len(ordered), size))
