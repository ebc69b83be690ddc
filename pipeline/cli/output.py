"""Print stored output of stages: of one stage as it is, of several with the stage's name before each line."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline import logs, runs
from pipeline.cli.view_board import Board, Event, Output
from pipeline.cli.view_text import clock, harmless

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.logs import Line
    from pipeline.model import Run, StageRun
    from pipeline.settings import Settings


def dump(
    db: Database,
    settings: Settings,
    stages: Sequence[StageRun],
    *,
    last: int | None,
    attempt: int | None,
    times: bool,
    as_json: bool,
) -> None:
    """Print what is stored of these stages."""
    for stage in stages:
        attempts = [a for a in runs.attempts(db, stage.id) if attempt in (None, a.number)][-1:]
        lead = f"{stage.name} | " if len(stages) > 1 else ""
        for row in attempts:
            if last is None and not times and not as_json:
                _pour(settings, row.id, lead)
                continue
            for line in logs.tail(settings, row.id, last) if last else logs.read(settings, row.id):
                if as_json:
                    fields = {"stage": stage.name, "attempt": row.number, "line": line.number}
                    told = {**fields, "stream": line.stream, "text": line.text, "at": line.at}
                    sys.stdout.write(json.dumps(told) + "\n")
                else:
                    _write(settings, line, lead, times=times)
    sys.stdout.flush()


def _pour(settings: Settings, attempt: int, lead: str) -> None:
    """Print a whole log in large pieces: a gigabyte is not looked at line by line."""
    for chunk in logs.chunks(settings, attempt):
        text = harmless(chunk.text().decode(errors="replace").removesuffix("\n"), colour=_colour(settings))
        sys.stdout.write(lead + text.replace("\n", "\n" + lead) + "\n")


def _colour(settings: Settings) -> bool:
    return sys.stdout.isatty() and settings.colour


def _write(settings: Settings, line: Line, lead: str, *, times: bool) -> None:
    when = f"{clock(line.at)}  " if times else ""
    sys.stdout.write(f"{lead}{when}{harmless(line.text, colour=_colour(settings))}\n")


def follow(db: Database, settings: Settings, run: Run, stages: set[int], *, as_json: bool) -> int:
    """Print output of these stages as it comes, until the run ends; return the run's exit code."""
    from pipeline.cli.exits import of_status
    from pipeline.cli.view_follow import Follower

    view = _Tail(colour=_colour(settings), single=len(stages) == 1, as_json=as_json)
    return of_status(Follower(db, settings, run.id, view, only=stages).follow().status)


class _Tail:
    """A view that shows output and nothing else."""

    def __init__(self, *, colour: bool, single: bool, as_json: bool) -> None:
        self.board = Board()
        self._colour, self._single, self._as_json = colour, single, as_json

    def take(self, event: Event) -> None:
        self.board.take(event)
        if not isinstance(event, Output):
            return
        if self._as_json:
            for number, text in enumerate(event.text.split("\n"), start=event.first):
                fields = {"stage": event.stage, "attempt": event.attempt, "line": number}
                sys.stdout.write(json.dumps({**fields, "stream": event.stream, "text": text, "at": event.at}) + "\n")
            return
        lead = "" if self._single else f"{event.stage} | "
        text = harmless(event.text, colour=self._colour)
        sys.stdout.write(lead + text.replace("\n", "\n" + lead) + "\n")

    def draw(self, now: float) -> None:
        sys.stdout.flush()

    def pause(self) -> None:
        sys.stdout.flush()

    def close(self, now: float) -> None:
        sys.stdout.flush()
