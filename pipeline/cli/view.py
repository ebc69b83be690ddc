"""Choose how a run is shown: live on a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

from pipeline.cli.view_board import Board, Event

if TYPE_CHECKING:
    from pipeline.settings import Settings

Style = Literal["auto", "plain", "json"]


class View(Protocol):
    """Shows a run: told events as they come, asked to draw now and then, closed at the end."""

    board: Board

    def take(self, event: Event) -> None:
        """Take in an event."""

    def draw(self, now: float) -> None:
        """Bring what is seen up to date."""

    def pause(self) -> None:
        """Make room for a question; the next `draw` shows the picture again."""

    def close(self, now: float) -> None:
        """Write the closing summary."""


def choose(settings: Settings, style: Style, last: Mapping[str, float], stream: TextIO | None = None) -> View:
    """Return the view for this stream: what was asked for, else what the stream can show."""
    out = stream or sys.stdout
    board = Board(last=last)
    if style == "json":
        from pipeline.cli.view_json import JsonView

        return JsonView(out, board)
    if style == "plain" or not on_terminal(settings, out):
        from pipeline.cli.view_plain import PlainView

        return PlainView(out, board)
    from pipeline.cli.view_live import LiveView

    return LiveView(out, board, colour=settings.colour)


def on_terminal(settings: Settings, stream: TextIO) -> bool:
    """Tell whether the stream is a terminal that can redraw."""
    return stream.isatty() and not settings.dumb
