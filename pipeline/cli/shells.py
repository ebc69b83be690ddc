"""The command `shell`: look around where a stage failed."""

from __future__ import annotations

import signal
import sys
from difflib import get_close_matches
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from pipeline.cli.menu import command
from pipeline.cli.names import RunNumber, complete_runs, stage_argument
from pipeline.errors import DefinitionError, NotFound

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.model import Run, StageRun
    from pipeline.settings import Settings


@command(
    "shell",
    examples="""
pipe shell unit                   the latest run that has such a stage
pipe shell unit --run 12
pipe shell 'unit [shard=2]'
""",
)
@stage_argument()
@click.option(
    "--run", "number", metavar="RUN", type=RunNumber(), shell_complete=complete_runs, help="Default: the latest."
)
@click.pass_obj
def shell(settings: Settings, stage: str, number: int | None) -> int:
    """Open a shell in a stage's image and workspace.

    The workspace is as the stage left it when it failed; what is changed in the shell is thrown away with it.
    It is kept until the next run here begins, or `pipe gc`. Variables, user and limits are the stage's; secrets
    and services are not there.
    """
    from pipeline.cli.opening import at_work
    from runners import inspection, local

    if not sys.stdin.isatty():
        raise DefinitionError("a shell needs a terminal", hint=f"`pipe logs` prints what {stage} wrote")
    with at_work(settings) as (db, engine):
        run, row = _latest(db, stage, number)
        found = inspection.scene(db, run, row, local.source(run))
        where = "its workspace as it was left" if found.workspace else "no workspace: it is gone, the image is not"
        click.echo(f"{row.name} of run {run.id}, {row.status}; {where}. `exit` leaves.", err=True)
        signal.signal(signal.SIGHUP, _leave)
        signal.signal(signal.SIGTERM, _leave)
        return inspection.enter(settings, engine, found, db.installation)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End the shell when its terminal is gone, so that its container is removed."""
    raise click.Abort


def _latest(db: Database, stage: str, number: int | None) -> tuple[Run, StageRun]:
    """Return the run and the stage that are meant; of a matrix the combination that failed, else the first."""
    from pipeline import runs

    known: dict[str, None] = {}
    for run in [runs.get(db, number)] if number is not None else runs.listing(db, limit=50):
        begun = [row for row in runs.stages(db, run.id) if row.attempts]
        found = [row for row in begun if stage in (row.name, row.base)]
        if found:
            return run, next((row for row in found if row.status == "failed"), found[0])
        known |= dict.fromkeys(row.base for row in begun)
    where = f"run {number}" if number is not None else "any of the latest runs"
    near = get_close_matches(stage, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else "`pipe show` lists the stages of the latest run"
    raise NotFound(f"no stage `{stage}` has begun in {where}", hint=hint)
