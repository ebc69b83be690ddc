"""Gather what a decision is about, from the records and the repository, into a `gate.Card`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.gate import Card
from pipeline.cli.view_promotions import urls
from pipeline.cli.view_text import lasted
from pipeline.errors import NotFound, PipeError

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.environments import Standing
    from pipeline.promotions import Promotion
    from pipeline.settings import Settings


def waiting(db: Database, run: int | None, environment: str | None = None) -> list[Promotion]:
    """Return the promotions that wait for a decision, oldest first; of a run, to an environment. Raises NotFound."""
    from pipeline import promotions

    found = list(reversed(promotions.listing(db, run_id=run, waiting=True)))
    if environment is not None:
        found = [row for row in found if standing_of(db, row).name == environment]
    if not found and run is not None:
        where = f" for {environment}" if environment else ""
        raise NotFound(f"run {run} waits for no decision{where}", hint="`pipe approve` lists what waits")
    return found


def card(db: Database, settings: Settings, row: Promotion) -> Card:
    """Return all that a person must know to decide about a promotion."""
    from pipeline import promotions

    standing = standing_of(db, row)
    live = promotions.get(db, standing.live_promotion) if standing.live_promotion else None
    commit = str(row.release.get("commit", ""))
    before = str(live.release.get("commit", "")) if live else ""
    since = f", {live.colour} for {lasted(db.now() - standing.live_since)}" if live and standing.live_since else ""
    return Card(
        promotion=row.id,
        run=row.run_id or 0,
        application=standing.application,
        environment=standing.name,
        now=f"run #{live.run_id} at {before[:8]}{since}" if live else "",
        then=f"run #{row.run_id} at {commit[:8]}" + (f", already up in {row.colour}" if row.begun else ""),
        images=sorted((row.release.get("images") or {}).items()),
        commits=_commits(db, row, before, commit),
        needs=promotions.needed(db, row),
        given=[f"{one.person}: {one.verdict}" for one in promotions.deciders(db, row) if one.counts],
        asked_by=row.requested_by,
        preview=urls(settings, standing)[1] if row.begun else "",
        expires_seconds=row.expires_at - db.now() if row.expires_at else None,
    )


def standing_of(db: Database, row: Promotion) -> Standing:
    """Return the environment that a promotion is for."""
    from pipeline import environments

    with db.read() as connection:
        return environments.by_id(connection, row.environment_id)


def _commits(db: Database, row: Promotion, before: str, commit: str) -> list[str]:
    """Return what is new, where the repository is here to be asked."""
    from pipeline import runs
    from runners import repository

    if row.run_id is None or not before:
        return []
    source = Path(runs.get(db, row.run_id).event.repository)
    if not source.is_dir():
        return []
    try:
        return repository.subjects(source, before, commit)
    except PipeError:  # a card without commits is better than none
        return []
