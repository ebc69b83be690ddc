"""What is wrong in a file, as values: where, what, what to do; and how that is shown with its line and a caret.

Finding mistakes is the business of `yamltree`, `loading`, `checks` and `lint`; wording pydantic's is `wording`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pipeline.errors import DefinitionError

SHOWN = 50  # a hostile file has thousands; nobody reads more
MOST = 200  # that are looked for at all
_WIDEST = 160


class Mistake(NamedTuple):
    """One finding. `line` and `column` are 1-based; `length` is how much the caret underlines."""

    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    length: int = 1
    rule: str = ""

    @property
    def where(self) -> str:
        """Return `file:line:column`."""
        return f"{self.file}:{self.line}:{self.column}"

    def as_data(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return self._asdict()


class WrongDefinition(DefinitionError):
    """All mistakes of a definition at once, sorted by position, each with its line."""

    def __init__(self, mistakes: Iterable[Mistake], texts: Mapping[str, str]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        shown = [render(m, texts.get(m.file, "")) for m in self.mistakes[:SHOWN]]
        if more := len(self.mistakes) - len(shown):
            shown.append(f"and {more}{' or more' if len(self.mistakes) >= MOST else ' more'}")
        super().__init__("\n".join(shown))


def render(mistake: Mistake, text: str) -> str:
    """Show a mistake as `file:line:column: message`, its line, a caret, and what to do."""
    head = f"{mistake.where}: {mistake.message}"
    lines = text.splitlines()
    if not 0 < mistake.line <= len(lines):
        return f"{head}\n    {mistake.hint}" if mistake.hint else head
    line = lines[mistake.line - 1]
    start = min(mistake.column - 1, len(line))
    first = max(0, start - _WIDEST // 2) if len(line) > _WIDEST else 0
    window = line[first : first + _WIDEST]
    # The same tabs and wide characters stand before the caret as before the mistake.
    lead = "".join(c if c == "\t" else "  " if ord(c) > 0x10FF else " " for c in line[first:start])
    carets = "^" * max(1, min(mistake.length, len(window) - (start - first)))
    number = str(mistake.line)
    pad = " " * len(number)
    return f"{head}\n  {number} | {_printable(window)}\n  {pad} | {lead}{carets}" + (
        f" {mistake.hint}" if mistake.hint else ""
    )


def _printable(text: str) -> str:
    """Replace what could move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() or c == "\t" else "·" for c in text)


def closest(word: str, known: Iterable[str]) -> str:
    """Return the known word that was probably meant, or an empty string."""
    from difflib import get_close_matches  # only a wrong file pays for it

    plain = {one.lower().replace("-", "_"): one for one in known}
    found = get_close_matches(word[:64].lower().replace("-", "_"), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else ""
