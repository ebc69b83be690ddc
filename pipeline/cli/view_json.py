"""The view for programs: one JSON object per line and event; the fields are told in docs/reference/cli.md.

Fields are added over time and never renamed; `event` says which kind a line is.
"""

from __future__ import annotations

import json
from typing import Any, TextIO

from pipeline.cli.view_board import Board, Event, Output, PromotionSeen, ReportSeen, RunSeen, Said, StageSeen
from pipeline.cli.view_facts import saved_seconds
from pipeline.cli.view_summary import next_commands
from pipeline.model import Run, StageRun


class JsonView:
    """Writes every event as one line of JSON."""

    def __init__(self, stream: TextIO, board: Board) -> None:
        self.board = board
        self._stream = stream
        self._shown: dict[str, object] = {}
        self._open = True

    def take(self, event: Event) -> None:
        """Write the event."""
        self.board.take(event)
        match event:
            case Output():
                self._output(event)
            case RunSeen():
                self._news("run", {"event": "run", **run_fields(event.run), "at": event.at})
            case StageSeen():
                self._news(event.stage.name, {"event": "stage", **stage_fields(event.stage), "at": event.at})
            case PromotionSeen():
                self._news(f"promotion {event.id}", {"event": "promotion", **_promotion(event), "at": event.at})
            case ReportSeen():
                self._news(f"tests of {event.stage}", {"event": "tests", **_report(event), "at": event.at})
            case Said():
                self._write({"event": "notice", "text": event.text, "at": event.at})

    def draw(self, now: float) -> None:
        """Hand over what was written."""
        if self._open:
            try:
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                self._open = False

    def pause(self) -> None:
        """Make room for a question; a program is asked none."""

    def close(self, now: float) -> None:
        """Write the summary event, the last one."""
        board = self.board
        self._write(
            {
                "event": "summary",
                **(run_fields(board.run) if board.run else {}),
                "seconds": round(board.elapsed(now), 3),
                "stages": [stage_fields(stage) for stage in board.ordered],
                "failing_tests": [
                    {"stage": stage.name, "name": test.name, "message": test.message, "news": test.news}
                    for stage in board.ordered
                    for test in board.failing(stage)
                ],
                "environments": [_promotion(p) for p in board.promotions.values()],
                "saved_seconds": round(sum(saved_seconds(stage) for stage in board.ordered), 3),
                "next": [command for command, _ in next_commands(board)],
                "at": now,
            }
        )
        self.draw(now)

    def _output(self, event: Output) -> None:
        run = self.board.run.id if self.board.run else None
        common = {"event": "output", "run": run, "stage": event.stage, "attempt": event.attempt, "stream": event.stream}
        for number, text in enumerate(event.text.split("\n"), start=event.first):
            self._write({**common, "line": number, "text": text, "at": event.at})

    def _news(self, key: str, fields: dict[str, Any]) -> None:
        told = {name: value for name, value in fields.items() if name != "at"}
        if self._shown.get(key) != told:
            self._shown[key] = told
            self._write(fields)

    def _write(self, fields: dict[str, Any]) -> None:
        if self._open:
            try:
                self._stream.write(json.dumps(fields, ensure_ascii=True) + "\n")
            except (BrokenPipeError, ValueError):
                self._open = False


def run_fields(run: Run) -> dict[str, Any]:
    """Return what is told of a run in JSON."""
    event = run.event
    return {
        "run": run.id,
        "pipeline": run.pipeline,
        "status": str(run.status),
        "reason": run.reason,
        "trigger": event.kind,
        "branch": event.branch,
        "tag": event.tag,
        "sha": event.sha,
        "dirty": event.dirty,
        "by": event.by,
        "message": event.message,
        "retry_of": run.retry_of,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def stage_fields(stage: StageRun) -> dict[str, Any]:
    """Return what is told of a stage."""
    return {
        "run": stage.run_id,
        "stage": stage.name,
        "kind": stage.kind,
        "status": str(stage.status),
        "cause": stage.cause,
        "reason": stage.reason,
        "attempts": stage.attempts,
        "allow_failure": stage.allow_failure,
        "needs": [str(need["stage"]) for need in stage.needs],
        "image": stage.image.reference if stage.image else None,
        "outputs": dict(stage.outputs),
        "result": dict(stage.result),
        "started_at": stage.started_at,
        "finished_at": stage.finished_at,
    }


def _report(event: ReportSeen) -> dict[str, Any]:
    return {
        "stage": event.stage,
        "tests": event.tests,
        "bad": event.bad,
        "skipped": event.skipped,
        "flaky": event.flaky,
    }


def _promotion(event: PromotionSeen) -> dict[str, Any]:
    return {
        "promotion": event.id,
        "stage": event.stage,
        "environment": event.environment,
        "status": event.status,
        "phase": event.phase,
        "colour": event.colour,
        "url": event.url,
        "preview": event.preview,
        "reason": event.reason,
    }
