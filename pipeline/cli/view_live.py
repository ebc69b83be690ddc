"""The view on a terminal: the stages' output flows by above a picture of the run that is redrawn in place.

Only this file knows rich. What the picture shows is `view_tree`, how it closes `view_summary`.
"""

from __future__ import annotations

from collections import deque
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pipeline.cli.view_board import Board, Event, Output, Said
from pipeline.cli.view_summary import summary
from pipeline.cli.view_text import harmless, shortened, wide
from pipeline.cli.view_tree import Line, tree

STYLES = {"good": "green", "bad": "red", "warn": "yellow", "busy": "cyan", "dim": "dim", "bold": "bold", "": ""}
_COLOURS = ("cyan", "magenta", "blue", "yellow", "green", "bright_cyan", "bright_magenta", "bright_blue")
_LINES = 400  # shown per drawing: a flood of output may not hold up the picture


class LiveView:
    """Draws the run in place; `draw` is called some times a second by whoever follows the run."""

    def __init__(self, stream: TextIO, board: Board, *, colour: bool) -> None:
        self.board = board
        self._console = Console(
            file=stream, no_color=not colour, highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self._colour = colour
        self._pending: deque[tuple[Output | Said, int]] = deque()
        self._lines = 0
        self._left_out: dict[str, int] = {}
        self._live: Live | None = None
        self._open = True

    def take(self, event: Event) -> None:
        """Keep the event for the next drawing."""
        self.board.take(event)
        if isinstance(event, Output | Said):
            count = event.text.count("\n") + 1
            self._pending.append((event, count))
            self._lines += count
            self._drop_what_can_not_be_read()

    def draw(self, now: float) -> None:
        """Print the new output and redraw the picture."""
        if not self._open:
            return
        try:
            self._print_pending()
            if self._live is None:
                self._live = Live(
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                    vertical_overflow="crop",
                )
                self._live.start()
            self._live.update(self._picture(now), refresh=True)
        except (BrokenPipeError, ValueError):  # the terminal has gone; the run goes on
            self._open = False

    def pause(self) -> None:
        """Take the picture away, so that something else can be written or asked."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def close(self, now: float) -> None:
        """Print what is left and the summary in the picture's place."""
        if not self._open:
            return
        try:
            self._print_pending()
            self.pause()
            for line in summary(self.board, now=now, width=self._console.width):
                self._console.print(painted(line))
        except (BrokenPipeError, ValueError):
            self._open = False

    def _picture(self, now: float) -> Text:
        width, height = self._console.size
        # One line of air above; never the whole screen, so that output stays readable.
        lines = tree(self.board, now=now, width=width - 1, height=max(height * 2 // 3, 3))
        return Text("\n").join([Text(""), *(painted(line) for line in lines)])

    def _drop_what_can_not_be_read(self) -> None:
        while self._lines > 2 * _LINES and len(self._pending) > 1:
            event, count = self._pending.popleft()
            self._lines -= count
            if isinstance(event, Output):
                self._left_out[event.stage] = self._left_out.get(event.stage, 0) + count

    def _print_pending(self) -> None:
        parts = [self._not_shown(stage, count) for stage, count in self._left_out.items()]
        self._left_out.clear()
        while self._pending:
            event, _ = self._pending.popleft()
            parts += self._said(event) if isinstance(event, Said) else self._output(event)
        self._lines = 0
        if parts:
            self._console.print(Text("\n").join(parts))

    def _said(self, event: Said) -> list[Text]:
        return [Text(harmless(event.text, colour=False), style="bold yellow")]

    def _output(self, event: Output) -> list[Text]:
        prefix = self._prefix(event.stage)
        lines = event.text.split("\n")
        told: list[Text] = []
        if len(lines) > _LINES:
            told, lines = [self._not_shown(event.stage, len(lines) - _LINES)], lines[-_LINES:]
        for line in lines:
            text = harmless(line, colour=self._colour).replace("\t", "    ")
            body = Text.from_ansi(text) if "\x1b" in text else Text(text)
            if event.stream == "pipe":
                body.stylize("dim")
            told.append(Text.assemble(prefix, body))
        return told

    def _not_shown(self, stage: str, count: int) -> Text:
        run = self.board.run.id if self.board.run else ""
        told = f"… {count:,} lines not shown; `pipe logs {run}` has them all"
        return Text.assemble(self._prefix(stage), (told, "dim italic"))

    def _prefix(self, stage: str) -> Text:
        names = [s.name for s in self.board.ordered] or [stage]
        column = min(max(wide(name) for name in names), max(self._console.width // 5, 6))
        known = names.index(stage) if stage in names else 0
        name = shortened(stage, column)
        return Text.assemble((name + " " * (column - wide(name)), _COLOURS[known % len(_COLOURS)]), (" │ ", "dim"))


def painted(line: Line) -> Text:
    """Return a line of the layout as rich text."""
    text = Text(no_wrap=True, overflow="crop")
    for part, style in line:
        text.append(part, style=" ".join(STYLES.get(word, word) for word in style.split()))
    return text
