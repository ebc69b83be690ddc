"""Ask for a decision in the terminal: a card that shows what would be done, and then one word.

Who may decide, and what a decision is bound to, is the business of `pipeline.promotions`.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from pipeline.cli.view_text import harmless, lasted, shortened
from pipeline.cli.view_tree import Line

_COMMITS = 8
_LOOK_SECONDS = 0.5  # how soon it is seen that somebody else decided


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a person must know to decide: from what to what, why, and until when."""

    promotion: int
    run: int
    application: str
    environment: str
    now: str  # what is live: `#10 at 1f79b46a, green since 3 h`; empty when nothing is
    then: str  # what would be: `#12 at 77c4b3d2`
    images: Sequence[tuple[str, str]]  # process, reference by digest
    commits: Sequence[str]  # subjects since what is live, newest first
    needs: str  # who must decide: `1 of release-manager`
    given: Sequence[str]  # decisions so far
    asked_by: str
    preview: str = ""  # where the new colour already answers
    expires_seconds: float | None = None


def lines(card: Card, *, width: int) -> list[Line]:
    """Return the card in at most `width` columns."""
    rows = [
        ("now", card.now or "nothing is live"),
        ("then", card.then),
        *((f"image {process}" if len(card.images) > 1 else "image", image) for process, image in card.images),
        ("try it", card.preview),
        ("asked by", card.asked_by),
        ("needs", card.needs),
        ("so far", ", ".join(card.given)),
        ("expires", f"in {lasted(card.expires_seconds)}" if card.expires_seconds is not None else ""),
    ]
    shown = [(name, harmless(text, colour=False)) for name, text in rows if text]
    column = max(len(name) for name, _ in shown)
    told: list[Line] = [
        [(f"{card.application} → {card.environment}", "bold"), (f"  waits for a decision (run #{card.run})", "warn")]
    ]
    told += [[(f"  {name.ljust(column)}  ", "dim"), (shortened(text, width - column - 4), "")] for name, text in shown]
    return told + _commits(card, width)


def _commits(card: Card, width: int) -> list[Line]:
    if not card.commits:
        return []
    told: list[Line] = [[("  commits since what is live", "dim")]]
    told += [
        [("    ", ""), (shortened(harmless(text, colour=False), width - 4), "")] for text in card.commits[:_COMMITS]
    ]
    if len(card.commits) > _COMMITS:
        told.append([(f"    and {len(card.commits) - _COMMITS} more", "dim")])
    return told


def ask(still: Callable[[], bool] = lambda: True) -> tuple[str, str]:
    """Ask until there is an answer: (`approve`, comment), (`reject`, reason) or (`later`, "").

    When `still()` tells that the question is none any more (decided elsewhere, expired), it is `later`.
    """
    while True:
        click.echo("approve, reject or later? [later] ", nl=False)
        answer = _line(still)
        if answer is None:
            return "later", ""
        word = answer.strip().lower() or "later"
        if "approve".startswith(word):
            return "approve", ""
        if "reject".startswith(word):
            return "reject", _why()
        if "later".startswith(word):
            return "later", ""


def _why() -> str:
    while True:
        click.echo("why? ", nl=False)
        if reason := sys.stdin.readline().strip():
            return reason


def _line(still: Callable[[], bool]) -> str | None:
    """Return the next line that is typed; None at the end of input, or once the question is none any more."""
    while sys.stdin.isatty() and not select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
        if not still():
            click.echo("\nit was decided elsewhere")
            return None
    return sys.stdin.readline() or None
