"""What a person or a program sees of a run, from a story of events."""

from __future__ import annotations

import io
import json
import os
import re
import termios
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from pipeline.cli.exits import Exit, of_status
from pipeline.cli.view_board import Board, Event, Output, ReportSeen, RunSeen, Said, StageSeen
from pipeline.cli.view_json import JsonView
from pipeline.cli.view_live import LiveView
from pipeline.cli.view_plain import PlainView
from pipeline.cli.view_summary import next_commands, summary
from pipeline.cli.view_text import wide
from pipeline.cli.view_tree import tree
from pipeline.model import Status
from tests import cli_story as story


def board(events: Sequence[Event]) -> Board:
    told = Board(last=story.LAST)
    for event in events:
        told.take(event)
    return told


def picture(events: Sequence[Event], *, now: float, width: int = 100, height: int = 40) -> list[str]:
    lines = tree(board(events), now=now, width=width, height=height)
    return ["".join(text for text, _ in line) for line in lines]


def closing(events: Sequence[Event], *, width: int = 100) -> str:
    lines = summary(board(events), now=1030.0, width=width)
    return "\n".join("".join(text for text, _ in line) for line in lines)


def plain(events: Sequence[Event]) -> str:
    out = io.StringIO()
    view = PlainView(out, Board(last=story.LAST))
    for event in events:
        view.take(event)
    view.close(1030.0)
    return out.getvalue()


def as_json(events: Sequence[Event]) -> list[dict[str, object]]:
    out = io.StringIO()
    view = JsonView(out, Board(last=story.LAST))
    for event in events:
        view.take(event)
    view.close(1030.0)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_picture_shows_progress_against_the_last_run() -> None:
    lines = picture(story.opening(), now=1009.1)
    assert lines[0].startswith("shop #12  main at 1f79b46a with uncommitted changes")
    assert lines[0].endswith("9.1s of about 1m 03s")
    assert re.search(r"unit \[shard=1\] +3\.0s  ━━─{8} of about 12s", lines[3])
    assert "9 of 11 steps cached, 14s saved, 14s faster" in lines[1]
    assert "waits for unit [shard=1] and 1 more" in lines[5]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_the_picture_fits_every_width(width: int) -> None:
    for events in (story.opening(), story.failing(), story.waiting(), story.released()):
        assert max(wide(line) for line in picture(events, now=1028.5, width=width)) <= width


@pytest.mark.parametrize("height", [2, 3, 5])
def test_on_a_low_terminal_what_happens_now_is_kept_and_the_rest_is_counted(height: int) -> None:
    lines = picture(story.opening(), now=1009.0, height=height)
    assert len(lines) <= height
    if height == 5:
        assert [line[2:6] for line in lines[1:3]] == ["unit", "unit"]
        assert "✓ 2 done" in lines[-1]
        assert "○ 2 to come" in lines[-1]


def test_the_gate_says_how_to_pass_it() -> None:
    assert "waits for approval: pipe approve 12" in picture(story.waiting(), now=1017.0)[6]


def test_only_what_waits_for_a_person_looks_like_it() -> None:
    baking = [e for e in story.released() if e.at <= 1018.0]
    assert picture(baking, now=1020.0)[6][0] in "◐◓◑◒"
    assert picture(story.waiting(), now=1020.0)[6][0] == "◆"


def test_the_bake_counts_down() -> None:
    baking = [e for e in story.released() if e.at <= 1018.0]
    assert "green is live, watching it, 8.0s more" in picture(baking, now=1020.0)[6]


def test_failing_tests_come_first_with_their_message() -> None:
    text = closing(story.failing())
    assert "shop #12 failed in 15s" in text
    assert "1 failing test, new since the last run" in text
    assert "tests.test_cart::test_total\n      assert 3 == 4" in text
    assert "its last lines" not in text  # the test told it better


def test_without_a_test_to_blame_the_last_lines_are_shown() -> None:
    events = [e for e in story.failing() if not isinstance(e, ReportSeen)]
    events = [e for e in events if not (isinstance(e, StageSeen) and e.stage.status is Status.FAILED)]
    broken = replace(story.UNIT1, status=Status.FAILED, started_at=1006.1, finished_at=1014.0, reason="it said no")
    text = closing([*events, StageSeen(stage=broken, at=1014.0)])
    assert "unit [shard=1], its last lines" in text
    assert "E   assert 3 == 4" in text


def test_of_a_promotion_that_failed_the_whole_reason_is_told() -> None:
    text = closing(story.unready(), width=60)
    assert "✗ release         failed        5.9s  green was not" in text
    assert "GET /healthz at 198.18.192.5:8000: status 404" in text
    assert " ".join(text.split()).count("`app.processes` must say another `health`") == 1  # wrapped, not cut
    assert next_commands(board(story.unready()))[0][0] == "pipe env release"


def test_a_run_behind_another_of_its_group_says_so() -> None:
    events = [RunSeen(run=replace(story.RUN, status=Status.QUEUED), at=1000.0), StageSeen(stage=story.LINT, at=1000.0)]
    assert "another run of its concurrency group goes first" in picture(events, now=1001.0)[1]


def test_the_next_command_fits_what_happened() -> None:
    assert next_commands(board(story.failing()))[0][0] == "pipe logs 12 'unit [shard=1]'"
    assert next_commands(board(story.failing()))[-1][0] == "pipe retry 12 --failed"
    assert next_commands(board(story.waiting()))[0][0] == "pipe approve 12"
    assert next_commands(board(story.released()))[0][0] == "pipe rollback release"
    assert next_commands(board(story.opening())) == []


def test_a_release_ends_with_its_address_and_colour() -> None:
    text = closing(story.released())
    assert "live in release  http://127.0.0.1:8081 green" in text
    assert "the layer cache saved 14s" in text
    assert "35s faster than last time" in text


@pytest.mark.parametrize("width", [40, 80])
def test_the_summary_of_stages_fits_a_narrow_terminal(width: int) -> None:
    rows = [line for line in closing(story.failing(), width=width).splitlines() if line[:3] in ("  ✓", "  ✗", "  –")]
    assert len(rows) == 7
    assert max(wide(row) for row in rows) <= width


def test_plain_lines_name_their_stage_and_hold_no_control_character() -> None:
    text = plain(story.released())
    assert "unit [shard=1] | collected 41 items\nunit [shard=1] | tests/test_cart.py" in text
    assert "lint | All checks passed!\n" in text
    assert "image: succeeded in 5.9s, 9 of 11 steps cached" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_plain_lines_lose_nothing_of_a_flood() -> None:
    flood = "\n".join(f"line {n}" for n in range(50_000))
    out = plain([*story.opening(), Output(stage="lint", attempt=1, stream="out", first=1, text=flood, at=1003.0)])
    assert out.count("lint | line ") == 50_000


def test_a_fact_is_told_once() -> None:
    events = story.failing()
    assert plain([*events[:8], events[7], *events[8:]]) == plain(events)


def test_a_reader_who_leaves_does_not_stop_the_run() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    view = PlainView(Gone(), Board())
    for event in story.released():
        view.take(event)
    view.close(1030.0)
    assert view.board.run is not None
    assert view.board.run.status is Status.SUCCEEDED


def on_a_terminal(events: Sequence[Event], *, colour: bool = True) -> str:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (30, 100))
    shown: list[bytes] = []
    reader = threading.Thread(target=lambda: shown.extend(_all_of(master)))
    reader.start()
    with open(slave, "w", encoding="utf-8") as stream:  # noqa: PTH123
        view = LiveView(stream, Board(last=story.LAST), colour=colour)
        for event in events:
            view.take(event)
            view.draw(event.at)
        view.close(1030.0)
    reader.join()
    os.close(master)
    return b"".join(shown).decode()


def _all_of(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(terminal, 65536)
        except OSError:  # EIO: the other side was closed
            return


def test_on_a_terminal_output_flows_above_the_picture() -> None:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_a_terminal(story.failing()))
    assert "unit [shard=1] │ collected 41 items" in text
    assert "of about 12s" in text
    assert text.rstrip().endswith("only what did not succeed")


def test_a_stage_can_not_play_with_the_terminal() -> None:
    attack = Output(
        stage="lint", attempt=1, stream="out", first=2, text="a\x1b]52;c;eA==\x07\x1b[2J\x1b[3Ab", at=1003.0
    )
    text = on_a_terminal([*story.opening()[:10], attack])
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text
    assert "ab" in text


def test_without_colour_a_terminal_gets_none() -> None:
    text = on_a_terminal(story.failing(), colour=False)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)


def test_a_flood_on_a_terminal_is_cut_and_says_so() -> None:
    flood = "\n".join(f"line {n}" for n in range(50_000))
    events = [*story.opening(), Output(stage="lint", attempt=1, stream="out", first=1, text=flood, at=1003.0)]
    text = on_a_terminal(events)
    assert "49,600 lines not shown; `pipe logs 12` has them all" in text
    assert "line 49999" in text


def test_json_events_tell_every_line_and_end_with_a_summary() -> None:
    events = as_json(story.failing())
    assert [e["event"] for e in events].count("summary") == 1
    assert events[-1]["event"] == "summary"
    assert events[-1]["status"] == "failed"
    assert events[-1]["failing_tests"] == [
        {"stage": "unit [shard=1]", "name": "tests.test_cart::test_total", "news": "newly failing",
         "message": "assert 3 == 4\n +  where 3 = total()"}
    ]  # fmt: skip
    lines = [(e["line"], e["text"]) for e in events if e["event"] == "output" and e["stage"] == "image"]
    assert lines == [(1, "#1 [base 1/3] FROM debian:12"), (2, "#1 CACHED"), (3, "#9 exporting to image")]


def test_a_notice_is_an_event_too() -> None:
    assert as_json([Said(text="cancelling", at=3.0)])[0] == {"event": "notice", "text": "cancelling", "at": 3.0}


def test_each_status_has_its_exit_code() -> None:
    codes = {status: of_status(status) for status in Status}
    assert codes[Status.SUCCEEDED] == Exit.DONE == 0
    assert codes[Status.FAILED] == Exit.FAILED == 1
    assert codes[Status.ERRORED] == Exit.ERRORED == 3
    assert codes[Status.WAITING] == Exit.WAITING == 4
    assert codes[Status.CANCELLED] == Exit.CANCELLED == 130
    assert codes[Status.RUNNING] == Exit.ERRORED  # it should have ended
