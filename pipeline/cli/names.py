"""Arguments that name things in the records, completed from the data: runs, stages, environments.

Completion never complains: where nothing can be read, nothing is offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from pipeline import settings

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
_OFFERED = 20


def _quiet(offers: Callable[[click.Context], Iterable[tuple[str, str]]]) -> Completer:
    """Turn a source of (name, note) into a completer that never raises."""

    @wraps(offers)
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            found = list(offers(ctx))
        except Exception:  # a half-typed line is no place for an error
            return []
        return [CompletionItem(name, help=note) for name, note in found if name.startswith(incomplete)]

    return complete


def _runs(ctx: click.Context) -> Iterable[tuple[str, str]]:
    from pipeline import runs
    from pipeline.cli.opening import reading

    with reading(settings.load()) as db:
        for run in runs.listing(db, limit=_OFFERED):
            yield str(run.id), f"{run.pipeline} {run.status}"


def _stages(ctx: click.Context) -> Iterable[tuple[str, str]]:
    number = ctx.params.get("number")
    return _stages_of_run(int(number)) if number else _stages_of_file(ctx.params.get("file"))


def _stages_of_run(number: int) -> Iterable[tuple[str, str]]:
    from pipeline import runs
    from pipeline.cli.opening import reading

    with reading(settings.load()) as db:
        yield from ((stage.name, str(stage.status)) for stage in runs.stages(db, number))


def _stages_of_file(given: Path | None) -> Iterable[tuple[str, str]]:
    from pipeline import loading
    from pipeline.cli.places import definition

    loaded = loading.load(definition(given).path)
    yield from ((name, stage.kind) for name, stage in loaded.definition.stages.items())


def _environments(ctx: click.Context) -> Iterable[tuple[str, str]]:
    from pipeline import environments
    from pipeline.cli.opening import reading

    with reading(settings.load()) as db:
        yield from ((place.name, place.application) for place in environments.listing(db))


complete_runs = _quiet(_runs)
complete_stages = _quiet(_stages)
complete_environments = _quiet(_environments)


class RunNumber(click.ParamType[int]):
    """A run by its number, with or without `#`."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Raises a usage error for anything else."""
        text = str(value).removeprefix("#")
        if not (text.isascii() and text.isdigit()):
            self.fail(f"{value!r} is no run's number; `pipe runs` lists them", param, ctx)
        return int(text)


def run_argument(**attributes: Any) -> Callable[[Any], Any]:
    """Declare the argument RUN."""
    return click.argument("number", metavar="RUN", type=RunNumber(), shell_complete=complete_runs, **attributes)


def stage_argument(**attributes: Any) -> Callable[[Any], Any]:
    """Declare the argument STAGE."""
    return click.argument("stage", metavar="STAGE", shell_complete=complete_stages, **attributes)


def environment_argument(**attributes: Any) -> Callable[[Any], Any]:
    """Declare the argument ENV."""
    return click.argument("environment", metavar="ENV", shell_complete=complete_environments, **attributes)


def file_option() -> Callable[[Any], Any]:
    """Declare the option --file."""
    return click.option(
        "-f",
        "--file",
        "file",
        type=click.Path(path_type=Path, dir_okay=True),
        help="The definition; default: pipe.yml here or above.",
    )


def json_option() -> Callable[[Any], Any]:
    """Declare the option --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
