"""Print rows in columns as wide as the terminal allows, and coloured words; for lists such as `pipe runs`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Literal

import click

from pipeline.cli.colours import painted
from pipeline.cli.view_text import harmless, shortened, wide
from pipeline.cli.view_tree import GLYPHS, Line
from pipeline.model import Status

_TIGHT = 10  # columns that are hardly any room


def say(line: Line) -> None:
    """Print a line of a layout; colours are left out where they can not be shown."""
    while line and not line[-1][0].strip(" "):
        line = line[:-1]
    if line:
        line = [*line[:-1], (line[-1][0].rstrip(" "), line[-1][1])]
    click.echo("".join(painted(text, style) for text, style in line))


def width() -> int:
    """Return the columns of the terminal, or 120 where there is none."""
    return shutil.get_terminal_size((120, 40)).columns if sys.stdout.isatty() else 120


def marked(status: Status) -> tuple[str, str]:
    """Return the status with its glyph, and its style."""
    glyph, style = GLYPHS[status]
    return f"{glyph} {status}", style


def show(
    rows: Sequence[Sequence[tuple[str, str] | str]],
    *,
    head: Sequence[str] = (),
    indent: int = 0,
    last: Literal["cut", "drop", "whole"] = "cut",
) -> None:
    """Print rows of cells, each a text or (text, style).

    The last column takes what room is left, and is cut to it; where there is hardly any it is cut all the same,
    dropped, or let run over.
    """
    cells = [[(cell, "") if isinstance(cell, str) else cell for cell in row] for row in rows]
    cells = [[(harmless(text, colour=False).partition("\n")[0], style) for text, style in row] for row in cells]
    if head and cells:
        cells.insert(0, [(text, "dim") for text in head])
    if not cells:
        return
    columns = [max(wide(row[at][0]) for row in cells) for at in range(len(cells[0]) - 1)]
    room = width() - indent - sum(columns) - 2 * len(columns)
    for row in cells:
        line: Line = [(" " * indent, "")]
        for (text, style), column in zip(row, columns, strict=False):
            line += [(text, style), (" " * (column - wide(text) + 2), "")]
        text, style = row[-1]
        if room < _TIGHT and last == "drop":
            text = ""
        elif last != "whole":
            text = shortened(text, max(room, _TIGHT))
        say([*line, (text, style)])
