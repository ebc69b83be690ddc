"""Commands that steer what is under way: `cancel`, `approve`, `reject`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.cli.exits import Exit
from pipeline.cli.menu import command
from pipeline.cli.names import RunNumber, complete_environments, complete_runs, run_argument
from pipeline.cli.opening import reading
from pipeline.errors import Conflict

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.promotions import Promotion
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
    from runners import local

    with reading(settings) as db:
        run = runs.cancel(db, number, by=settings.user, reason=reason)
        if not run.status.final and run.scope and not local.alive(run.scope, settings.hostname):
            runs.abandon(db, number, by=settings.user, reason=reason or f"cancelled by {settings.user}")
            click.echo(f"run {number} is cancelled; its process was gone, `pipe gc` removes what it left")
            return
    if run.status.final:
        click.echo(f"run {number} is cancelled")
    else:
        click.echo(f"run {number} is being cancelled; `pipe logs -f {number}` shows how it ends")


@command(
    "approve",
    examples="""
pipe approve                       what waits for a decision
pipe approve 12
pipe approve 12 release -m "checked on the preview"
pipe approve 12 --digest sha256:ab12…
""",
)
@click.argument("number", metavar="[RUN]", required=False, type=RunNumber(), shell_complete=complete_runs)
@click.argument("environment", metavar="[ENV]", required=False, shell_complete=complete_environments)
@click.option("-m", "--comment", default="", metavar="TEXT", help="Kept with the decision.")
@click.option("--digest", metavar="SHA256", help="Only if this is what would be put live.")
@click.pass_obj
def approve(settings: Settings, number: int | None, environment: str | None, comment: str, digest: str | None) -> int:
    """Approve a promotion that waits for a decision.

    An approval holds for exactly what is shown: images by digest, configuration, and what is live now. When
    one of them changes before the switch, it is asked for again.
    """
    from pipeline import promotions
    from pipeline.cli import cards, gate, tables

    with reading(settings) as db:
        if number is None:
            _list_waiting(db, settings)
            return Exit.DONE
        row = _one(cards.waiting(db, number, environment))
        _check_digest(row, digest)
        for line in gate.lines(cards.card(db, settings, row), width=tables.width()):
            tables.say(line)
        if row.stage_id is not None:
            made = promotions.approve(db, row.id, person=settings.user, comment=comment)
            _say_what_follows(db, settings, made)
            return Exit.DONE
    return _approve_here(settings, row, comment)  # no run works on it: this command does


def _approve_here(settings: Settings, row: Promotion, comment: str) -> int:
    from pipeline import promotions
    from pipeline.cli import cards, moving
    from pipeline.cli.local import here

    with here(settings) as local:
        made = promotions.approve(local.db, row.id, person=settings.user, comment=comment, scope=local.scope)
        click.echo(f"approved by {settings.user}")
        return moving.carry_out(local, cards.standing_of(local.db, made), made)


@command(
    "reject",
    examples="""
pipe reject 12 --reason "not on a Friday"
""",
)
@run_argument()
@click.argument("environment", metavar="[ENV]", required=False, shell_complete=complete_environments)
@click.option("-m", "--reason", required=True, metavar="TEXT", help="Why; shown wherever the run is shown.")
@click.pass_obj
def reject(settings: Settings, number: int, environment: str | None, reason: str) -> None:
    """Reject a promotion that waits for a decision.

    What is live stays live; a new colour that is up already is removed.
    """
    from pipeline import promotions
    from pipeline.cli import cards

    with reading(settings) as db:
        row = _one(cards.waiting(db, number, environment))
        promotions.reject(db, row.id, person=settings.user, reason=reason)
        click.echo(f"rejected by {settings.user}; what is live stays live")


def _list_waiting(db: Database, settings: Settings) -> None:
    from pipeline.cli import cards, gate, tables

    found = cards.waiting(db, None)
    for row in found:
        for line in gate.lines(cards.card(db, settings, row), width=tables.width()):
            tables.say(line)
        tables.say([("  next     ", "dim"), (f"pipe approve {row.run_id}", "bold"), ("\n", "")])
    if not found:
        click.echo("nothing waits for a decision")


def _one(found: list[Promotion]) -> Promotion:
    if len(found) > 1:
        raise Conflict("several promotions of this run wait", hint="name the environment: `pipe approve RUN ENV`")
    return found[0]


def _check_digest(row: Promotion, digest: str | None) -> None:
    images = [str(image) for image in (row.release.get("images") or {}).values()]
    if digest is not None and not any(digest.removeprefix("sha256:") in image for image in images):
        raise Conflict(f"{digest} is not what would be put live", hint=f"that is {', '.join(images)}")


def _say_what_follows(db: Database, settings: Settings, made: Promotion) -> None:
    from pipeline import promotions, runs
    from runners import local

    if still := promotions.needed(db, made):
        click.echo(f"approved by {settings.user}; still needed: {still}")
        return
    click.echo(f"approved by {settings.user}")
    run = runs.get(db, made.run_id or 0)
    if run.scope and not local.alive(run.scope, settings.hostname):
        click.echo("its process is gone: `pipe run --resume` goes on with it")
    else:
        click.echo(f"it goes on; `pipe logs -f {run.id}` shows how")
