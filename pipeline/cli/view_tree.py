"""Lay out the live picture of a run: one line per stage, folded to the room that the terminal has.

Lines are values, lists of (text, style); `view_live` paints them. Styles: good bad warn busy dim bold.
"""

from __future__ import annotations

from pipeline.cli.view_board import Board, PromotionSeen, took, unmet
from pipeline.cli.view_facts import notes
from pipeline.cli.view_text import compared, harmless, lasted, sentence, shortened, wide
from pipeline.model import StageRun, Status

Line = list[tuple[str, str]]

GLYPHS = {
    Status.QUEUED: ("○", "dim"),
    Status.RUNNING: ("●", "busy"),
    Status.WAITING: ("◆", "warn"),
    Status.SUCCEEDED: ("✓", "good"),
    Status.FAILED: ("✗", "bad"),
    Status.ERRORED: ("!", "bad"),
    Status.CANCELLED: ("■", "warn"),
    Status.SKIPPED: ("–", "dim"),
}
_SPINNER = "◐◓◑◒"
_BAR = 10

PHASES = {
    "locked": "taking the environment's lock",
    "pulling": "pulling the image",
    "before_hook": "running the before-hook",
    "creating": "starting {colour}",
    "waiting_ready": "waiting until {colour} is ready",
    "verifying": "verifying {colour} at its preview address",
    "gate": "{colour} is up and waits for a decision",
    "switching": "switching to {colour}",
    "baking": "{colour} is live, watching it",
    "rolling_back": "going back",
}


def tree(board: Board, *, now: float, width: int, height: int) -> list[Line]:
    """Return the picture in at most `height` lines of at most `width` columns."""
    head = _head(board, now, width)
    rows = _fold(board.ordered, max(height - 1, 1))
    column = _name_column([row for row in rows if isinstance(row, StageRun)], width)
    return [head, *(_row(row, board, now, width, column) for row in rows)]


def _head(board: Board, now: float, width: int) -> Line:
    run = board.run
    if run is None:
        return [("starting", "dim")]
    clock = lasted(board.elapsed(now))
    last = board.last_total()
    if last and not run.status.final:
        clock += f" of about {lasted(last)}"
    name = f"{run.pipeline} #{run.id}"
    where = f"  {origin(board)}"
    room = width - wide(name) - len(clock) - 2
    if room < 0:
        return [(shortened(name, width), "bold")]
    where = shortened(where, room)
    gap = " " * max(width - wide(name) - wide(where) - len(clock), 1)
    return [(name, "bold"), (where, "dim"), (gap, ""), (clock, "")]


def origin(board: Board) -> str:
    """Return where the run comes from: branch or tag, commit, and whether the tree had changes."""
    if board.run is None:
        return ""
    event = board.run.event
    ref = event.tag or event.branch or event.ref.removeprefix("refs/heads/")
    if not event.sha.strip("0"):  # a folder that is in no repository, or one without a commit
        return harmless(f"{ref}, nothing committed yet" if ref else "a folder without a repository", colour=False)
    changed = " with uncommitted changes" if event.dirty else ""
    return harmless(f"{ref} at {event.sha[:8]}{changed}", colour=False)


def _name_column(rows: list[StageRun], width: int) -> int:
    longest = max((wide(row.name) for row in rows), default=8)
    return min(longest, max(width // 3, 8))


def _fold(stages: list[StageRun], room: int) -> list[StageRun | Line]:
    """Keep what happens now and what went wrong; put the rest into counts where there is no room."""
    if len(stages) <= room:
        return list(stages)
    quiet = {Status.SUCCEEDED: "done", Status.SKIPPED: "skipped", Status.QUEUED: "to come"}
    kept: list[StageRun | Line] = [stage for stage in stages if stage.status not in quiet]
    counts: Line = []
    for status, word in quiet.items():
        number = sum(stage.status is status for stage in stages)
        if number:
            glyph, style = GLYPHS[status]
            counts += [(f"{glyph} ", style), (f"{number} {word}  ", "dim")]
    more = len(kept) - (room - 1)
    if more > 0:
        kept = kept[: max(room - 1, 0)]
        counts.append((f"and {more} more", "dim"))
    return [*kept, counts]


def _row(row: StageRun | Line, board: Board, now: float, width: int, column: int) -> Line:
    if not isinstance(row, StageRun):
        return row
    glyph, style = GLYPHS[row.status]
    if row.status is Status.RUNNING or (row.status is Status.WAITING and _under_way(board.promotions.get(row.name))):
        glyph, style = _SPINNER[int(now * 8) % len(_SPINNER)], "busy"
    seconds = took(row, now)
    name = shortened(row.name, column)
    clock = lasted(seconds) if seconds is not None else ""
    lead = f" {name}{' ' * (column - wide(name))}  {clock:>7}  "
    room = width - 1 - wide(lead) - 1
    if room < 8:  # a narrow terminal: name and time only
        return [(glyph, style), (shortened(f" {name} {clock}", width - 1), "")]
    return [
        (glyph, style),
        (lead, "dim" if row.status in (Status.QUEUED, Status.SKIPPED) else ""),
        *_detail(row, board, now, room),
    ]


def _detail(stage: StageRun, board: Board, now: float, room: int) -> Line:
    promotion = board.promotions.get(stage.name)
    if stage.status is Status.RUNNING and promotion is None:
        return _progress(stage, board, now, room)
    text, style = _words(stage, board, promotion, now)
    return [(shortened(harmless(text, colour=False), room), style)]


def _progress(stage: StageRun, board: Board, now: float, room: int) -> Line:
    last, seconds = board.last.get(stage.name), took(stage, now) or 0.0
    again = f"attempt {stage.attempts}" if stage.attempts > 1 else ""
    if not last or room < _BAR + 12:
        return [(shortened(again, room), "warn")]
    full = min(int(seconds / last * _BAR), _BAR - 1)
    rest = f" of about {lasted(last)}" if seconds <= last else f" {lasted(seconds - last)} over"
    return [
        ("━" * full, "busy"),
        ("─" * (_BAR - full), "dim"),
        (rest, "dim"),
        (shortened(f"  {again}" if again else "", room - _BAR - len(rest)), "warn"),
    ]


def _words(stage: StageRun, board: Board, promotion: PromotionSeen | None, now: float) -> tuple[str, str]:
    match stage.status:
        case Status.QUEUED:
            return _waits_for(stage, board), "dim"
        case Status.WAITING | Status.RUNNING:
            return _promotes(stage, promotion, now), "dim" if _under_way(promotion) else "warn"
        case Status.SUCCEEDED:
            seconds = took(stage, now)
            change = compared(seconds, board.last.get(stage.name)) if seconds is not None else ""
            return ", ".join(note for note in (address(promotion), *notes(stage, board), change) if note), "dim"
        case Status.SKIPPED:
            return sentence(stage.reason), "dim"
    return ", ".join([*notes(stage, board)[:1], sentence(stage.reason)]), "bad"


def _under_way(promotion: PromotionSeen | None) -> bool:
    """Tell whether a promotion goes on by itself: nobody is waited for."""
    return promotion is not None and promotion.status in ("approved", "deploying") and promotion.phase != "gate"


def _waits_for(stage: StageRun, board: Board) -> str:
    names = unmet(stage, board.stages)
    if not names and board.run is not None and board.run.status is Status.QUEUED:
        return "waits for its turn: another run of its concurrency group goes first"
    if not names:
        return "waits for a free place"
    return f"waits for {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _promotes(stage: StageRun, promotion: PromotionSeen | None, now: float) -> str:
    if promotion is None:
        return "waits"
    if promotion.status == "requested":
        return f"waits for approval: pipe approve {stage.run_id}"
    if promotion.status == "approved":
        return f"waits for its turn in {promotion.environment}"
    text = PHASES.get(promotion.phase, promotion.phase).format(colour=promotion.colour or "the new colour")
    if promotion.phase == "gate":
        text += f": pipe approve {stage.run_id}"
    if promotion.phase == "baking" and promotion.until and promotion.until > now:
        text += f", {lasted(promotion.until - now)} more"
    return text


def address(promotion: PromotionSeen | None) -> str:
    """Return where the promoted release answers, and in which colour."""
    if promotion is None or promotion.status not in ("live", "deploying"):
        return ""
    return " ".join(part for part in (promotion.url, promotion.colour) if part)
