"""Text as a terminal may have it: harmless, measured, and with times a person reads.

What a stage prints is not ours: it may hold cursor moves, window titles, clipboard writes
(OSC 52) or direction overrides. Colours are kept, everything else of that kind is dropped.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache

# C0 except tab and newline, DEL, C1, and the characters that reorder what is read.
_SUSPECT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ESCAPES = re.compile(
    "\x1b\\[([0-9;:]*)m"  # a colour: the only group that may stay
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c|$)?"  # OSC, DCS, SOS, PM, APC
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"  # every other CSI
    "|\x1b[ -/]*[0-~]?"  # two-character escapes
    "|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]",
    re.MULTILINE,
)
_RESET = "\x1b[0m"


def harmless(text: str, *, colour: bool) -> str:
    """Return `text` without anything that could move, hide, rename or answer; colours stay if `colour`.

    Of a line that was overwritten with carriage returns, as progress bars do, the last state is kept.
    """
    if not _SUSPECT.search(text):
        return text
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    if not colour:
        return _ESCAPES.sub("", text)
    cleaned = _ESCAPES.sub(lambda m: "" if m[1] is None else _sgr(m[1]), text)
    return "\n".join(line + _RESET if "\x1b" in line else line for line in cleaned.split("\n"))


@lru_cache(maxsize=256)
def _sgr(parameters: str) -> str:
    """Return the sequence with what may stay of it: weight, underline, inverse, colours."""
    codes = re.split("[;:]", parameters) if parameters else ["0"]
    kept: list[str] = []
    while codes:
        code = codes.pop(0) or "0"
        if code in ("38", "48"):
            size = {"5": 2, "2": 4}.get(codes[0] if codes else "", 0)
            chosen, codes = codes[:size], codes[size:]
            if size and len(chosen) == size and all(c.isdigit() and int(c) < 256 for c in chosen):
                kept += [code, *chosen]
        elif code.isdigit() and _plain_code(int(code)):
            kept.append(str(int(code)))
    return f"\x1b[{';'.join(kept)}m" if kept else ""


def _plain_code(code: int) -> bool:
    # No blinking (5, 6) and no hidden text (8): both have been used to mislead readers of logs.
    return code in (0, 1, 2, 3, 4, 7, 9) or 21 <= code <= 25 or 27 <= code <= 49 or 90 <= code <= 107


def lasted(seconds: float) -> str:
    """Return a length of time as a person says it: `0.4s`, `12s`, `2m 05s`, `1h 02m`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def ago(seconds: float) -> str:
    """Return how long ago something was, in its largest unit: `just now`, `5 min ago`, `3 h ago`, `2 days ago`."""
    for size, unit in ((172800, "days"), (7200, "h"), (120, "min")):
        if seconds >= size:
            per = {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{int(seconds // per)} {unit} ago"
    return "just now" if seconds < 10 else f"{int(seconds)} s ago"


def clock(at: float) -> str:
    """Return a time of day as this machine's people read it."""
    return time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03}"


def compared(seconds: float, last: float | None) -> str:
    """Return the difference to the last run where it is worth a word, else an empty string."""
    if not last or abs(seconds - last) < max(0.5, 0.1 * last):
        return ""
    return f"{lasted(abs(seconds - last))} {'slower' if seconds > last else 'faster'}"


def sentence(reason: str) -> str:
    """Return the first line of a stored reason; of a chain of skipped needs, the first link."""
    line = reason.partition("\n")[0]
    head, skipped, _ = line.partition("which was skipped: ")
    return head + "which was skipped" if skipped else line


def size(count: float) -> str:
    """Return a number of bytes with a unit: `512 B`, `4.0 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 test`, `2 tests`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def shortened(text: str, width: int) -> str:
    """Return `text` in at most `width` columns of a terminal, cut with an ellipsis."""
    if len(text) <= width and text.isascii() and text.isprintable():
        return text
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 0)).rstrip() + "…" if width > 0 else ""


def wide(text: str) -> int:
    """Return how many columns `text` takes."""
    if text.isascii() and text.isprintable():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
