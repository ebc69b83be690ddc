"""An event starts a run, or it does not and the reason is a sentence."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loading import loads
from pipeline.triggers import _tokens, cron_flaw, globbed, match, timezone_flaw
from tests.pipeline.definitions import event, small

RUN = "  a:\n    image: x:1\n    run: y\n"


def matched(on: str, kind: str, **more: Any) -> tuple[bool, str]:
    return match(loads(small(RUN, top=f"on: {on}\n" if on else "")).definition, event(kind, **more))


@pytest.mark.parametrize(
    ("on", "kind", "more", "starts"),
    [
        ("", "push", {}, True),
        ("{push: {}}", "push", {}, True),
        ("{push: }", "push", {}, True),
        ("{push: {}}", "tag", {}, False),
        ("{push: {}}", "pull_request", {}, False),
        ("{tag: 'v*'}", "push", {}, False),
        ("{tag: 'v*'}", "tag", {}, True),
        ("{tag: ['v*', '!v1.*']}", "tag", {}, False),
        ("{push: {branches: [main, 'release/*']}}", "push", {"branch": "release/1"}, True),
        ("{push: {branches: [main, 'release/*']}}", "push", {"branch": "x"}, False),
        ("{push: {branches_ignore: ['tmp/**']}}", "push", {"branch": "tmp/a/b"}, False),
        ("{push: {paths: ['src/**']}}", "push", {"paths": ("docs/x",)}, False),
        ("{push: {paths: ['src/**']}}", "push", {"paths": ("docs/x", "src/y")}, True),
        ("{push: {paths: ['src/**']}}", "push", {"paths": None}, True),
        ("{push: {paths_ignore: ['docs/**', '*.md']}}", "push", {"paths": ("docs/a/b", "README.md")}, False),
        ("{push: {paths_ignore: ['docs/**']}}", "push", {"paths": ("docs/a", "src/b")}, True),
        ("{push: {paths_ignore: ['docs/**']}}", "push", {"paths": ()}, True),
        ("{pull_request: {branches: main}}", "pull_request", {}, True),
        ("{pull_request: {branches: main}}", "pull_request", {"branch": "x"}, False),
        ("{schedule: [{cron: '0 3 * * *'}]}", "schedule", {}, True),
        ("{push: {}}", "schedule", {}, False),
        ("{push: {}}", "manual", {}, True),
    ],
)
def test_an_event_starts_what_it_matches(on: str, kind: str, more: dict[str, Any], starts: bool) -> None:
    found, reason = matched(on, kind, **more)
    assert found is starts
    assert len(reason) > 10


def test_the_reason_names_what_did_not_match() -> None:
    assert matched("{push: {branches: [main, dev]}}", "push", branch="x")[1] == "the branch x matches none of main, dev"


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("*", ["main"], ["a/b"]),
        ("release/*", ["release/1"], ["release/1/2", "release"]),
        ("release/**", ["release/1/2"], ["release"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["ax", "x/y"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        ("v[0-9]*", ["v1", "v2.3"], ["va"]),
        ("[!a]x", ["bx"], ["ax"]),
        ("a+b(c)", ["a+b(c)"], ["aab(c)"]),
        ("[", ["["], ["x"]),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_globs_match_as_people_expect(glob: str, yes: list[str], no: list[str]) -> None:
    assert all(globbed(value, [glob]) for value in yes)
    assert not any(globbed(value, [glob]) for value in no)


_PARTS = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "**/", "?", "[ab]", "[!a]"]), max_size=7).map("".join)


@given(_PARTS, st.text(alphabet="ab/", max_size=7))
@settings(derandomize=True, max_examples=1500, deadline=None)
def test_every_way_of_matching_agrees_with_the_plain_one(glob: str, text: str) -> None:
    plain = "".join({"*": "[^/]*", "**": ".*", "**/": "(?:.*/)?"}.get(token, token) for token in _tokens(glob))
    assert globbed(text, [glob]) == bool(re.fullmatch(plain, text, re.DOTALL))


def test_a_later_pattern_takes_back_what_an_earlier_one_matched() -> None:
    assert not globbed("release/old", ["release/*", "!release/old"])
    assert globbed("release/old", ["release/*", "!release/old", "release/o*"])


def test_no_glob_takes_forever() -> None:
    start = time.process_time()
    for glob in ("*" * 50 + "b", "*a" * 12 + "b", "**a" * 12 + "b", "**/a*" * 8 + "b", "*a**" * 8 + "b"):
        assert not globbed("a" * 2000, [glob])
        assert not globbed("a/" * 1000, [glob])
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "line", ["0 3 * * *", "*/5 0-6,12 1 jan-mar MON-FRI", "0 0 * * 7", "0 17 * * FRI", "0 0/6 * * *"]
)
def test_cron_lines_that_are_right(line: str) -> None:
    assert cron_flaw(line) == ""


@pytest.mark.parametrize(
    "line",
    [
        *("", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *"),
        *("a * * * *", "5-1 * * * *", "1-2-3 * * * *", "@daily", "* * * * MONDAY", "² * * * *", "*/x * * * *"),
        "99999999999 * * * *",
    ],
)
def test_cron_lines_that_are_wrong(line: str) -> None:
    assert cron_flaw(line)


def test_time_zones_are_known_by_name() -> None:
    assert timezone_flaw("UTC") == ""
    assert timezone_flaw("Europe/Berlin") == ""
    assert timezone_flaw("Europe/Berlim") == "there is no time zone `Europe/Berlim`"
    assert timezone_flaw("../../etc/passwd")
