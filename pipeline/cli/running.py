"""Commands that work on a run in this process: `run` and `retry`. What is shown meanwhile is `view`'s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.menu import command
from pipeline.cli.names import complete_stages, file_option, run_argument
from pipeline.errors import DefinitionError

if TYPE_CHECKING:
    from pipeline.cli.view import Style
    from pipeline.settings import Settings

EVENTS = ("push", "pull_request", "tag", "schedule", "manual")


def _style(as_json: bool, plain: bool) -> Style:
    return "json" if as_json else "plain" if plain else "auto"


def view_options(decorated: Callable[..., int]) -> Callable[..., int]:
    """Declare --json and --plain."""
    plain = click.option("--plain", is_flag=True, help="Plain lines, also on a terminal.")
    as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object per event, for programs.")
    return plain(as_json(decorated))


@command(
    "run",
    examples="""
pipe run                        all stages, from the working tree as it is
pipe run unit lint              these stages, and those that they need
pipe run -i e2e=false           with an input, as when started by hand
pipe run --event tag            as a push of the tag that is checked out
pipe run --commit v1.2          a commit, without what is uncommitted
pipe run --plain | tee log      lines instead of a picture
pipe run --resume               take up a run whose process is gone
""",
)
@click.argument("stages", metavar="[STAGE]...", nargs=-1, shell_complete=complete_stages)
@file_option()
@click.option(
    "--event",
    metavar="EVENT",
    type=click.Choice(EVENTS),
    help="push, pull_request, tag, schedule or manual; default: push, with inputs manual.",
)
@click.option("-i", "--input", "inputs", metavar="NAME=VALUE", multiple=True, help="An input of `on: manual`.")
@click.option("--commit", metavar="REV", help="Run a commit instead of the working tree.")
@click.option(
    "--secrets-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Lines NAME=value; default: secrets.env beside the definition.",
)
@click.option("--no-cache", is_flag=True, help="Build every layer anew.")
@click.option("--capacity", metavar="N", type=click.IntRange(1, 256), help="Stages at once; default: processors.")
@click.option("--resume", is_flag=True, help="Take up the runs whose process is gone, and start nothing new.")
@view_options
@click.pass_obj
def run(
    settings: Settings,
    stages: tuple[str, ...],
    file: Path | None,
    event: str | None,
    inputs: tuple[str, ...],
    commit: str | None,
    secrets_file: Path | None,
    no_cache: bool,
    capacity: int | None,
    resume: bool,
    as_json: bool,
    plain: bool,
) -> int:
    """Run the pipeline of this directory, here and now.

    It is a push of the checked-out branch, from the working tree with its uncommitted changes. An approval is
    asked for in the terminal; elsewhere the command ends with code 4 and says how to give it. Ctrl-C cancels
    and cleans up; Ctrl-C again leaves at once.
    """
    from dataclasses import replace

    from pipeline.cli import local

    if capacity:
        settings = replace(settings, capacity=capacity)
    if resume:
        if stages or event or inputs or commit:
            raise click.UsageError("--resume takes up runs as they are: no stage, event, input or commit goes with it")
        return local.resume(settings, style=_style(as_json, plain), secrets_file=secrets_file)
    wish = local.Wish(
        file=_file(file, stages),
        stages=stages,
        event=event or ("manual" if inputs else "push"),
        inputs=dict(map(pair, inputs)),
        commit=commit,
        no_cache=no_cache,
    )
    return local.run(settings, wish, style=_style(as_json, plain), secrets_file=secrets_file)


def _file(file: Path | None, stages: tuple[str, ...]) -> Path | None:
    mistaken = next((word for word in stages if word.endswith((".yml", ".yaml")) or "/" in word), None)
    if mistaken:
        raise DefinitionError(f"`{mistaken}` is no stage's name", hint=f"did you mean `pipe run --file {mistaken}`?")
    return file


def pair(text: str) -> tuple[str, str]:
    """Read NAME=VALUE. Raises a usage error."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"an input is NAME=VALUE, and {text!r} is not")
    return name, value


@command(
    "retry",
    examples="""
pipe retry 12              all of run 12, with the definition that it had
pipe retry 12 --failed     only what did not succeed
""",
)
@run_argument()
@click.option("--failed", "failed_only", is_flag=True, help="Take over what succeeded, and run only the rest.")
@click.option(
    "--secrets-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Lines NAME=value; default: secrets.env beside the definition.",
)
@view_options
@click.pass_obj
def retry(
    settings: Settings, number: int, failed_only: bool, secrets_file: Path | None, as_json: bool, plain: bool
) -> int:
    """Run again, wholly or only what failed.

    It is a new run of the same definition for the same commit. Uncommitted changes are those of now.
    """
    from pipeline.cli import local

    return local.retry(
        settings, number, failed_only=failed_only, style=_style(as_json, plain), secrets_file=secrets_file
    )
