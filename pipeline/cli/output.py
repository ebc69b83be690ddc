"""Print stored output of stages: of one stage as it is, of several with the stage's name before each line."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

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
    from pipeline import logs, runs

    colour = sys.stdout.isatty() and settings.colour
    for stage in stages:
        attempts = [a for a in runs.attempts(db, stage.id) if attempt in (None, a.number)][-1:]
        lead = f"{stage.name} | " if len(stages) > 1 else ""
        for row in attempts:
            lines: Iterable[Line] = logs.read(settings, row.id)
            for line in deque(lines, maxlen=last) if last else lines:
                if as_json:
                    fields = {"stage": stage.name, "attempt": row.number, "line": line.number}
                    sys.stdout.write(
                        json.dumps({**fields, "stream": line.stream, "text": line.text, "at": line.at}) + "\n"
                    )
                else:
                    _write(line, lead, times=times, colour=colour)
    sys.stdout.flush()


def _write(line: Line, lead: str, *, times: bool, colour: bool) -> None:
    when = f"{clock(line.at)}  " if times else ""
    sys.stdout.write(f"{lead}{when}{harmless(line.text, colour=colour)}\n")


def follow(db: Database, settings: Settings, run: Run, stages: set[int], *, as_json: bool) -> int:
    """Print output of these stages as it comes, until the run ends; return the run's exit code."""
    from pipeline.cli.exits import of_status
    from pipeline.cli.view_follow import Follower

    view = _Tail(colour=sys.stdout.isatty() and settings.colour, single=len(stages) == 1, as_json=as_json)
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
