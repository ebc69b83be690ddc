"""The card that is shown where a decision is asked for in the terminal, and the answers that it takes."""

from __future__ import annotations

from dataclasses import replace

import click
import pytest
from click.testing import CliRunner

from pipeline.cli.gate import Card, ask, lines
from pipeline.cli.view_text import wide

CARD = Card(
    promotion=7,
    run=12,
    application="shop",
    environment="release",
    now="run #10 at 1f79b46a, green for 3h 02m",
    then="run #12 at 77c4b3d2 in blue",
    images=[("web", "127.0.0.1:5461/shop@sha256:" + "ab" * 32)],
    commits=["77c4b3d2 Count the totals right", "5c1e2d3f Say what is in the cart"],
    needs="1 of release-manager",
    given=[],
    asked_by="ana",
    preview="http://127.0.0.1:8181",
    expires_seconds=86400.0,
)


def shown(card: Card, width: int = 100) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines(card, width=width)]


def test_the_card_tells_from_what_to_what_and_who_must_decide() -> None:
    text = "\n".join(shown(CARD))
    assert text.startswith("shop → release  waits for a decision (run #12)")
    assert "now       run #10 at 1f79b46a, green for 3h 02m" in text
    assert "then      run #12 at 77c4b3d2 in blue" in text
    assert "needs     1 of release-manager" in text
    assert "try it    http://127.0.0.1:8181" in text
    assert "expires   in 24h 00m" in text
    assert "Count the totals right" in text


def test_a_first_release_says_that_nothing_is_live() -> None:
    assert any("nothing is live" in line for line in shown(replace(CARD, now="", commits=[])))


def test_many_commits_are_counted() -> None:
    text = "\n".join(shown(replace(CARD, commits=[f"{n:08} change" for n in range(20)])))
    assert "and 12 more" in text


@pytest.mark.parametrize("width", [40, 80])
def test_the_card_fits_the_terminal(width: int) -> None:
    assert max(wide(line) for line in shown(CARD, width)[1:]) <= width


def test_a_commit_can_not_play_with_the_terminal() -> None:
    hostile = replace(CARD, commits=["\x1b[2J\x1b]0;x\x07innocent"])
    assert "    innocent" in shown(hostile)


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("approve\n", ("approve", "")),
        ("a\n", ("approve", "")),
        ("reject\nnot on a Friday\n", ("reject", "not on a Friday")),
        ("\n", ("later", "")),
        ("what?\nl\n", ("later", "")),
    ],
)
def test_an_answer_may_be_short_and_only_a_clear_one_counts(typed: str, answer: tuple[str, str]) -> None:
    @click.command()
    def question() -> None:
        click.echo(repr(ask()))

    assert CliRunner().invoke(question, input=typed).output.rstrip().endswith(repr(answer))
