"""What a stage left to tell, in a few words: tests, cached steps, a digest, seconds saved.

The stages write `result` (see `runners.stages`); a key that is not there is no news, so that
records of older versions can still be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.cli.view_board import Board, ReportSeen
from pipeline.cli.view_text import counted, lasted
from pipeline.model import StageRun


def notes(stage: StageRun, board: Board) -> list[str]:
    """Return short notes on how the stage went, the most telling first."""
    found = [_tests(board.reports.get(stage.name)), _cache(stage), _pushed(stage)]
    return [note for note in found if note]


def layers(stage: StageRun) -> list[Mapping[str, Any]]:
    """Return the cache report of a build, instruction by instruction: text, hit, seconds, why."""
    steps = _mapping(stage.result.get("cache")).get("steps")
    return [_mapping(step) for step in steps] if isinstance(steps, list) else []


def saved_seconds(stage: StageRun) -> float:
    """Return how many seconds the layer cache saved this stage."""
    return float(_mapping(stage.result.get("cache")).get("saved_seconds") or 0)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _tests(report: ReportSeen | None) -> str:
    if report is None or not report.tests:
        return ""
    total = counted(report.tests, "test")
    words = [f"{report.bad} of {total} failed" if report.bad else total]
    words += [f"{count} {word}" for count, word in ((report.flaky, "flaky"), (report.skipped, "skipped")) if count]
    return ", ".join(words)


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


def _pushed(stage: StageRun) -> str:
    image = stage.image
    if stage.kind != "push" or image is None or not image.digest:
        return ""
    return f"{image.repository}@{image.digest[:19]}"
