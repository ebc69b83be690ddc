"""Everything about one run, for `pipe show`: the summary, and then what the summary is too short for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli import tables
from pipeline.cli.view_facts import layers
from pipeline.cli.view_follow import snapshot
from pipeline.cli.view_json import run_fields, stage_fields
from pipeline.cli.view_summary import summary
from pipeline.cli.view_text import ago, lasted, size
from pipeline.cli.view_tree import origin
from pipeline.model import Attempt, StageRun

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.model import Run
    from pipeline.settings import Settings


def as_json(db: Database, settings: Settings, run: Run) -> None:
    """Print the run with its stages and attempts as one JSON object."""
    from pipeline import runs

    stages = [
        {**stage_fields(stage), "tries": [_attempt_fields(row) for row in runs.attempts(db, stage.id)]}
        for stage in runs.stages(db, run.id)
    ]
    click.echo(json.dumps({**run_fields(run), "stages": stages}, indent=2))


def _attempt_fields(row: Attempt) -> dict[str, Any]:
    return {
        "number": row.number,
        "status": str(row.status),
        "cause": row.cause,
        "exit_code": row.exit_code,
        "worker": row.worker,
        "commands": [dict(command) for command in row.commands],
        "lines": row.lines,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def as_text(db: Database, settings: Settings, run: Run) -> None:
    """Print the run for a person."""
    from pipeline import runs

    board = snapshot(db, settings, run)
    now = db.now()
    event = run.event
    by = f", by {event.by}" if event.by else ""
    tables.say([(f"{event.kind} of {origin(board)}{by}, {ago(now - run.created_at)}", "dim")])
    if event.message:
        tables.say([("  " + event.message.partition("\n")[0], "dim")])
    for line in summary(board, now=now, width=tables.width()):
        tables.say(line)
    for stage in board.ordered:
        _commands(stage, runs.attempts(db, stage.id))
        _layers(stage)
    _slowest(db, run)
    _artifacts(db, run)


def _commands(stage: StageRun, attempts: list[Attempt]) -> None:
    """Print what each command of a stage took, where there were several, and every earlier attempt."""
    for row in attempts[:-1]:
        took = lasted((row.finished_at or row.started_at) - row.started_at)
        tables.say([(f"\n{stage.name}, attempt {row.number}: {row.status} in {took} ({row.cause})", "dim")])
    commands = attempts[-1].commands if attempts else ()
    if len(commands) < 2:
        return
    tables.say([(f"\n{stage.name}", "bold")])
    tables.show([_command(command) for command in commands], indent=2)


def _command(command: Mapping[str, Any]) -> list[tuple[str, str] | str]:
    code = command.get("exit_code")
    style = "good" if code == 0 else "dim" if code is None else "bad"
    seconds = command.get("seconds")
    took = lasted(float(seconds)) if seconds is not None else ""
    return [
        ("exit " + str(code) if code else "ok" if code == 0 else "not run", style),
        took,
        str(command.get("text", "")),
    ]


def _layers(stage: StageRun) -> None:
    """Print the cache report of a build: HIT or MISS per instruction, and what broke it."""
    steps = layers(stage)
    if steps:
        tables.say([(f"\n{stage.name}, layer by layer", "bold")])
        tables.show([_layer(step) for step in steps], indent=2)


def _layer(step: Mapping[str, Any]) -> list[tuple[str, str] | str]:
    hit, why = bool(step.get("hit")), str(step.get("why") or "")
    text = " ".join(str(step.get("text") or "").split())
    return [
        ("HIT" if hit else "MISS", "good" if hit else "warn"),
        lasted(float(step.get("cost_seconds") or 0)),
        f"{text}  ({why})" if why else text,
    ]


def _slowest(db: Database, run: Run) -> None:
    from pipeline import results

    found = [one for one in results.slowest(db, run.id, limit=5) if (one.case.seconds or 0) >= 1]
    if found:
        tables.say([("\nslowest tests", "bold")])
        tables.show([(lasted(one.case.seconds or 0), one.stage, one.case.id) for one in found], indent=2)


def _artifacts(db: Database, run: Run) -> None:
    from pipeline import artifacts

    found = artifacts.of_run(db, run.id)
    if found:
        tables.say([("\nartifacts", "bold")])
        tables.show([(size(row.size_bytes), row.stage, row.path) for row in found], indent=2)
