"""What stages print is made harmless, measured and shortened for terminals."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.view_text import ago, compared, counted, harmless, lasted, shortened, size, wide

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    "hostile",
    [
        "a\x1b]0;owned\x07b",  # window title
        "a\x1b]52;c;cm0gLXJm\x07b",  # clipboard
        "a\x1b]52;c;cm0gLXJm\x1b\\b",
        "a\x1b]8;;http://evil\x1b\\b",  # a link that says something else
        "a\x1bP+q544e\x1b\\b",  # DCS: the terminal would answer
        "a\x1b_Gi=1\x1b\\b",  # APC: graphics
        "a\x1b[2J\x1b[Hb",  # clear and home
        "a\x1b[3A\x1b[2Kb",  # overwrite what stands above
        "a\x1b[6nb",  # report the cursor: typed into the shell
        "a\x1b[?1049hb",  # the other screen
        "a\x1bcb",  # full reset
        "a\x1b(0b",  # line drawing
        "a\x9b2Jb",  # C1 forms
        "a\x9d0;owned\x9cb",
        "a\x90q\x9cb",
        "a\x07\x00\x0e\x7fb",
        "a\u202eb",  # reordering
        "a\x1b[8mb",  # hidden
        "a\x1b[5mb",  # blinking
    ],
)
def test_nothing_that_moves_hides_or_answers_gets_through(hostile: str) -> None:
    assert harmless(hostile, colour=True).replace("\x1b[0m", "") == "ab"
    assert harmless(hostile, colour=False) == "ab"


def test_an_escape_that_never_ends_takes_its_own_line_only() -> None:
    assert harmless("a\x1b]0;title\nb", colour=False) == "a\nb"
    assert harmless("a\x1b[", colour=False) == "a"


@pytest.mark.parametrize("sequence", ["\x1b[1;31m", "\x1b[38;5;208m", "\x1b[48;2;1;2;3m", "\x1b[4m", "\x1b[97m"])
def test_colours_stay_and_end_with_their_line(sequence: str) -> None:
    assert harmless(f"{sequence}red\nplain", colour=True) == f"{sequence}red\x1b[0m\nplain"
    assert harmless(f"{sequence}red", colour=False) == "red"


def test_what_is_hidden_inside_a_colour_is_taken_out_of_it() -> None:
    assert harmless("\x1b[1;8;31mx", colour=True) == "\x1b[1;31mx\x1b[0m"
    assert harmless("\x1b[38;5;8mx", colour=True) == "\x1b[38;5;8mx\x1b[0m"  # here 8 is a colour
    assert harmless("\x1b[38;5;999mx", colour=True) == "x"


def test_of_a_progress_bar_the_last_state_is_kept() -> None:
    assert harmless("10%\r50%\r100%\nnext\r\n", colour=False) == "100%\nnext\n"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_no_control_character_survives_in_plain_text(text: str) -> None:
    assert not _CONTROL.search(harmless(text, colour=False))


@given(st.text(alphabet="ab\x1b[]0;1345678mHJ\x07\\P\x9b\r\n", max_size=60))
def test_only_colours_survive_in_coloured_text(text: str) -> None:
    left = re.sub(r"\x1b\[[0-9;]*m", "", harmless(text, colour=True))
    assert not _CONTROL.search(left)


@given(st.text(alphabet="ab\x1b[]0;1345678mHJ\x07\\P\x9b\n", max_size=60))
def test_lines_stay_lines(text: str) -> None:
    assert harmless(text, colour=False).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (3.21, "3.2s"), (9.97, "10s"), (59.4, "59s"), (59.9, "1m 00s"), (125, "2m 05s"), (3725, "1h 02m")],
)
def test_a_length_of_time_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert lasted(seconds) == text


def test_a_small_difference_to_the_last_run_is_not_worth_a_word() -> None:
    assert compared(10.0, 10.4) == ""
    assert compared(10.0, None) == ""
    assert compared(10.0, 20.0) == "10s faster"
    assert compared(3.0, 1.0) == "2.0s slower"


def test_times_counts_and_sizes_have_their_units() -> None:
    assert [ago(s) for s in (1, 42, 300, 10_000, 400_000)] == [
        *("just now", "42 s ago", "5 min ago", "2 h ago", "4 days ago")
    ]
    assert [counted(1, "test"), counted(2, "test"), counted(0, "entry", "entries")] == [
        "1 test",
        "2 tests",
        "0 entries",
    ]
    assert [size(12), size(1500), size(4_200_000), size(3e12)] == ["12 B", "1.5 kB", "4.2 MB", "3000.0 GB"]


@given(st.text(max_size=40), st.integers(min_value=0, max_value=30))
def test_shortened_text_fits(text: str, width: int) -> None:
    assert wide(shortened(text, width)) <= width


def test_wide_characters_count_double() -> None:
    assert wide("日本") == 4
    assert shortened("日本語", 5) == "日本…"
