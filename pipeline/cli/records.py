"""Commands that read the records: `runs`, `show`, `logs`. They change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.cli.menu import command
from pipeline.cli.names import RunNumber, complete_runs, complete_stages, json_option
from pipeline.cli.opening import reading
from pipeline.errors import NotFound

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.model import Run, StageRun
    from pipeline.settings import Settings


def latest(db: Database, number: int | None) -> Run:
    """Return the run of that number, or the latest. Raises NotFound."""
    from pipeline import runs

    if number is not None:
        return runs.get(db, number)
    found = runs.listing(db, limit=1)
    if not found:
        raise NotFound("there are no runs yet", hint="`pipe run` makes the first one")
    return found[0]


@command(
    "runs",
    examples="""
pipe runs                    the latest twenty
pipe runs -n 5 --pipeline shop
pipe runs --json | jq .run
""",
)
@click.option(
    "-n", "--limit", metavar="N", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many."
)
@click.option("--pipeline", metavar="NAME", help="Only runs of this pipeline.")
@json_option()
@click.pass_obj
def runs(settings: Settings, limit: int, pipeline: str | None, as_json: bool) -> None:
    """List the latest runs, the newest first."""
    from pipeline import runs as verbs

    with reading(settings) as db:
        found = verbs.listing(db, pipeline=pipeline, limit=limit)
        now = db.now()
    if as_json:
        import json

        from pipeline.cli.view_json import run_fields

        for run in found:
            click.echo(json.dumps(run_fields(run)))
        return
    if not found:
        click.echo("There are no runs yet. `pipe run` makes the first one.")
        return
    from pipeline.cli.tables import show as table

    table(
        [_row(run, now) for run in found],
        head=("run", "pipeline", "status", "what", "took", "when", "message"),
        last="drop",
    )


def _row(run: Run, now: float) -> list[tuple[str, str] | str]:
    from pipeline.cli.tables import marked
    from pipeline.cli.view_text import ago, lasted

    event = run.event
    commit = event.sha[:8] if event.sha.strip("0") else "no commit"
    what = f"{event.tag or event.branch or event.ref} {commit}".strip() + ("+" if event.dirty else "")
    took = lasted((run.finished_at or now) - run.started_at) if run.started_at else ""
    return [
        (f"#{run.id}", "bold"),
        run.pipeline,
        marked(run.status),
        what,
        took,
        (ago(now - run.created_at), "dim"),
        (event.message or run.reason, "dim"),
    ]


@command(
    "show",
    examples="""
pipe show            the latest run
pipe show 12
pipe show 12 --json
""",
)
@click.argument("number", metavar="[RUN]", required=False, type=RunNumber(), shell_complete=complete_runs)
@json_option()
@click.pass_obj
def show(settings: Settings, number: int | None, as_json: bool) -> None:
    """Show one run: how its stages went, failing tests first, images, artifacts, what to do next."""
    from pipeline.cli import details

    with reading(settings) as db:
        run = latest(db, number)
        if as_json:
            details.as_json(db, settings, run)
        else:
            details.as_text(db, settings, run)


@command(
    "logs",
    examples="""
pipe logs                    all stages of the latest run
pipe logs 12 unit            one stage (all of its matrix)
pipe logs -f 12              and what comes, until the run ends
pipe logs 12 unit -n 50      the last fifty lines
""",
)
@click.argument("number", metavar="[RUN]", required=False, type=RunNumber(), shell_complete=complete_runs)
@click.argument("stage", metavar="[STAGE]", required=False, shell_complete=complete_stages)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("-n", "--lines", "last", metavar="N", type=click.IntRange(1), help="Only the last lines of each stage.")
@click.option("--attempt", metavar="N", type=click.IntRange(1), help="An earlier attempt; default: the last one.")
@click.option("-t", "--times", is_flag=True, help="Put the time before each line.")
@json_option()
@click.pass_obj
def logs(
    settings: Settings,
    number: int | None,
    stage: str | None,
    follow: bool,
    last: int | None,
    attempt: int | None,
    times: bool,
    as_json: bool,
) -> int:
    """Print what the stages of a run wrote, in the order of the file, or of one stage."""
    from pipeline.cli import output

    with reading(settings) as db:
        run = latest(db, number)
        chosen = chosen_stages(db, run, stage)
        if follow:
            return output.follow(db, settings, run, {row.id for row in chosen}, as_json=as_json)
        output.dump(db, settings, chosen, last=last, attempt=attempt, times=times, as_json=as_json)
    return 0


def chosen_stages(db: Database, run: Run, name: str | None) -> list[StageRun]:
    """Return the stages of that name, with all of a matrix where its base is named. Raises NotFound."""
    from pipeline import runs as verbs

    rows = verbs.stages(db, run.id)
    if name is None:
        return rows
    found = [row for row in rows if row.name == name] or [row for row in rows if row.base == name]
    if found:
        return found
    from difflib import get_close_matches

    names = sorted({row.base for row in rows})
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(names)}"
    raise NotFound(f"run {run.id} has no stage `{name}`", hint=hint)
