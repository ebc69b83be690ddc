"""What a stage left to tell, read from its stored result: cached steps, tests, addresses, seconds saved.

The stages write `result` (see `runners.stages`); here it becomes words. A key that is not
there is no news, so that records of older versions can still be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.cli.view_text import counted, lasted
from pipeline.model import StageRun


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTest:
    """A test that said no, and what it said."""

    stage: str
    name: str
    message: str
    newly: bool | None = None  # None: it is not known whether it passed before


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def notes(stage: StageRun) -> list[str]:
    """Return short notes on how the stage went, the most telling first."""
    found = [_tests(stage), _cache(stage), _pushed(stage)]
    return [note for note in found if note]


def failed_tests(stage: StageRun) -> list[FailedTest]:
    """Return the tests of this stage that failed, in the order of the report."""
    tests = _mapping(stage.result.get("tests"))
    return [
        FailedTest(
            stage=stage.name,
            name=str(case.get("name", "")),
            message=str(case.get("message", "")),
            newly=case.get("newly"),
        )
        for case in map(_mapping, tests.get("failing") or ())
    ]


def saved_seconds(stage: StageRun) -> float:
    """Return how many seconds the layer cache saved this stage."""
    return float(_mapping(stage.result.get("cache")).get("saved_seconds") or 0)


def _tests(stage: StageRun) -> str:
    totals = _mapping(_mapping(stage.result.get("tests")).get("totals"))
    total = int(totals.get("tests") or 0)
    if not total:
        return ""
    bad = int(totals.get("failures") or 0) + int(totals.get("errors") or 0)
    skipped = int(totals.get("skipped") or 0)
    text = f"{bad} of {counted(total, 'test')} failed" if bad else counted(total, "test")
    return f"{text}, {skipped} skipped" if skipped else text


def _cache(stage: StageRun) -> str:
    cache = _mapping(stage.result.get("cache"))
    total, hits = int(cache.get("instructions") or 0), int(cache.get("hits") or 0)
    if not total:
        return ""
    text = f"{hits} of {counted(total, 'step')} cached"
    why = next((str(step.get("why")) for step in layers(stage) if not step.get("hit") and step.get("why")), "")
    if why:
        return f"{text}, {why}"
    saved = saved_seconds(stage)
    return f"{text}, {lasted(saved)} saved" if saved >= 1 else text


def layers(stage: StageRun) -> list[Mapping[str, Any]]:
    """Return the cache report of a build, instruction by instruction: text, hit, seconds, why."""
    steps = _mapping(stage.result.get("cache")).get("steps")
    return [_mapping(step) for step in steps] if isinstance(steps, list) else []


def _pushed(stage: StageRun) -> str:
    image = stage.image
    if stage.kind != "push" or image is None or not image.digest:
        return ""
    return f"{image.repository}@{image.digest[:19]}"
