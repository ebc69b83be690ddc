"""Test results on record: failing first, slowest, and what their history says."""

from __future__ import annotations

import pytest

from pipeline import queue, results, runs
from pipeline.errors import LeaseLost
from pipeline.masking import Masker
from pipeline.reports import Case, Finding, Reading, Report, Status, Totals
from pipeline.reports.views import News
from tests.pipeline.story import BAD, GOOD, Story, stage


def case(name, status=Status.PASSED, seconds=0.1, **more):
    words = {
        "suite": "unit",
        "classname": "tests.Shop",
        "file": "tests/shop.py",
        "message": "",
        "detail": "",
        "output": "",
    }
    return Case(id=f"unit::{name}", name=name, status=status, seconds=seconds, **(words | more))


FAILED = Status.FAILED
PASSED = Status.PASSED


@pytest.fixture
def tested(db):
    """Run a stage whose report holds these cases; return the run."""
    story = Story(db)

    def run(*cases, sha="a" * 40, branch="main", stage_name="unit", dirty=False, outcome=GOOD):
        made = story.accept(stage(stage_name), sha=sha, branch=branch, dirty=dirty)
        lease, begun = story.begin()
        record(lease, begun, *cases)
        runs.finish(lease, outcome)
        return made

    return run


def record(lease, begun, *cases, attempt=1, batches=2):
    store = results.case_sink(lease, begun, attempt, "shop")
    for at in range(0, len(cases), batches):
        store(cases[at : at + batches])
    counts = {}
    for one in cases:
        counts[one.status] = counts.get(one.status, 0) + 1
    report = Report(
        "reports/a.xml", Totals.of(counts, 1.5), ("odd",), broken=Finding("reports/a.xml", "cut off", "look")
    )
    results.record_reports(lease, begun, attempt, Reading((report,)))


def told(found):
    return [(one.case.name, one.news) for one in found]


def test_failing_tests_come_first_with_message_and_output_then_flaky_ones(db, tested):
    broken = case("b", Status.ERROR, message="boom", detail="Traceback", output="printed", classname="X", file="b.py:7")
    run = tested(case("ok"), case("f", Status.FLAKY, attempts=2), case("a", FAILED), broken, case("s", Status.SKIPPED))
    found = results.failing(db, run.id)
    assert [one.case.name for one in found] == ["a", "b", "f"]
    assert found[1].case == broken
    assert found[1].stage == "unit"
    assert [one.case.name for one in results.failing(db, run.id, limit=1)] == ["a"]


def test_the_slowest_are_listed_and_those_without_a_time_left_out(db, tested):
    run = tested(case("a", seconds=3), case("b", seconds=None), case("c", seconds=9), case("d", seconds=1))
    assert [one.case.name for one in results.slowest(db, run.id, limit=2)] == ["c", "a"]


def test_totals_and_warnings_are_kept_by_stage(db, tested):
    run = tested(case("a"), case("b", FAILED))
    totals = results.totals(db, run.id)["unit"]
    assert (totals.tests, totals.passed, totals.failed, totals.seconds) == (2, 1, 1, 1.5)
    assert results.warnings(db, run.id) == [
        ("unit", "reports/a.xml", "odd"),
        ("unit", "reports/a.xml", "reports/a.xml: cut off: look"),
    ]


def test_cases_of_a_stage_are_read_in_order_and_in_portions(db, tested):
    run = tested(*[case(f"t{n}") for n in range(7)], case("last", FAILED))
    stage_id = runs.stages(db, run.id)[0].id
    assert [one.name for one in results.of_stage(db, stage_id)] == [f"t{n}" for n in range(7)] + ["last"]
    assert [one.name for one in results.of_stage(db, stage_id, statuses=[FAILED])] == ["last"]
    assert len(results.of_stage(db, stage_id, limit=3)) == 3


# --- history --------------------------------------------------------------------------------------------------------


def test_a_test_that_begins_to_fail_is_news_and_one_that_goes_on_failing_is_not(db, tested):
    tested(case("a"), case("b"), sha="1" * 40)
    second = tested(case("a", FAILED), case("b"), case("c", FAILED), sha="2" * 40)
    third = tested(case("a", FAILED), case("b"), sha="3" * 40)
    assert told(results.failing(db, second.id)) == [("a", News.NEWLY_FAILING), ("c", News.NEWLY_FAILING)]
    assert told(results.failing(db, third.id)) == [("a", News.STILL_FAILING)]


def test_a_test_that_passes_again_is_fixed(db, tested):
    tested(case("a", FAILED), case("b", FAILED), case("c"), sha="1" * 40)
    second = tested(case("a"), case("b", FAILED), case("c"), sha="2" * 40)
    assert told(results.fixed(db, second.id)) == [("a", News.FIXED)]


def test_a_test_with_both_outcomes_on_one_commit_is_flaky(db, tested):
    tested(case("a"), case("b"), sha="1" * 40)
    again = tested(case("a", FAILED), case("b"), sha="1" * 40)
    assert told(results.failing(db, again.id)) == [("a", News.FLAKY)]


def test_two_states_of_a_working_tree_are_not_the_same_source(db, tested):
    tested(case("a", FAILED), dirty=True)
    tested(case("a"), dirty=True)
    last = tested(case("a", FAILED), dirty=True)
    assert told(results.failing(db, last.id)) == [("a", News.NEWLY_FAILING)]
    committed = tested(case("a", FAILED))
    assert told(results.failing(db, committed.id)) == [("a", News.STILL_FAILING)]


def test_a_test_that_goes_to_and_fro_is_flaky(db, tested):
    for number, status in enumerate((PASSED, FAILED, PASSED)):
        tested(case("a", status), sha=str(number) * 40)
    last = tested(case("a", FAILED), sha="9" * 40)
    assert told(results.failing(db, last.id)) == [("a", News.FLAKY)]


def test_both_outcomes_in_two_attempts_of_one_stage_are_flaky(db):
    story = Story(db)
    run = story.accept(stage("unit", retry={"max": 1, "on": ["failed"]}))
    lease, begun = story.begin()
    record(lease, begun, case("a", FAILED), attempt=1)
    runs.finish(lease, BAD)
    lease, begun = story.begin()
    record(lease, begun, case("a", FAILED), case("b"), attempt=2)
    runs.finish(lease, BAD)
    assert told(results.failing(db, run.id)) == [("a", News.NEWLY_FAILING)]
    other = story.accept(stage("unit", retry={"max": 1, "on": ["failed"]}), sha="b" * 40)
    for attempt, status in ((1, PASSED), (2, FAILED)):
        lease, begun = story.begin()
        record(lease, begun, case("a", status), attempt=attempt)
        runs.finish(lease, BAD)
    assert told(results.failing(db, other.id)) == [("a", News.FLAKY)]


def test_a_branch_is_compared_with_its_own_history_first(db, tested):
    tested(case("a"), branch="main", sha="1" * 40)
    tested(case("a", FAILED), branch="feature", sha="2" * 40)
    second = tested(case("a", FAILED), branch="feature", sha="3" * 40)
    assert told(results.failing(db, second.id)) == [("a", News.STILL_FAILING)]
    fresh = tested(case("a", FAILED), branch="new", sha="4" * 40)
    assert told(results.failing(db, fresh.id)) == [("a", News.STILL_FAILING)]


def test_combinations_of_a_matrix_have_histories_of_their_own(db, tested):
    tested(case("a"), stage_name="unit [python=3.11]")
    other = tested(case("a", FAILED), stage_name="unit [python=3.12]")
    assert told(results.failing(db, other.id)) == [("a", News.NEWLY_FAILING)]


def test_many_tests_have_their_history_looked_up_in_portions(db, tested):
    tested(*[case(f"t{n}") for n in range(1200)], sha="1" * 40)
    second = tested(*[case(f"t{n}", FAILED) for n in range(1200)], sha="2" * 40)
    found = results.failing(db, second.id, limit=2000)
    assert len(found) == 1200
    assert {one.news for one in found} == {News.NEWLY_FAILING}


# --- recording ------------------------------------------------------------------------------------------------------


def test_a_report_recorded_again_after_a_crash_counts_once(db):
    story = Story(db)
    run = story.accept(stage("unit"))
    lease, begun = story.begin()
    results.case_sink(lease, begun, 1, "shop")([case("half"), case("of it", FAILED)])
    record(lease, begun, case("a", FAILED), case("b"))
    record(lease, begun, case("a", FAILED), case("b"))
    runs.finish(lease, BAD)
    assert told(results.failing(db, run.id)) == [("a", News.NEWLY_FAILING)]
    assert results.totals(db, run.id)["unit"].tests == 2


def test_whoever_lost_the_lease_records_no_test(db):
    story = Story(db)
    run = story.accept(stage("unit"))
    lease, begun = story.begin()
    store = results.case_sink(lease, begun, 1, "shop")
    with db.write() as tx:
        queue.withdraw(tx, kind="stage", ref=lease.ref)
    with pytest.raises(LeaseLost):
        store([case("a", FAILED)])
    with pytest.raises(LeaseLost):
        results.record_reports(lease, begun, 1, Reading((Report("a.xml"),)))
    assert results.failing(db, run.id) == []


def test_only_the_last_attempt_is_shown(db):
    story = Story(db)
    run = story.accept(stage("unit", retry={"max": 1, "on": ["failed"]}))
    for attempt, status, outcome in ((1, FAILED, BAD), (2, PASSED, GOOD)):
        lease, begun = story.begin()
        record(lease, begun, case("a", status), attempt=attempt)
        runs.finish(lease, outcome)
    assert results.failing(db, run.id) == []
    assert results.totals(db, run.id)["unit"].failed == 0


def test_text_that_no_database_takes_is_taken(db, tested):
    run = tested(case("nul \0 and \udcff and ä", FAILED, message="\0" * 3, output="\ud800"))
    (found,) = results.failing(db, run.id)
    assert "\0" not in found.case.name
    assert found.case.name.startswith("nul ")
    assert found.case.name.endswith("ä")


def test_secrets_in_a_report_are_masked_before_they_are_stored(db):
    story = Story(db)
    run = story.accept(stage("unit"))
    lease, begun = story.begin()
    leaky = case("a", FAILED, message="login hunter2! failed", detail="at hunter2!", output="aHVudGVyMiE=")
    results.case_sink(lease, begun, 1, "shop", masker=Masker(["hunter2!"]))([leaky])
    (found,) = results.failing(db, run.id)
    assert (found.case.message, found.case.detail) == ("login *** failed", "at ***")
    assert "aHVudGVyMi" not in found.case.output
