"""Carry a promotion out from the terminal and tell its steps: the work of `pipe rollback` and `pipe promote`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.exits import Exit
from pipeline.cli.local import here
from pipeline.cli.standing import find
from pipeline.cli.view_promotions import seen
from pipeline.cli.view_text import lasted
from pipeline.cli.view_tree import PHASES
from pipeline.errors import NotFound
from pipeline.model import PromotionStatus, Run

if TYPE_CHECKING:
    from pipeline.environments import Standing
    from pipeline.promotions import Promotion
    from pipeline.settings import Settings
    from runners.local import Local

_UNDER_WAY = (PromotionStatus.APPROVED, PromotionStatus.DEPLOYING)
_WAIT_SECONDS = 0.5
_EXITS = {
    PromotionStatus.LIVE: Exit.DONE,
    PromotionStatus.REPLACED: Exit.DONE,
    PromotionStatus.REQUESTED: Exit.WAITING,
    PromotionStatus.CANCELLED: Exit.CANCELLED,
    PromotionStatus.NEEDS_ATTENTION: Exit.ERRORED,
}


def rollback(
    settings: Settings, environment: str, *, app: str | None, to_run: int | None, reason: str, as_json: bool
) -> int:
    """Go back in an environment, and return the exit code."""
    from pipeline import rollbacks

    why = reason.strip() or f"by {settings.user} at the terminal"
    with here(settings) as local:
        standing = find(local.db, environment, app=app)
        made = rollbacks.request(local.db, standing, by=settings.user, reason=why, to_run=to_run, scope=local.scope)
        return carry_out(local, standing, made, as_json=as_json)


def promote(settings: Settings, number: int, environment: str, *, as_json: bool) -> int:
    """Ask for a run's release to be put live, carry it out, and return the exit code."""
    from pipeline import promotions, runs
    from runners import ground, releases
    from runners.stages import promote as stage

    with here(settings) as local:
        run = runs.get(local.db, number)
        spec = _spec(run, environment)
        release = releases.of_run(run, runs.stages(local.db, run.id), spec)
        releases.public_process(release, (spec.get("public") or {}).get("process"))
        standing = ground.ensure(local.db, settings, release.application, environment, spec)
        made = promotions.request(
            local.db,
            standing,
            run,
            release=releases.to_data(release),
            policy=stage.policy_of(spec),
            by=settings.user,
            scope=local.scope,
        )
        return carry_out(local, standing, made, as_json=as_json)


def _spec(run: Run, name: str) -> dict[str, Any]:
    """Return what the operator says of an environment now, or where that can not be read, said when the run began."""
    from pipeline.cli.places import Found
    from pipeline.cli.planning import environments
    from pipeline.policy import Environment, Environments

    folder = Path(run.event.repository)
    known: Mapping[str, Any] = run.environments
    if folder.is_dir():
        now = environments(Found(folder / "pipe.yml", "pipe.yml"), run.pipeline)
        known = now.applications[run.pipeline].environments if isinstance(now, Environments) else now
    if name not in known:
        raise NotFound(f"there is no environment `{name}` for {run.pipeline}", hint=f"there are {', '.join(known)}")
    return Environment.model_validate(known[name]).model_dump(mode="json", by_alias=True)


def carry_out(local: Local, standing: Standing, made: Promotion, *, as_json: bool = False) -> int:
    """Tell every step until the promotion has ended or waits for a person; return the exit code."""
    from pipeline import promotions

    begun, told = time.monotonic(), ""
    while True:
        heard = local.db.bell.count()
        made = promotions.get(local.db, made.id)
        state = f"{made.status} {made.phase}"
        if state != told:
            told = state
            _tell(local, standing, made, seconds=time.monotonic() - begun, as_json=as_json)
        if made.status not in _UNDER_WAY:
            return _EXITS.get(made.status, Exit.FAILED)
        local.db.bell.wait(heard, timeout=_WAIT_SECONDS)


def _tell(local: Local, standing: Standing, made: Promotion, *, seconds: float, as_json: bool) -> None:
    event = seen(local.settings, made, standing, "", at=local.db.now())
    if as_json:
        fields = {"event": "promotion", "promotion": made.id, "run": made.run_id, "environment": standing.name}
        told = {"status": event.status, "phase": event.phase, "colour": event.colour, "url": event.url}
        click.echo(json.dumps({**fields, **told, "reason": event.reason, "at": event.at}))
        return
    where = f"{standing.application} → {standing.name}"
    if made.status in _UNDER_WAY:
        step = PHASES.get(made.phase, "").format(colour=event.colour or "the other colour")
        if step:
            click.echo(f"{where}: {step}")
    elif made.status is PromotionStatus.LIVE:
        click.echo(f"{where}: run #{made.run_id} is live in {event.colour} after {lasted(seconds)}, {event.url}")
    elif made.status is PromotionStatus.REQUESTED:
        click.echo(f"{where}: waits for a decision: pipe approve {made.run_id} {standing.name}")
    else:
        click.echo(f"{where}: {event.status.replace('_', ' ')}: {event.reason}", err=True)
