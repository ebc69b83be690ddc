"""Follow a run in the records and tell a view what happens: moves of stages, promotions, output, in that order.

The records are the only source, so a run is followed the same way from the process that works on
it and from any other. How it is shown is the view's.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline import logs, runs
from pipeline.cli.view_board import TAIL, Board, Output, RunSeen, StageSeen
from pipeline.cli.view_promotions import promotions_of
from pipeline.cli.view_reports import reports_of
from pipeline.model import Run, StageRun, Status
from pipeline.segments import Reader

if TYPE_CHECKING:
    from pipeline.chronicle import Move
    from pipeline.cli.view import View
    from pipeline.db import Database
    from pipeline.settings import Settings

DRAW_SECONDS = 0.1  # ten pictures a second are enough for an eye
_CHUNKS = 32  # of output per stage before the other stages and the picture get their turn


class Follower:
    """Tells one view about one run; not for several threads."""

    def __init__(
        self, db: Database, settings: Settings, run_id: int, view: View, *, only: Container[int] | None = None
    ) -> None:
        """Follow run `run_id`; of the output, only that of the stages whose ids are in `only`."""
        self._db = db
        self._only = only
        self._settings = settings
        self._run_id = run_id
        self._view = view
        self._after = 0
        self._run: Run | None = None
        self._promoting: list[StageRun] = []
        self._readers: dict[int, tuple[StageRun, int, Reader]] = {}  # attempt -> stage, its number, its log
        self._ended: set[int] = set()

    def follow(self, *, until: Callable[[Run], bool] = lambda run: run.status.final) -> Run:
        """Tell everything until `until(run)` and all output of then has been told; return the run."""
        while True:
            heard = self._db.bell.count()
            run = self.look()
            more = self._output(_CHUNKS)
            self._view.draw(time.time())
            if until(run) and not more:
                while self._output(_CHUNKS):
                    pass
                return run
            if not more:
                self._db.bell.wait(heard, timeout=DRAW_SECONDS)

    def look(self) -> Run:
        """Tell what has moved since the last look; return the run."""
        moves = runs.events(self._db, self._run_id, after=self._after)
        if self._run is None or moves:
            run, stages = self._read(moves)
            if self._run is None:
                self._view.take(RunSeen(run=run, at=run.created_at))
                moved = {row.ref for row in moves if row.entity == "stage"}
                for stage in stages.values():  # what a retry took over has never moved in this run
                    seen = _as_it_was(stage, Status.QUEUED) if stage.id in moved else stage
                    self._view.take(StageSeen(stage=seen, at=run.created_at))
            self._run = run
            self._promoting = [s for s in stages.values() if s.kind == "promote" and s.attempts]
            self._promotions()
            self._tell(moves, stages)
            self._view.take(RunSeen(run=run, at=self._db.now()))
        else:
            self._promotions()
        return self._run

    def _promotions(self) -> None:
        """Tell where the promotions stand. Their phases are no moves: they are looked at whenever the bell rings."""
        if self._run is not None and self._promoting:
            for promotion in promotions_of(self._db, self._settings, self._run, self._promoting):
                self._view.take(promotion)

    def _read(self, moves: list[Move]) -> tuple[Run, dict[int, StageRun]]:
        """Read run and stages as they are after the last of `moves`, which grows by what happens meanwhile."""
        while True:
            run = runs.get(self._db, self._run_id)
            stages = {stage.id: stage for stage in runs.stages(self._db, self._run_id)}
            self._after = moves[-1].id if moves else self._after
            if not (more := runs.events(self._db, self._run_id, after=self._after)):
                return run, stages
            moves += more

    def _tell(self, moves: list[Move], stages: dict[int, StageRun]) -> None:
        """Tell every move, the last one of each stage with all that is known now."""
        moves = [row for row in moves if row.entity == "stage" and row.ref in stages]
        last = {row.ref: row.id for row in moves}
        for row in moves:
            stage = stages[row.ref]
            if row.id != last[row.ref] or row.new != stage.status:
                stage = _as_it_was(stage, Status(row.new))
            self._open_logs(stages[row.ref])
            if stage.status.final:
                while self._output(_CHUNKS, only=stage.id):
                    pass
                self._reports(stage, row.at)
            self._view.take(StageSeen(stage=stage, at=row.at))

    def _reports(self, stage: StageRun, at: float) -> None:
        if stage.spec.get("reports"):
            for report in reports_of(self._db, self._run_id, at=at):
                if report.stage == stage.name:
                    self._view.take(report)

    def _open_logs(self, stage: StageRun) -> None:
        if not stage.attempts or (self._only is not None and stage.id not in self._only):
            return
        for attempt in runs.attempts(self._db, stage.id):
            if attempt.id not in self._readers and attempt.id not in self._ended:
                self._readers[attempt.id] = (stage, attempt.number, Reader(self._settings.logs, attempt.id))

    def _output(self, limit: int, *, only: int | None = None) -> bool:
        """Tell new output, at most `limit` pieces of each log; return whether there may be more at once."""
        more = False
        for attempt, (stage, number, reader) in list(self._readers.items()):
            if only is not None and stage.id != only:
                continue
            told = 0
            for chunk in reader.chunks():
                text = chunk.text().decode(errors="replace").removesuffix("\n")
                self._view.take(
                    Output(
                        stage=stage.name,
                        attempt=number,
                        stream=chunk.stream,
                        first=chunk.first,
                        text=text,
                        at=chunk.at,
                    )
                )
                told += 1
                if told >= limit:
                    break
            if reader.ended:
                del self._readers[attempt]
                self._ended.add(attempt)
            more = more or told >= limit
        return more


def _as_it_was(stage: StageRun, status: Status) -> StageRun:
    """Return the stage at an earlier status, without what came later."""
    begun = None if status is Status.QUEUED else stage.started_at
    return replace(stage, status=status, started_at=begun, finished_at=None, result={}, reason="", cause="")


def snapshot(db: Database, settings: Settings, run: Run) -> Board:
    """Return the board of a run as it is now; of the output, only the last lines of what broke."""
    board = Board(last=runs.last_durations(db, run.pipeline, before=run.id))
    board.take(RunSeen(run=run, at=db.now()))
    stages = runs.stages(db, run.id)
    for stage in stages:
        board.take(StageSeen(stage=stage, at=db.now()))
        if stage.status in (Status.FAILED, Status.ERRORED) and stage.attempts:
            attempt = runs.attempts(db, stage.id)[-1]
            lines = logs.tail(settings, attempt.id, TAIL)
            board.tails[stage.name] = deque(line.text for line in lines)
    if any(stage.spec.get("reports") for stage in stages):
        for report in reports_of(db, run.id, at=db.now()):
            board.take(report)
    for promotion in promotions_of(db, settings, run, stages):
        board.take(promotion)
    return board
