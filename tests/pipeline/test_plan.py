"""A plan holds every stage of an event: expanded, connected, and left out only with a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.definition import Matrix, Stage
from pipeline.errors import DefinitionError
from pipeline.loading import loads
from pipeline.matrix import combinations, named
from pipeline.plan import Plan, plan
from pipeline.policy import Environment, Environments
from tests.pipeline.definitions import FULL, SHA, event, planned, small

RUN = "    image: x:1\n    run: y\n"


def skipped(made: Plan) -> dict[str, str]:
    return {stage.name: stage.skip_reason for stage in made.stages if stage.skip_reason}


def test_a_matrix_becomes_one_stage_per_combination_with_its_name() -> None:
    made = planned(FULL)
    assert [stage.name for stage in made.stages][2:6] == ["lint", "unit [shard=1]", "unit [shard=2]", "unit [shard=3]"]
    assert [dict(stage.matrix) for stage in made.stages if stage.base == "unit"] == [
        {"shard": "1"},
        {"shard": "2"},
        {"shard": "3"},
    ]
    assert [stage.position for stage in made.stages] == list(range(len(made.stages)))


def test_needs_fan_out_of_and_into_a_matrix() -> None:
    made = {stage.name: [need["stage"] for need in stage.needs] for stage in planned(FULL).stages}
    assert made["unit [shard=2]"] == ["test_image"]
    assert made["push"] == ["runtime_image", "lint", "unit [shard=1]", "unit [shard=2]", "unit [shard=3]"]


def test_the_plan_is_plain_data_that_reads_as_stages_again() -> None:
    made = planned(FULL)
    saved = json.loads(json.dumps([dict(stage.spec) for stage in made.stages]))
    assert [Stage.model_validate(spec).kind for spec in saved] == [stage.kind for stage in made.stages]
    assert json.loads(json.dumps(made.definition))["name"] == "shop"


def test_every_stage_knows_its_line() -> None:
    made = planned(FULL)
    lines = FULL.splitlines()
    assert all(lines[stage.line - 1].strip() == f"{stage.base}:" for stage in made.stages)


def test_a_stage_whose_when_does_not_hold_is_left_out_with_every_reason() -> None:
    assert skipped(planned(FULL, branch="x")) == {
        "push": "no item of its `when` holds: the branch is x, not main; the event is push, not tag; "
        "the event is push, not manual"
    }


def test_only_the_items_that_hold_stay() -> None:
    spec = {stage.name: stage.spec for stage in planned(FULL, "tag").stages}
    assert spec["push"]["when"] == [{"event": ["tag"]}]
    assert spec["tell"]["when"] == [{"status": ["failed"]}]


@pytest.mark.parametrize(
    ("when", "kind", "more", "reason"),
    [
        ("{event: push}", "push", {}, ""),
        ("{event: [tag, schedule]}", "push", {}, "its `when` does not hold: the event is push, not tag or schedule"),
        ("{branch: 'release/*'}", "push", {"branch": "release/1"}, ""),
        ("{branch: 'release/*'}", "push", {"branch": "release/1/x"}, "the branch is release/1/x, not release/*"),
        ("{branch: main}", "tag", {}, "the branch is none, not main"),
        ("{tag: 'v*'}", "tag", {}, ""),
        ("{tag: 'v*'}", "push", {}, "the tag is none, not v*"),
        ("{path: 'src/**'}", "push", {"paths": ("src/a/b.py",)}, ""),
        ("{path: 'src/**'}", "push", {"paths": ("docs/a",)}, "no changed file matches src/**"),
        ("{path: 'src/**'}", "push", {}, ""),
        ("{path: 'src/**'}", "push", {"paths": ()}, "no changed file matches src/**"),
        ("{event: push, branch: x}", "push", {}, "the branch is main, not x"),
        ("{if: \"branch == 'main'\"}", "push", {}, ""),
        ("{if: \"branch == 'x'\"}", "push", {}, "`branch == 'x'` is false"),
        ("{if: \"paths.exists(p, p.startsWith('a/'))\"}", "push", {"paths": ("a/b",)}, ""),
        ("{if: \"git.message.contains('[skip]')\"}", "push", {"message": "x [skip]"}, ""),
        ("{status: failed}", "push", {}, ""),
        ("{status: failed, branch: x}", "push", {}, "the branch is main, not x"),
    ],
)
def test_when_is_decided_by_the_event(when: str, kind: str, more: dict[str, Any], reason: str) -> None:
    made = planned(small(f"  a:\n    when: {when}\n{RUN}"), kind, **more)
    assert reason in made.stages[0].skip_reason
    assert bool(reason) == bool(made.stages[0].skip_reason)


def test_a_condition_sees_its_own_combination() -> None:
    text = small("  a:\n    matrix: {os: [x, y]}\n    when: {if: \"matrix.os == 'x'\"}\n" + RUN)
    assert skipped(planned(text)) == {"a [os=y]": "its `when` does not hold: `matrix.os == 'x'` is false"}


def test_inputs_have_defaults_and_types() -> None:
    assert planned(FULL, "manual").event.inputs == {"e2e": True}
    assert "push" in skipped(planned(FULL, "manual", inputs={"e2e": False}))


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"e2e": "yes"}, "the input `e2e` must be true or false"),
        ({"e3e": True}, "there is no input `e3e`: did you mean"),
    ],
)
def test_a_wrong_input_is_refused(inputs: dict[str, object], says: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        planned(FULL, "manual", inputs=inputs)
    assert says in caught.value.message


def test_the_groups_name_and_the_definitions_variables_are_filled_in() -> None:
    made = planned(FULL)
    assert made.concurrency == {"group": "refs/heads/main", "cancel_superseded": True}
    assert made.definition["env"] == {"LEVEL": "3.10", "COMMIT": SHA[:12]}


def test_an_empty_tag_is_named_before_it_is_dropped() -> None:
    assert planned(FULL).warnings == ("push: the tag ${{ git.tag }} is empty for this event and is dropped",)
    assert planned(FULL, "tag").warnings == ()


def test_what_exclude_removes_is_named() -> None:
    text = small("  a:\n    matrix: {x: [1, 2], y: [3, 4], exclude: [{x: 1, y: 3}]}\n" + RUN)
    assert planned(text).warnings == ("a: `exclude` removes 1 of 4 combinations",)


def test_environments_are_part_of_the_plan() -> None:
    both = {"test": Environment(), "release": Environment.model_validate({"replicas": {"web": 4}})}
    made = plan(loads(FULL), event(), environments=both)
    assert Environment.model_validate(made.environments["release"]).replicas == {"web": 4}


@pytest.mark.parametrize(
    "given", [{"test": Environment()}, Environments.model_validate({"applications": {"shop": {}}})]
)
def test_a_promotion_to_an_unknown_environment_is_refused_with_its_line(given: object) -> None:
    with pytest.raises(DefinitionError, match="`shop` has no environment `release`"):
        plan(loads(FULL), event(), environments=given)  # type: ignore[arg-type]


def test_a_run_of_thousands_of_stages_is_refused() -> None:
    axes = ", ".join(map(str, range(200)))
    text = small("".join(f"  a{n}:\n    needs: []\n    matrix: {{x: [{axes}]}}\n{RUN}" for n in range(6)))
    with pytest.raises(DefinitionError, match="would have 1200 stages"):
        planned(text)


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ({"a": ["1", "2"], "b": ["x"]}, ["a=1, b=x", "a=2, b=x"]),
        ({"a": ["3.10"]}, ["a=3.10"]),
        ({"a": ["1", "2"], "exclude": [{"a": "1"}]}, ["a=2"]),
        ({"a": ["1"], "include": [{"a": "9"}]}, ["a=1", "a=9"]),
        ({"a": ["1", "2"], "include": [{"a": "2", "slow": "yes"}]}, ["a=1", "a=2, slow=yes"]),
        ({"include": [{"a": "1", "b": "2"}, {"a": "3"}]}, ["a=1, b=2", "a=3"]),
        ({"a": ["1"], "include": [{"a": "1"}]}, ["a=1"]),
        ({"a": ["1"], "include": [{"b": "2"}]}, ["a=1", "b=2"]),
    ],
)
def test_combinations_are_the_product_without_exclude_and_with_include(written: Any, made: list[str]) -> None:
    assert [named("s", one) for one in combinations(Matrix.model_validate(written))] == [f"s [{name}]" for name in made]


def test_how_a_matrix_runs_is_kept() -> None:
    text = small("  a:\n    matrix: {x: [1, 2], fail_fast: false, max_parallel: 1}\n" + RUN)
    for stage in planned(text).stages:
        assert Stage.model_validate(stage.spec).matrix == Matrix.model_validate(
            {"x": ["1", "2"], "fail_fast": False, "max_parallel": 1}
        )
