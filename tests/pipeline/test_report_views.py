"""What people are shown of test cases: failing first, the slowest, and the news.

Pure functions on values; no report is read here.
"""

from __future__ import annotations

import pytest

from pipeline.reports import Case, Status
from pipeline.reports.views import Highlights, News, classify, failing_first, slowest

P, F, E, S, L = Status.PASSED, Status.FAILED, Status.ERROR, Status.SKIPPED, Status.FLAKY


@pytest.mark.parametrize(
    ("current", "previous", "news"),
    [
        (F, [], News.NEWLY_FAILING),
        (F, [P, P], News.NEWLY_FAILING),
        (E, [S, P], News.NEWLY_FAILING),
        (F, [P, F], News.NEWLY_FAILING),
        (F, [F, P], News.STILL_FAILING),
        (F, [E], News.STILL_FAILING),
        (F, [S, F], News.STILL_FAILING),
        (F, [P, F, P], News.FLAKY),
        (F, [L], News.FLAKY),
        (P, [F, P], News.FIXED),
        (P, [S, F], News.FIXED),
        (P, [P, F], None),
        (P, [L], None),
        (P, [], None),
        (S, [F], None),
        (L, [F], News.FLAKY),
    ],
)
def test_news_compare_a_result_with_the_ones_before(current: Status, previous: list[Status], news: News | None) -> None:
    assert classify(current, previous) is news


def some(name: str, status: Status, seconds: float | None = None) -> Case:
    return Case(name, "", name, "", "", status, seconds)


CASES = [some("a", P, 3), some("b", S), some("c", F, 1), some("d", L, 2), some("e", E, 3), some("f", P, 0)]


def test_failing_tests_come_first() -> None:
    assert [found.name for found in failing_first(CASES)] == ["c", "e", "d", "b", "a", "f"]


def test_the_slowest_tests_are_named() -> None:
    assert [found.name for found in slowest(CASES, 3)] == ["a", "e", "d"]


def test_highlights_remember_only_what_is_shown() -> None:
    highlights = Highlights(failing=1, slow=3)
    highlights(CASES[:3])
    highlights(CASES[3:])
    assert [found.name for found in highlights.failing] == ["c"]
    assert [found.name for found in highlights.flaky] == ["d"]
    assert [found.name for found in highlights.slowest] == ["a", "e", "d"]
