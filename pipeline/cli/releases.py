"""Commands about what is live: `env`, `promote`, `rollback`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.menu import command
from pipeline.cli.names import complete_environments, environment_argument, json_option, run_argument

if TYPE_CHECKING:
    from pipeline.settings import Settings


def reason_option(text: str) -> Callable[[Any], Any]:
    """Declare --reason."""
    return click.option("-m", "--reason", default="", metavar="TEXT", help=text)


def app_option() -> Callable[[Any], Any]:
    """Declare --app."""
    return click.option("--app", metavar="NAME", help="The application, where several have such an environment.")


@command(
    "env",
    examples="""
pipe env                  every application and environment
pipe env release          what is live there, and how it came to be
pipe env shop release     the same, where several applications have a release
pipe env release --resume -m "looked: green is right"
pipe env --json
""",
)
@click.argument("names", metavar="[APP] [ENV]", nargs=-1, shell_complete=complete_environments)
@click.option("--resume", is_flag=True, help="Let promotions come again to one that needed attention.")
@reason_option("Why it may go on; kept in the history.")
@json_option()
@click.pass_obj
def env(settings: Settings, names: tuple[str, ...], resume: bool, reason: str, as_json: bool) -> None:
    """Show what is live where, since when, by which run.

    With one environment, its history as well: who put what there, when, and what came of it. Where the proxy does
    not do what is recorded, that is said first.
    """
    from pipeline.cli import standing
    from pipeline.cli.opening import reading

    if len(names) > 2:
        raise click.UsageError("an application and an environment are all that can be named")
    with reading(settings) as db:
        if resume:
            standing.resume(db, names, by=settings.user, reason=reason)
        else:
            standing.show(db, settings, names, as_json=as_json)


@command(
    "rollback",
    examples="""
pipe rollback release                        to the release before
pipe rollback release -m "prices are wrong"
pipe rollback release --to 10                to what run 10 had put there
""",
)
@environment_argument()
@app_option()
@click.option("--to", "to_run", metavar="RUN", type=int, help="The run whose release shall be live again.")
@reason_option("Why; kept in the history.")
@json_option()
@click.pass_obj
def rollback(
    settings: Settings, environment: str, app: str | None, to_run: int | None, reason: str, as_json: bool
) -> int:
    """Go back to the release before, in one step.

    While the old colour is warm this is one entry of the proxy's map: under a second, without registry or
    build, and no request fails. Later it is a promotion of the older release. It waits for nobody's approval.
    """
    from pipeline.cli import moving

    return moving.rollback(settings, environment, app=app, to_run=to_run, reason=reason, as_json=as_json)


@command(
    "promote",
    examples="""
pipe promote 12 release      exactly the images of run 12, by digest
""",
)
@run_argument()
@environment_argument()
@json_option()
@click.pass_obj
def promote(settings: Settings, number: int, environment: str, as_json: bool) -> int:
    """Put a run's image live in an environment.

    The operator's requirements and approvals hold as they do for a stage: checked at the request, and again
    before the switch.
    """
    from pipeline.cli import moving

    return moving.promote(settings, number, environment, as_json=as_json)
