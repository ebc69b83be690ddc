"""Work on runs in this process while a view shows them: the wiring of `pipe run`, `--resume` and `pipe retry`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.exits import Exit, of_status
from pipeline.cli.interrupts import Interrupts
from pipeline.cli.opening import at_work
from pipeline.cli.view import Style, View, choose
from pipeline.cli.view_board import Said
from pipeline.errors import NotFound, PipeError
from pipeline.model import Run, Status

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.settings import Settings
    from runners.early import Early
    from runners.local import Local


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a person asked `pipe run` for."""

    file: Path | None = None
    stages: tuple[str, ...] = ()
    event: str = "push"
    inputs: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    no_cache: bool = False


def run(settings: Settings, wish: Wish, *, style: Style, secrets_file: Path | None) -> int:
    """Plan what was asked for, run it here, and return the exit code."""
    from runners.early import Early

    with Early(settings) as early:
        from pipeline.cli.planning import planned

        plan = planned(settings, wish, expect=early.expect)
        with here(settings, secrets_file, early) as local:
            return _watch(local, local.accept(plan), style, plan)


def retry(settings: Settings, number: int, *, failed_only: bool, style: Style, secrets_file: Path | None) -> int:
    """Run an earlier run again, here, and return the exit code."""
    from pipeline import runs

    with here(settings, secrets_file) as local:
        again = runs.retry(local.db, number, failed_only=failed_only, scope=local.scope, by=settings.user)
        return _watch(local, again, style)


def resume(settings: Settings, *, style: Style, secrets_file: Path | None) -> int:
    """Take up every run whose process is gone, one after the other; return the first exit code that is not 0."""
    from pipeline import runs

    with here(settings, secrets_file) as local:
        left = [run for run in runs.unfinished(local.db) if run.scope and not local.alive(run.scope)]
        if not left:
            raise NotFound(
                "there is no run to resume: none was left by a process that is gone", hint="`pipe runs` lists them"
            )
        codes = [_watch(local, local.resume(run.id), style) for run in left]
    return next((code for code in codes if code), Exit.DONE)


@contextmanager
def here(settings: Settings, secrets_file: Path | None = None, early: Early | None = None) -> Iterator[Local]:
    """Make this process a worker of its own while open, with what was begun early. Raises Unavailable."""
    from runners.local import Local

    with at_work(settings) as (db, engine):
        boxes = early.sandboxes if early and early.installation == db.installation else None
        files = early.files if early else None
        with Local(settings, db, engine, secrets_file=secrets_file, sandboxes=boxes, files=files) as local:
            yield local


def _watch(local: Local, run: Run, style: Style, plan: Plan | None = None) -> int:
    """Show the run until nothing more happens to it by itself; ask at its gates; return its exit code."""
    from pipeline import runs
    from pipeline.cli.view_follow import Follower

    view = choose(local.settings, style, runs.last_durations(local.db, run.pipeline, before=run.id))
    follower = Follower(local.db, local.settings, run.id, view)
    follower.look()
    for warning in plan.warnings if plan else ():
        view.take(Said(text=warning, at=time.time()))

    def still(now: Run) -> bool:
        return now.status.final or (now.status is Status.WAITING and local.quiet(now.id))

    with Interrupts(lambda: _cancel(local, run, view)) as interrupts:
        while True:
            now = follower.follow(until=still)
            if not now.status.final and runs.get(local.db, now.id).status.final:
                continue  # it ended while it was being looked at: the rest is to be told
            if now.status.final or interrupts.heard or not _decide(local, now, view, style):
                break
    view.close(time.time())
    _tidy(local, now)
    return of_status(now.status)


def _tidy(local: Local, run: Run) -> None:
    """Remove the workspaces of earlier runs; this one's own may still be looked into."""
    from runners import leftovers
    from runners.local import source

    if run.status.final:
        engine, project = local.hands.engine, source(run).top
        local.hands.cleanup.later(partial(leftovers.sweep, local.db, local.settings, engine, project, keep=run.id))


def _cancel(local: Local, run: Run, view: View) -> None:
    told = "cancelling: what runs is ended and cleaned up (Ctrl-C again leaves at once)"
    view.take(Said(text=told, lasting=False, at=time.time()))
    try:
        local.cancel(run.id, reason=f"cancelled by {local.settings.user} with Ctrl-C")
    except PipeError as error:  # it has just ended by itself
        view.take(Said(text=error.message, at=time.time()))


def _decide(local: Local, run: Run, view: View, style: Style) -> bool:
    """Ask at the gate where somebody can be asked; return whether the run goes on."""
    from pipeline.cli.view import on_terminal

    if style == "json" or not sys.stdin.isatty() or not on_terminal(local.settings, sys.stdout):
        return False
    from pipeline import promotions
    from pipeline.cli import cards, gate, tables

    view.pause()
    for row in cards.waiting(local.db, run.id):
        for line in gate.lines(cards.card(local.db, local.settings, row), width=tables.width()):
            tables.say(line)
        word, text = gate.ask(partial(_still_waits, local, row.id))
        if word == "approve":
            promotions.approve(local.db, row.id, person=local.settings.user, scope=local.scope)
            tables.say([(f"approved by {local.settings.user}", "good")])
        elif word == "reject":
            promotions.reject(local.db, row.id, person=local.settings.user, reason=text)
    return not local.quiet(run.id)


def _still_waits(local: Local, promotion: int) -> bool:
    from pipeline import promotions

    return promotions.get(local.db, promotion).status == "requested"
