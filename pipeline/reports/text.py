"""Text cut to size: labels that stay distinct, long output whose beginning and end are kept.

Nothing here knows of tests; it keeps one careless report from filling memory and database.
"""

from __future__ import annotations

from hashlib import sha256


def label(text: str, limit: int) -> str:
    """Cut a name to `limit` characters; a cut name ends in a digest of the whole, so two never become one."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - 13]}~{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def clip(text: str, limit: int) -> str:
    """Keep the first and last halves of a text of more than `limit` characters, with a note between them."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}{_note(len(text) - 2 * half)}{text[-half:]}"


class Gathered:
    """Text that arrives in pieces and is never held beyond about `limit` characters."""

    __slots__ = ("_half", "_head", "_length", "_size", "_tail")

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head: list[str] = []
        self._size = 0
        self._tail = ""
        self._length = 0

    def add(self, piece: str) -> None:
        """Take the next piece."""
        self._length += len(piece)
        room = self._half - self._size
        if room > 0:
            self._head.append(piece[:room])
            self._size += len(self._head[-1])
            piece = piece[room:]
        if piece:
            self._tail = (self._tail + piece)[-self._half :]

    @property
    def cut(self) -> int:
        """Count the characters that were left out."""
        return self._length - self._size - len(self._tail)

    def __str__(self) -> str:
        return "".join(self._head) + (_note(self.cut) if self.cut else "") + self._tail


def _note(count: int) -> str:
    return f"\n[... {count} characters left out ...]\n"
