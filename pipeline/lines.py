"""From chunks to lines: one stream of output cut into whole lines, without its secrets, at memory speed.

Everything is done per chunk, not per line. What is held back is the beginning of a line, and whole lines that may be
the beginning of a secret of many lines. Where lines are stored is `logs`.
"""

from __future__ import annotations

from pipeline.masking import Masker

LINE_BYTES = 1024 * 1024  # a longer line is cut, and says so


class LineStream:
    """Takes chunks of any size and returns the lines that are whole, masked. One raw line stays one line."""

    def __init__(self, masker: Masker) -> None:
        """Begin a stream that is masked by `masker`."""
        self._masker = masker
        self._skip = 0  # lines to leave out, because they are stored
        self._clear()

    def _clear(self) -> None:
        self._tail = bytearray()  # the beginning of a line
        self._cut = 0  # bytes of that line that were dropped
        self._undecided = b""  # whole lines that may be the beginning of a secret of many lines

    def begin_again(self, stored: int) -> None:
        """Forget what is under way and leave out the first `stored` lines."""
        self._clear()
        self._skip = stored

    def take(self, data: bytes) -> bytes:
        """Return the lines that are now whole."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._hold(data)
            return b""
        head = self._first(data[:end]) if self._tail else data[:end]
        self._tail = bytearray()
        self._hold(data[end:])
        if self._skip:
            head = self._left(head)
        if not self._masker or not head:
            return head
        head = self._undecided + head
        keep = len(head) - self._masker.undecided(head)
        self._undecided = head[keep:]
        return self._masker.mask(head[:keep])

    def end(self) -> bytes:
        """Return what is left, with a line end."""
        text = self.take(b"\n") if self._tail else b""
        rest, self._undecided = self._undecided, b""
        return text + self._masker.mask(rest)

    def _hold(self, data: bytes) -> None:
        room = LINE_BYTES + self._masker.longest - len(self._tail)
        self._tail += data[: max(room, 0)]
        self._cut += len(data) - min(len(data), max(room, 0))

    def _first(self, data: bytes) -> bytes:
        """Return the held beginning with the lines of `data`, its first line cut where it is too long."""
        at = data.index(b"\n")
        if len(self._tail) + at <= LINE_BYTES and not self._cut:
            return bytes(self._tail) + data
        self._hold(data[:at])
        line = _shortened(bytes(self._tail), self._cut, self._masker)
        self._cut = 0
        return line + data[at:]

    def _left(self, head: bytes) -> bytes:
        lines = head.count(b"\n")
        if lines <= self._skip:
            self._skip -= lines
            return b""
        head = head.split(b"\n", self._skip)[self._skip]
        self._skip = 0
        return head


def _shortened(line: bytes, dropped: int, masker: Masker) -> bytes:
    """Return the beginning of a long line, without the beginning of a secret at its end."""
    end = LINE_BYTES - masker.longest
    for start, stop in masker.spans(line):
        if start < end < stop:
            end = start
    return line[:end] + b" [%d bytes more were cut]" % (len(line) - end + dropped)
