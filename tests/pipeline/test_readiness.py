"""Which stages run: skipped needs, failures, `when: status`, matrices."""

from __future__ import annotations

import pytest

from pipeline import runs
from pipeline.model import Status
from tests.pipeline.story import BAD, BROKEN, GOOD, Planned, Story, stage


@pytest.fixture
def story(db):
    return Story(db)


# --- skipping, and why ----------------------------------------------------------------------------------------------


def test_a_skipped_need_is_met_only_if_it_is_optional(story):
    run = story.accept(
        stage("docs", skip="its `when` names the branch main"), stage("publish", "docs"), stage("tidy", "docs?")
    )
    assert story.work() == ["tidy"]
    assert story.statuses(run) == {"docs": "skipped", "publish": "skipped", "tidy": "succeeded"}
    assert story.stage(run, "publish").reason == ("it needs docs, which was skipped: its `when` names the branch main")
    assert story.status(run) == "succeeded"


def test_a_stage_left_out_does_not_let_the_next_one_run_early_or_after_a_failure(story):
    chain = (stage("build"), stage("e2e", "build?", skip="not for pushes"), stage("deploy", "e2e?"))
    run = story.accept(*chain)
    leases = story.begin_all()
    assert list(leases) == ["build"]
    runs.finish(leases["build"], BAD)
    assert story.statuses(run)["deploy"] == "skipped"
    assert "build" in story.stage(run, "deploy").reason
    again = story.accept(*chain)
    assert story.work() == ["build", "deploy"]
    assert story.status(again) == "succeeded"


def test_a_failure_skips_what_comes_after_even_over_optional_needs(story):
    run = story.accept(stage("a"), stage("b", "a?"), stage("c", "b?"))
    assert story.work({"a": BAD}) == ["a"]
    assert story.statuses(run) == {"a": "failed", "b": "skipped", "c": "skipped"}
    assert story.stage(run, "b").reason == "it needs a, which failed"
    assert story.status(run) == "failed"


def test_a_run_that_has_nothing_to_do_is_skipped_and_says_why(story, db):
    run = story.accept(stage("a", skip="only for tags"), stage("b", "a"))
    assert run.status == Status.SKIPPED
    assert run.reason
    assert story.claim() is None


def test_a_chain_of_five_hundred_skipped_stages_is_decided_at_once(story):
    links = [stage("s0", skip="not today")] + [stage(f"s{n}", f"s{n - 1}?", skip="not today") for n in range(1, 500)]
    run = story.accept(*links, stage("last", "s499?"))
    assert story.work() == ["last"]
    assert story.status(run) == "succeeded"


# --- when: status ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "ran"),
    [
        (GOOD, ["unit", "always", "both"]),
        (BAD, ["unit", "tell", "always", "both"]),
        (BROKEN, ["unit", "tell", "always", "both"]),
    ],
)
def test_a_stage_may_wait_for_a_failure_or_for_any_end(story, outcome, ran):
    run = story.accept(
        stage("unit"),
        stage("tell", "unit", when="failed"),
        stage("always", "unit", when="always"),
        stage("both", "unit", when="succeeded failed"),
    )
    assert story.work({"unit": outcome}) == ran
    if "tell" not in ran:
        assert story.stage(run, "tell").reason == "it runs only when a stage that it needs has failed, and none has"
        assert story.status(run) == "succeeded"


def test_a_failure_is_told_of_through_the_stages_that_it_skipped(story):
    story.accept(stage("build"), stage("unit", "build"), stage("tell", "unit", when="failed"))
    assert story.work({"build": BAD}) == ["build", "tell"]


def test_a_stage_for_failures_does_not_run_early(story):
    story.accept(stage("a"), stage("b"), stage("tell", "a", "b", when="failed"))
    leases = story.begin_all()
    runs.finish(leases["a"], BAD)
    assert story.claim() is None
    runs.finish(leases["b"], GOOD)
    assert story.work() == ["tell"]


def test_a_failure_that_is_allowed_stops_nothing(story):
    run = story.accept(stage("lint", allow_failure=True), stage("unit", "lint"), stage("tell", "lint", when="failed"))
    assert story.work({"lint": BAD}) == ["lint", "unit"]
    assert story.statuses(run) == {"lint": "failed", "unit": "succeeded", "tell": "skipped"}
    assert story.status(run) == "succeeded"


def test_the_authors_news_outweighs_ours(story):
    run = story.accept(stage("a"), stage("b"))
    story.work({"a": BROKEN, "b": BAD})
    assert story.status(run) == "failed"
    other = story.accept(stage("a"), stage("b"))
    story.work({"a": BROKEN})
    assert story.status(other) == "errored"
    assert runs.get(story.db, other.id).reason == "a could not be done"


# --- matrices -------------------------------------------------------------------------------------------------------


def matrix_stages(count, **options):
    return [
        Planned(f"unit [shard={n}]", spec={"matrix": options}, matrix={"shard": str(n)}, base="unit")
        for n in range(count)
    ]


def test_a_matrix_fails_fast(story, db):
    run = story.accept(*matrix_stages(4, max_parallel=2), stage("after", *[f"unit [shard={n}]" for n in range(4)]))
    leases = story.begin_all()
    assert len(leases) == 2
    runs.finish(leases["unit [shard=0]"], BAD)
    statuses = story.statuses(run)
    assert [statuses[f"unit [shard={n}]"] for n in range(4)] == ["failed", "running", "cancelled", "cancelled"]
    running = story.stage(run, "unit [shard=1]")
    assert runs.stopping(db, [running.id]) == {running.id}
    assert runs.cancelling(db, [run.id]) == set()
    runs.finish(leases["unit [shard=1]"], GOOD)
    assert story.stage(run, "unit [shard=1]").status == Status.CANCELLED
    assert "fails fast" in story.stage(run, "unit [shard=1]").reason
    assert story.statuses(run)["after"] == "skipped"
    assert story.status(run) == "failed"


def test_a_matrix_may_go_on_after_a_failure(story):
    run = story.accept(*matrix_stages(3, fail_fast=False))
    story.work({"unit [shard=0]": BAD})
    assert list(story.statuses(run).values()) == ["failed", "succeeded", "succeeded"]


def test_a_matrix_never_runs_more_at_once_than_it_says(story):
    run = story.accept(*matrix_stages(5, max_parallel=2))
    seen = []
    leases = story.begin_all()
    while leases:
        seen.append(len(leases))
        _, lease = leases.popitem()
        runs.finish(lease, GOOD)
        leases |= story.begin_all()
    assert max(seen) == 2
    assert story.status(run) == "succeeded"
