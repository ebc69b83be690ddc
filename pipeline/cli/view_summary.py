"""The closing words of a run: how each stage ended, what failed first, where it is live, and what to do next.

Lines are values, as in `view_tree`; both the live and the plain view end with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap

from pipeline.cli.view_board import Board, took
from pipeline.cli.view_facts import notes, saved_seconds
from pipeline.cli.view_text import compared, counted, harmless, lasted, sentence, shortened, wide
from pipeline.cli.view_tree import GLYPHS, Line, address
from pipeline.model import StageRun, Status

_TESTS = 10  # failing tests that are told in full
_STYLES = {Status.SUCCEEDED: "good", Status.WAITING: "warn", Status.CANCELLED: "warn"}
_BAD = (Status.FAILED, Status.ERRORED)


def summary(board: Board, *, now: float, width: int) -> list[Line]:
    """Return the closing summary, sections apart by empty lines."""
    sections = [
        _verdict(board, now),
        _stages(board, now, width),
        _tests(board, width),
        _last_words(board, width),
        _addresses(board),
        _saved(board),
        _notices(board, width),
        _next(board),
    ]
    lines: list[Line] = []
    for section in sections:
        if section:
            lines += [[], *section]
    return lines


def _verdict(board: Board, now: float) -> list[Line]:
    run = board.run
    if run is None:
        return []
    seconds = board.elapsed(now)
    change = compared(seconds, board.last_total())
    word = {Status.WAITING: "waits for approval"}.get(run.status, str(run.status))
    text = f" after {lasted(seconds)}" if run.status is Status.WAITING else f" in {lasted(seconds)}"
    line: Line = [(f"{run.pipeline} #{run.id} ", "bold"), (word, f"bold {_STYLES.get(run.status, 'bad')}"), (text, "")]
    if change and run.status is Status.SUCCEEDED:
        line.append((f", {change} than last time", "dim"))
    reason = harmless(run.reason, colour=False).partition("\n")[0]
    told = run.status in (Status.SUCCEEDED, Status.FAILED, Status.WAITING)  # by its stages, below
    return [line] if told or not reason else [line, [(f"  {reason}", "")]]


def _stages(board: Board, now: float, width: int) -> list[Line]:
    rows = board.ordered
    column = min(max((wide(s.name) for s in rows), default=0), max(width // 3, 8))
    return [_stage(stage, board, now, width, column) for stage in rows]


def _stage(stage: StageRun, board: Board, now: float, width: int, column: int) -> Line:
    glyph, style = GLYPHS[stage.status]
    name = shortened(stage.name, column)
    seconds = took(stage, now)
    clock = "" if seconds is None or stage.status is Status.SKIPPED else lasted(seconds)
    lead = f" {name}{' ' * (column - wide(name))}  {stage.status:<9}  {clock:>7}  "
    words = notes(stage, board)
    if stage.status is Status.SUCCEEDED and seconds is not None:
        words.append(compared(seconds, board.last.get(stage.name)))
    elif stage.reason and not (board.run and stage.reason == board.run.reason):
        words.append(sentence(stage.reason))
    if stage.attempts > 1:
        words.append(f"attempt {stage.attempts}")
    if stage.status in _BAD and stage.allow_failure:
        words.append("allowed to fail")
    text = harmless(", ".join(word for word in words if word), colour=False)
    return [("  ", ""), (glyph, style), (lead, ""), (shortened(text, width - wide(lead) - 4), "dim")]


def _tests(board: Board, width: int) -> list[Line]:
    failing = [(stage.name, test) for stage in board.ordered for test in board.failing(stage)]
    if not failing:
        return []
    failing.sort(key=lambda item: item[1].news != "newly failing")
    news = sum(test.news == "newly failing" for _, test in failing)
    total = max(len(failing), sum(report.bad for report in board.reports.values()))
    head = counted(total, "failing test")
    if news:
        head += f", {'new' if news == total else f'{news} of them new'} since the last run"
    lines: list[Line] = [[(f"  {head}", "bold")]]
    several = len({name for name, _ in failing}) > 1
    for name, test in failing[:_TESTS]:
        where = f"  ({name})" if several else ""
        lines.append([("  ✗ ", "bad"), (shortened(harmless(test.name + where, colour=False), width - 5), "")])
        message = harmless(test.message, colour=False).strip().splitlines()
        lines += [[("      ", ""), (shortened(text, width - 7), "dim")] for text in message[:3]]
    if total > _TESTS:
        lines.append([(f"    and {total - _TESTS} more: pipe show {board.run.id if board.run else ''}", "dim")])
    return lines


def _last_words(board: Board, width: int) -> list[Line]:
    """Show how the output of a broken stage ended, where no test tells it better; of a promotion, all of the reason."""
    lines: list[Line] = []
    for stage in board.ordered:
        if stage.status not in _BAD or stage.allow_failure or board.failing(stage):
            continue
        tail, reason = board.tails.get(stage.name), stage.reason.splitlines()
        if stage.kind == "promote" and len(reason) > 1:
            whole = (part for text in reason for part in wrap(text, max(width - 5, 20)))
            lines += _quoted_lines(stage.name, whole, width)
        elif tail:
            lines += _quoted_lines(f"{stage.name}, its last lines", tail, width)
    return lines


def _quoted_lines(head: str, texts: Iterable[str], width: int) -> list[Line]:
    quoted: list[Line] = [[(f"  {head}", "bold")]]
    return quoted + [
        [("    ", ""), (shortened(harmless(text.rstrip(), colour=False), width - 5), "dim")] for text in texts
    ]


def _addresses(board: Board) -> list[Line]:
    rows = [(p.environment, address(p)) for p in board.promotions.values() if p.status == "live" and p.url]
    column = max((len(name) for name, _ in rows), default=0)
    return [[("  live in ", "good"), (f"{name.ljust(column)}  ", "bold"), (where, "")] for name, where in rows]


def _saved(board: Board) -> list[Line]:
    saved = sum(saved_seconds(stage) for stage in board.ordered)
    return [[(f"  the layer cache saved {lasted(saved)}", "dim")]] if saved >= 1 else []


def _notices(board: Board, width: int) -> list[Line]:
    return [[(f"  {shortened(harmless(text, colour=False), width - 2)}", "warn")] for text in board.said]


def _next(board: Board) -> list[Line]:
    commands = next_commands(board)
    column = max((len(command) for command, _ in commands), default=0)
    return [
        [("  next: " if number == 0 else "        ", "dim"), (command.ljust(column), "bold"), (f"  {why}", "dim")]
        for number, (command, why) in enumerate(commands)
    ]


def next_commands(board: Board) -> list[tuple[str, str]]:
    """Return what is worth doing now, as (command, why), the most useful first."""
    run = board.run
    if run is None:
        return []
    if run.status is Status.WAITING or board.waiting:
        return [(f"pipe approve {run.id}", "let it go on"), (f"pipe reject {run.id}", "or not")]
    broken = [stage for stage in board.ordered if stage.status in _BAD and not stage.allow_failure]
    if run.status is Status.ERRORED:
        return [
            ("pipe doctor", "what is wrong with this machine"),
            (f"pipe retry {run.id} --failed", "once it is mended"),
        ]
    if broken:
        failed = next((stage for stage in broken if stage.status is Status.FAILED), broken[0])
        found = [(f"pipe logs {run.id} {_quoted(failed.name)}", "all that it wrote")]
        if promotion := board.promotions.get(failed.name):
            found = [(f"pipe env {promotion.environment}", "what is live there, and what was tried")]
        if failed.kind == "run" and failed.status is Status.FAILED:
            found.append((f"pipe shell {_quoted(failed.name)}", "look around where it failed"))
        return [*found, (f"pipe retry {run.id} --failed", "only what did not succeed")]
    if run.status is Status.CANCELLED:
        return [(f"pipe retry {run.id} --failed", "take up what is missing")]
    live = [p for p in board.promotions.values() if p.status == "live"]
    back = (
        [(f"pipe rollback {live[-1].environment}", "back to the release before")] if live and not live[-1].first else []
    )
    if live:
        return [*back, ("pipe env", "what is live where")]
    return []


def _quoted(name: str) -> str:
    return f"'{name}'" if " " in name else name
