"""Commands that steer what is under way: `cancel`, `approve`, `reject`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.cli.menu import command
from pipeline.cli.names import run_argument
from pipeline.cli.opening import reading

if TYPE_CHECKING:
    from pipeline.settings import Settings


@command(
    "cancel",
    examples="""
pipe cancel 12
pipe cancel 12 --reason "wrong branch"
""",
)
@run_argument()
@click.option("--reason", default="", metavar="TEXT", help="Why; shown wherever the run is shown.")
@click.pass_obj
def cancel(settings: Settings, number: int, reason: str) -> None:
    """Cancel a run and end its containers.

    What waits ends at once, what runs is ended by the process that works on it. A promotion that
    has begun is brought to a safe end first.
    """
    from pipeline import runs

    with reading(settings) as db:
        run = runs.cancel(db, number, by=settings.user, reason=reason)
    if run.status.final:
        click.echo(f"run {number} is cancelled")
    else:
        click.echo(f"run {number} is being cancelled; `pipe logs -f {number}` shows how it ends")
