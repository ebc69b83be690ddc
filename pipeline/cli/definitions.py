"""Commands for whoever writes a definition: `init`, `lint`, `explain`, `schema`. No engine, no records."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.menu import command
from pipeline.cli.names import complete_stages, file_option, json_option

if TYPE_CHECKING:
    from pipeline.settings import Settings


@command(
    "lint",
    examples="""
pipe lint                      pipe.yml, and pipelines.d beside it
pipe lint ci/*.yml
pipe lint --json | jq .message
pipe lint --strict             warnings count as well
""",
)
@click.argument("paths", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Warnings are mistakes too.")
@json_option()
def lint(paths: tuple[Path, ...], strict: bool, as_json: bool) -> int:
    """Check definitions, offline; all errors at once.

    Each is `file:line:column`, the line, a caret and what to do. Warnings name habits that are bad but not
    wrong, such as images without a version. The exit code is 2 when something is wrong.
    """
    from pipeline.cli import linting

    return linting.check(paths, strict=strict, as_json=as_json)


@command(
    "explain",
    examples="""
pipe explain release                 on a push of what is checked out
pipe explain release --event tag
pipe explain unit -i e2e=false
""",
)
@click.argument("stage", metavar="STAGE", shell_complete=complete_stages)
@file_option()
@click.option("--event", metavar="EVENT", help="push, pull_request, tag, schedule or manual; default: push.")
@click.option("-i", "--input", "inputs", metavar="NAME=VALUE", multiple=True, help="An input of `on: manual`.")
@json_option()
@click.pass_obj
def explain(
    settings: Settings, stage: str, file: Path | None, event: str | None, inputs: tuple[str, ...], as_json: bool
) -> None:
    """Tell why a stage would run, or why not.

    Condition by condition, with the line of the definition, for a push of what is checked out or for the
    event that is named.
    """
    from pipeline.cli import graphs
    from pipeline.cli.local import Wish
    from pipeline.cli.running import pair

    kind = graphs.known(event or ("manual" if inputs else "push"))
    graphs.explain(settings, stage, Wish(file=file, event=kind, inputs=dict(map(pair, inputs))), as_json=as_json)


@command(
    "schema",
    examples="""
pipe schema > pipe.schema.json
pipe schema --environments > environments.schema.json
""",
)
@click.option("--environments", is_flag=True, help="That of the operator's environments.yml.")
def schema(environments: bool) -> None:
    """Print the JSON Schema of pipe.yml, for editors.

    With `# yaml-language-server: $schema=./pipe.schema.json` as the first line of pipe.yml, editors complete
    keys and underline mistakes.
    """
    name = "environments" if environments else "pipe"
    click.echo(files("pipeline").joinpath(f"{name}.schema.json").read_text(encoding="utf-8").rstrip())


@command(
    "init",
    examples="""
pipe init
pipe init --print            show it, write nothing
pipe init --force            over the one that is there
""",
)
@click.option("--print", "only_print", is_flag=True, help="Print it instead of writing it.")
@click.option("--force", is_flag=True, help="Write over a pipe.yml that is there.")
@click.pass_obj
def init(settings: Settings, only_print: bool, force: bool) -> int:
    """Look at this repository and write a pipe.yml for it.

    It finds the Dockerfile, the test tool, the port and the health path, says in comments what it found and
    what it guessed, and what it writes passes `pipe lint`.
    """
    from pipeline.cli import beginning

    return beginning.begin(settings, Path.cwd(), only_print=only_print, force=force)
