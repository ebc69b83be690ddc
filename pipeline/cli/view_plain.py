"""The view without a terminal, as in CI: one line per fact, `stage | line` for output, no control characters.

Nothing is left out and nothing is redrawn, so the output is a record.
"""

from __future__ import annotations

from typing import TextIO

from pipeline.cli.view_board import Board, Event, Output, PromotionSeen, RunSeen, Said, StageSeen, took
from pipeline.cli.view_facts import notes
from pipeline.cli.view_summary import summary
from pipeline.cli.view_text import compared, harmless, lasted, sentence
from pipeline.cli.view_tree import PHASES, address, origin
from pipeline.model import StageRun, Status


class PlainView:
    """Writes events as lines to a stream."""

    def __init__(self, stream: TextIO, board: Board, *, width: int = 120) -> None:
        self.board = board
        self._stream = stream
        self._width = width
        self._shown: dict[str, object] = {}  # what was told last, so that nothing is told twice
        self._open = True

    def take(self, event: Event) -> None:
        """Write what the event tells, if it is news."""
        self.board.take(event)
        match event:
            case Output():
                self._output(event)
            case StageSeen():
                self._news(f"stage {event.stage.name}", (event.stage.status, event.stage.attempts), self._stage(event))
            case PromotionSeen():
                self._news(f"promotion {event.id}", (event.status, event.phase), self._promotion(event))
            case RunSeen():
                self._news("run", event.run.id, f"{event.run.pipeline} #{event.run.id}: {origin(self.board)}")
            case Said():
                self._write(f"pipe: {harmless(event.text, colour=False)}\n")

    def draw(self, now: float) -> None:
        """Hand over what was written."""
        self._flush()

    def pause(self) -> None:
        """Make room for a question."""
        self._flush()

    def close(self, now: float) -> None:
        """Write the summary."""
        for line in summary(self.board, now=now, width=self._width):
            self._write("".join(text for text, _ in line).rstrip() + "\n")
        self._flush()

    def _output(self, event: Output) -> None:
        lead = f"{event.stage} | "
        text = harmless(event.text, colour=False)
        self._write(lead + text.replace("\n", "\n" + lead) + "\n")

    def _stage(self, event: StageSeen) -> str:
        stage = event.stage
        if stage.status in (Status.QUEUED, Status.WAITING):  # what a promotion waits for is its own news
            return ""
        return f"{stage.name}: {_told(stage, self.board, event.at)}"

    def _promotion(self, event: PromotionSeen) -> str:
        if event.status == "requested":
            return f"{event.stage}: waits for approval, `pipe approve {self.board.run.id if self.board.run else ''}`"
        if event.status == "approved":  # by a person; by the policy alone is no news
            return f"{event.stage}: approved" if f"promotion {event.id}" in self._shown else ""
        if event.status == "deploying":
            text = PHASES.get(event.phase, "").format(colour=event.colour or "the new colour")
            return f"{event.stage}: {text}" if text else ""
        told = ", ".join(part for part in (event.reason.partition("\n")[0], address(event)) if part)
        return f"{event.stage}: {event.status.replace('_', ' ')}" + (f", {told}" if told else "")

    def _news(self, key: str, state: object, text: str) -> None:
        if self._shown.get(key) != state and text:
            self._shown[key] = state
            self._write(harmless(text, colour=False) + "\n")

    def _write(self, text: str) -> None:
        if self._open:
            try:
                self._stream.write(text)
            except (BrokenPipeError, ValueError):  # the reader has gone; the run goes on
                self._open = False

    def _flush(self) -> None:
        if self._open:
            try:
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                self._open = False


def _told(stage: StageRun, board: Board, now: float) -> str:
    match stage.status:
        case Status.RUNNING:
            return f"started, attempt {stage.attempts}" if stage.attempts > 1 else "started"
        case Status.SKIPPED:
            return f"skipped, {sentence(stage.reason)}" if stage.reason else "skipped"
    seconds = took(stage, now) or 0.0
    words = notes(stage, board)
    if stage.status is Status.SUCCEEDED:
        words.append(compared(seconds, board.last.get(stage.name)))
    else:
        words.append("; ".join(line.strip() for line in stage.reason.splitlines()))
    return ", ".join([f"{stage.status} in {lasted(seconds)}", *(word for word in words if word)])
