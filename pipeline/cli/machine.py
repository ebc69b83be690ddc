"""Commands about this machine: `doctor` and `gc`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.exits import Exit
from pipeline.cli.menu import command
from pipeline.cli.names import json_option

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.settings import Settings
    from runners.engines import Engine

_RETIRE_SECONDS = 120
_GLYPHS = {"ok": ("✓", "good"), "warn": ("!", "warn"), "fail": ("✗", "bad")}


@command(
    "doctor",
    examples="""
pipe doctor
pipe doctor --json
""",
)
@json_option()
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> int:
    """Check this machine: engine, buildx, registry, proxy, disk, clock, permissions, and say how to mend each.

    Nothing is changed. The exit code is 3 when something prevents runs.
    """
    from runners.doctor import examine

    checks = examine(settings)
    if as_json:
        import json

        for check in checks:
            fields = {"check": check.name, "verdict": str(check.verdict), "detail": check.detail, "mend": check.mend}
            click.echo(json.dumps(fields))
    else:
        _told(checks)
    return Exit.ERRORED if any(check.verdict == "fail" for check in checks) else Exit.DONE


def _told(checks: Any) -> None:
    from pipeline.cli.tables import say
    from pipeline.cli.view_text import counted

    column = max(len(check.name) for check in checks)
    for check in checks:
        glyph, style = _GLYPHS[check.verdict]
        say([(glyph, style), (f" {check.name.ljust(column)}  ", "bold"), (check.detail, "")])
        for line in check.mend.splitlines():
            say([(" " * (column + 4), ""), (line, "dim")])
    bad = sum(check.verdict == "fail" for check in checks)
    weak = sum(check.verdict == "warn" for check in checks)
    if bad:
        say([("\n", ""), (f"{counted(bad, 'thing')} to mend before runs can work", "bad")])
    elif weak:
        say([("\n", ""), (f"runs work; {counted(weak, 'thing')} could be better", "warn")])
    else:
        say([("\n", ""), ("all is well", "good")])


@command(
    "gc",
    examples="""
pipe gc --dry-run      what would be removed
pipe gc
""",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.pass_obj
def gc(settings: Settings, dry_run: bool) -> None:
    """Remove what runs left behind and is no longer needed.

    Containers and workspaces of runs that are over (`pipe shell` into them ends with that), old colours whose
    time is over, artifacts that have expired, and beyond the disk budget the images and build cache that were
    unused the longest. What is live, warm or under way, and what is not of this installation, is never touched.
    """
    from pipeline import artifacts
    from pipeline.cli.opening import at_work
    from runners import leftovers

    with at_work(settings) as (db, engine):
        found = leftovers.find(db, engine)
        for one in found:
            click.echo(f"{'would remove' if dry_run else 'removing'} the {one.kind} {one.name} of run {one.run}")
            if not dry_run:
                leftovers.remove(settings, engine, one)
        if not dry_run:
            _retire(settings, db)
        trimmed = _trim(settings, db, engine, dry_run)
        if not dry_run:
            click.echo(_tidied(len(found), artifacts.expire(db, settings), trimmed))
        elif not found and not trimmed:
            click.echo("there is nothing to remove")


def _give_up(settings: Settings, db: Database, dry_run: bool) -> None:
    """End the runs that were being cancelled when their process left at once, and name those that may be resumed."""
    from pipeline import runs
    from runners import local

    for run in runs.unfinished(db):
        if not run.scope or local.alive(run.scope, settings.hostname):
            continue
        if run.cancel_requested_at is None:
            click.echo(f"run {run.id} was left by its process: `pipe run --resume` or `pipe cancel {run.id}`")
        elif not dry_run:
            runs.abandon(db, run.id, by=settings.user, reason=run.reason or "cancelled, and its process is gone")


def _retire(settings: Settings, db: Database) -> None:
    """Do what has fallen due since the last command that worked: old colours whose time is over."""
    from pipeline import queue
    from pipeline.cli.local import here

    def due(db: Database) -> bool:
        first = queue.next_due(db)
        return first is not None and first <= db.now()

    if not due(db):
        return
    click.echo("retiring the old colours whose time is over")
    give_up = time.monotonic() + _RETIRE_SECONDS  # what another process holds is that one's to finish
    with here(settings) as local:
        while time.monotonic() < give_up:
            heard = local.db.bell.count()
            if local.worker.idle and not due(local.db):
                return
            local.db.bell.wait(heard, timeout=0.5)


def _trim(settings: Settings, db: Database, engine: Engine, dry_run: bool) -> int:
    """Bring images and build cache within their budget, say which images go, and return the bytes won."""
    from runners import image_budget
    from runners.image_store import ImageStore

    stay = image_budget.must_stay(db, engine)
    with ImageStore(settings) as store:
        budget = settings.disk_budget_gb * 1_000_000_000
        done = image_budget.trim(store, db, budget_bytes=budget, keep=stay.__contains__, dry_run=dry_run)
    for image in done.images:
        click.echo(f"{'would remove' if dry_run else 'removed'} the image {image[:19]}, unused the longest")
    return done.before_bytes - done.after_bytes


def _tidied(things: int, freed: int, trimmed: int) -> str:
    from pipeline.cli.view_text import counted, size

    words = [f"{counted(things, 'thing')} of runs that are over"] if things else []
    words += [f"{size(freed)} of expired artifacts"] if freed else []
    words += [f"{size(trimmed)} of images and build cache"] if trimmed else []
    return f"removed {' and '.join(words)}" if words else "there was nothing to remove"
