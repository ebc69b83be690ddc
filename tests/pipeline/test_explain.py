"""Why a stage would run, or not, is told filter by filter with the line of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import NotFound
from pipeline.explain import Explanation, explain
from pipeline.loading import load_environments, loads
from tests.pipeline.definitions import ENVIRONMENTS, FULL, event, read


def told(explanation: Explanation) -> list[tuple[bool | None, str, str]]:
    return [(reason.holds, reason.text, reason.where) for reason in explanation.reasons]


def line(fragment: str) -> str:
    number = next(n for n, text in enumerate(FULL.splitlines(), 1) if fragment in text)
    return f"pipe.yml:{number}"


def test_a_stage_that_would_run_says_what_is_left_to_the_run() -> None:
    found = explain(loads(FULL), event(), "tell")
    assert found.runs
    assert told(found)[0] == (True, "the push matches", line("push: {branches"))
    assert told(found)[1] == (None, "if the stages that it needs fail", line("{status: failed}"))
    assert told(found)[2][1] == "after `unit [shard=1]` has succeeded"


def test_a_stage_that_would_not_run_says_which_filter_stops_it() -> None:
    found = explain(loads(FULL), event(branch="x"), "push")
    assert not found.runs
    assert told(found)[:4] == [
        (False, "the branch x matches none of main, release/*", line("push: {branches")),
        (False, "item 1 of `when` does not hold: the branch is x, not main", line("{event: push, branch")),
        (False, "item 2 of `when` does not hold: the event is push, not tag", line("{event: push, branch")),
        (False, "item 3 of `when` does not hold: the event is push, not manual", line("{event: push, branch")),
    ]
    assert found.verdict == "`push` would not run: the branch x matches none of main, release/*"


def test_one_item_that_holds_is_enough() -> None:
    found = explain(loads(FULL), event(), "push")
    assert found.runs
    assert [holds for holds, text, _ in told(found) if "item" in text] == [True, None, None]


def test_a_need_that_is_left_out_is_told_with_its_reason_however_far_it_is() -> None:
    found = explain(loads(FULL), event("pull_request"), "release")
    reasons = [text for holds, text, _ in told(found) if holds is False]
    assert reasons[0].startswith("it needs `test`, which is left out: `push` is left out: no item of its `when` holds")


def test_an_optional_need_that_is_left_out_stops_nothing() -> None:
    stages = "  a:\n    when: {event: tag}\n    image: x:1\n    run: y\n  b:\n    image: x:1\n    run: y\n"
    found = explain(read(stages), event(), "b")
    assert found.runs
    assert "it needs `a` only if that runs, and it is left out" in told(found)[2][1]


def test_a_promotion_tells_what_its_environment_asks_for(tmp_path: Path) -> None:
    (tmp_path / "environments.yml").write_text(ENVIRONMENTS)
    environments = load_environments(tmp_path / "environments.yml")
    found = explain(loads(FULL), event(branch="release/1"), "release", environments=environments)
    assert [(holds, text) for holds, text, where in told(found) if where == "environments.yml"] == [
        (False, "`release` takes branches main; this is release/1"),
        (None, "once it is approved"),
        (None, "outside of the freezes"),
    ]


def test_a_verify_that_is_required_and_nowhere_stops_a_promotion(tmp_path: Path) -> None:
    (tmp_path / "environments.yml").write_text(ENVIRONMENTS)
    environments = load_environments(tmp_path / "environments.yml")
    text = FULL.replace("      verify: {", "      # verify: {")
    found = explain(loads(text), event(), "release", environments=environments)
    assert (False, "`release` requires a `verify`, and there is none", "environments.yml") in told(found)


def test_one_combination_of_a_matrix_can_be_asked_for() -> None:
    assert explain(loads(FULL), event(), "unit [shard=2]").stage == "unit [shard=2]"


def test_an_unknown_stage_is_named_with_what_was_meant() -> None:
    with pytest.raises(NotFound) as caught:
        explain(loads(FULL), event(), "pussh")
    assert caught.value.hint == "did you mean `push`?"


def test_an_explanation_is_plain_data_too() -> None:
    data = json.loads(json.dumps(explain(loads(FULL), event(), "unit").as_data()))
    assert data["runs"] is True
    assert {"holds", "text", "where"} == set(data["reasons"][0])
