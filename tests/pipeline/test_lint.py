"""Bad habits are warnings with a place, a rule and what to do; good definitions have none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import lint
from pipeline.loading import load, loads
from pipeline.mistakes import Mistake
from tests.pipeline.definitions import FULL, small

ROOT = Path(__file__).resolve().parents[2]
TOP = "defaults: {timeout: 15m}\n"


def rules(stages: str, top: str = TOP) -> list[str]:
    return [f"{w.rule} {w.line}:{w.column}" for w in lint.warnings(loads(small(stages, top=top)))]


def test_the_full_definition_has_no_bad_habit() -> None:
    assert lint.warnings(loads(FULL)) == []


@pytest.mark.parametrize("sample", sorted(path.parent.name for path in ROOT.glob("samples/*/pipe.yml")))
def test_the_samples_have_no_bad_habit(sample: str) -> None:
    assert lint.warnings(load(ROOT / "samples" / sample / "pipe.yml")) == []


@pytest.mark.parametrize(
    ("stages", "found"),
    [
        ("  a: {image: python, run: x}\n", ["image-latest 5:14"]),
        ("  a: {image: 'python:latest', run: x}\n", ["image-latest 5:14"]),
        ("  a: {image: 'r.example:5000/python', run: x}\n", ["image-latest 5:14"]),
        ("  a: {image: 'python:3.12', run: x}\n", []),
        ("  a: {image: 'python@sha256:0', run: x}\n", []),
        ("  a: {image: x:1, run: y, services: {db: {image: postgres}}}\n", ["image-latest 5:50"]),
        ("  a: {image: x:1, run: y, env: {KEY: AKIAABCDEFGHIJKLMNOP}}\n", ["secret-as-text 5:38"]),
        ("  a: {image: x:1, run: y, env: {API_TOKEN: a1b2c3d4e5f6}}\n", ["secret-as-text 5:44"]),
        ("  a: {image: x:1, run: y, env: {PASSWORD: test}}\n", []),
        ("  a: {image: x:1, run: y, env: {PASSWORD_FILE: /run/secrets/PASSWORD1}}\n", []),
        ("  a:\n    image: x:1\n    run: |\n      true\n      curl -H ghp_" + "a" * 36 + "\n", ["secret-as-text 9:15"]),
        ("  a: {image: x:1, run: y, when: {status: failed}}\n", ["status-without-needs 5:27"]),
        ("  a: {image: x:1, run: docker build .}\n", ["docker-in-run 5:24"]),
        ("  a: {image: x:1, run: pytest --junitxml=r.xml}\n", ["report-not-read 5:19"]),
        ("  a: {image: x:1, run: pytest --junitxml=r.xml, reports: {junit: r.xml}}\n", []),
        ("  a: {image: x:1, run: pytest || true, reports: {junit: r.xml}}\n", ["errors-hidden 5:19"]),
        ("  a: {push: {image: x:1, to: r/a, tags: [latest]}}\n", ["push-latest 5:41"]),
    ],
)
def test_a_bad_habit_is_named_with_its_place(stages: str, found: list[str]) -> None:
    assert rules(stages) == found


def test_a_definition_without_a_timeout_is_told_once() -> None:
    assert rules("  a: {image: x:1, run: y}\n  b: {image: x:1, run: y}\n", top="") == ["no-timeout 4:3"]
    assert rules("  a: {image: x:1, run: y, timeout: 5m}\n", top="") == []


def test_every_rule_is_documented_and_every_warning_is_json() -> None:
    found = lint.warnings(loads(small("  a: {image: python, run: docker build .}\n")))
    assert {warning.rule for warning in found} == {"image-latest", "docker-in-run", "no-timeout"}
    assert {warning.rule for warning in found} <= set(lint.RULES)
    assert json.loads(json.dumps([warning.as_data() for warning in found]))[0]["hint"]


def test_dockerfiles_are_named_for_hadolint() -> None:
    stages = "  a: {build: {}}\n  b: {build: {context: web, dockerfile: ops/Dockerfile}}\n  c: {build: {target: x}}\n"
    assert lint.dockerfiles(loads(small(stages))) == ["Dockerfile", "web/ops/Dockerfile"]
    assert lint.hadolint_argv("-x") == ["hadolint", "--format", "json", "--", "-x"]


def test_hadolints_findings_become_warnings() -> None:
    output = '[{"line":3,"code":"DL3006","message":"Always tag","column":1,"file":"Dockerfile","level":"warning"}]'
    assert lint.hadolint_warnings(output, "Dockerfile") == [
        Mistake("Dockerfile", 3, 1, "Always tag", "DL3006, warning", 1, "DL3006")
    ]


@pytest.mark.parametrize("output", ["", "{}x", "[1]", '[{"line": "x"}]', "null"])
def test_an_odd_answer_of_hadolint_is_a_warning_and_no_crash(output: str) -> None:
    assert [warning.rule for warning in lint.hadolint_warnings(output, "Dockerfile")] == ["hadolint"]
