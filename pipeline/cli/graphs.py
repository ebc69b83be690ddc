"""The command `graph`, and what `pipe explain` prints: a definition looked at for one event, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.menu import command
from pipeline.cli.names import file_option

if TYPE_CHECKING:
    from pipeline.cli.local import Wish
    from pipeline.settings import Settings

FORMATS = ("tree", "mermaid", "dot", "json")


@command(
    "graph",
    examples="""
pipe graph
pipe graph --event tag                  as it would be for a tag
pipe graph --format mermaid >> README.md
pipe graph --format dot | dot -Tsvg > pipeline.svg
""",
)
@file_option()
@click.option("--event", metavar="EVENT", default="push", show_default=True, help="The event that it is drawn for.")
@click.option(
    "--format",
    "form",
    metavar="FORMAT",
    type=click.Choice(FORMATS),
    default="tree",
    show_default=True,
    help="tree, mermaid, dot or json.",
)
@click.option("--expand", is_flag=True, help="Every combination of a matrix for itself.")
@click.pass_obj
def graph(settings: Settings, file: Path | None, event: str, form: str, expand: bool) -> None:
    """Draw the stages and what they wait for.

    What the event leaves out is drawn as skipped, with the reason.
    """
    import json

    from pipeline import graph as drawing
    from pipeline.cli.local import Wish
    from pipeline.cli.planning import planned

    stages = planned(settings, Wish(file=file, event=known(event))).stages
    if form == "json":
        click.echo(json.dumps(drawing.as_data(stages), indent=2))
    elif form == "tree":
        _tree(drawing.rows(stages, expanded=expand))
    else:
        click.echo((drawing.mermaid if form == "mermaid" else drawing.dot)(stages, expanded=expand).rstrip())


def _tree(rows: object) -> None:
    from pipeline.cli.tables import say
    from pipeline.cli.view_text import wide

    assert isinstance(rows, list)
    column = max((wide(row.lead + row.node.label) for row in rows), default=0)
    for row in rows:
        node = row.node
        gap = " " * (column - wide(row.lead + node.label) + 2)
        note = ", ".join(
            part for part in (row.note, f"skipped: {node.skip_reason}" if node.skip_reason else "") if part
        )
        name = (node.label, "dim" if node.skip_reason else "bold")
        say([(row.lead, "dim"), name, (gap, ""), (node.kind.ljust(8), "dim"), (note, "dim")])


def explain(settings: Settings, stage: str, wish: Wish, *, as_json: bool) -> None:
    """Print why a stage would run, or why not, filter by filter with its line."""
    import json

    from pipeline import explain as reasoning
    from pipeline.cli.planning import environments, read
    from pipeline.cli.tables import say

    found, event, loaded = read(settings, wish)
    told = reasoning.explain(loaded, event, stage, environments=environments(found, loaded.definition.name))
    if as_json:
        click.echo(json.dumps(told.as_data(), indent=2))
        return
    say([(told.verdict, "bold good" if told.runs else "bold warn")])
    column = max((len(reason.where) for reason in told.reasons), default=0)
    marks = {True: ("✓", "good"), False: ("✗", "bad"), None: ("?", "dim")}
    for reason in told.reasons:
        say([("  ", ""), marks[reason.holds], (f"  {reason.where.ljust(column)}  ", "dim"), (reason.text, "")])


def known(event: str) -> str:
    """Return the event's kind. Raises a usage error for another word."""
    from pipeline.cli.running import EVENTS

    if event in EVENTS:
        return event
    raise click.UsageError(f"{event!r} is no event; there are {', '.join(EVENTS)}")
