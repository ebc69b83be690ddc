"""From a container's output to the attempt's log: the shell's marks become `$ command` lines of our own.

The two streams arrive in any order relative to each other; each mark is on both, so what one stream says after a mark
waits until the other has come to it. Everything is done per chunk, never per line. After a crash the same output
comes again from its first byte: marks lead to the same places, and what was stored is left out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runners.stages import shell

if TYPE_CHECKING:
    from pipeline.logs import LogWriter

_HELD_BYTES = 1 << 20  # more is not kept back for a mark that does not come
_MARK_BYTES = 256


@dataclass
class _Side:
    """One of the two streams."""

    tail: bytes = b""  # may be the beginning of a mark
    waiting: shell.Mark | None = None  # where it waits for the other one
    gone: bool = False  # its marks do not come any more
    held: deque[bytes | shell.Mark] = field(default_factory=deque)
    held_bytes: int = 0
    at_line_start: bool = True


class Pump:
    """Takes output and gives it to a log; remembers how far the commands came."""

    def __init__(
        self,
        log: LogWriter,
        commands: Sequence[str],
        mark: str,
        *,
        said: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`said` is how many of the commands the log has named already."""
        self._log = log
        self._commands = commands
        self._prefix = shell.prefix(mark)
        self._said = said
        self._clock = clock
        self._sides = {"out": _Side(), "err": _Side()}
        self._next = 0  # the lowest index that a mark may still have
        self._seen: dict[int, tuple[shell.Mark, float]] = {}

    def take(self, stream: str, data: bytes) -> None:
        """Take a chunk as it came. Raises what the log raises."""
        side = self._sides[stream]
        if side.tail:
            data, side.tail = side.tail + data, b""
        while (at := data.find(self._prefix)) >= 0:
            end = data.find(b"\n", at)
            if end < 0 and len(data) - at < _MARK_BYTES:
                side.tail, data = data[at:], data[:at]
                break
            mark = shell.parse(data[at + len(self._prefix) : end]) if end >= 0 else None
            if mark is None:  # it only looks like one
                self._push(stream, data[: at + 1])
                data = data[at + 1 :]
                continue
            self._push(stream, data[:at])
            self._push(stream, mark)
            data = data[end + 1 :]
        else:
            data = self._keep_back(side, data)
        self._push(stream, data)

    def end(self) -> None:
        """Give on what was kept back: nothing more comes."""
        for stream, side in self._sides.items():
            tail, side.tail = side.tail, b""
            self._push(stream, tail)
            side.gone = True
        self._meet()

    @property
    def began(self) -> int:
        """Return how many commands have begun."""
        return max((index for index in self._seen if index < len(self._commands)), default=-1) + 1

    def timings(self, code: int) -> tuple[dict[str, object], ...]:
        """Return text, seconds and exit code of each command that began, when the shell has ended with `code`."""
        now = self._clock()
        ended = self._seen.get(len(self._commands))
        told: list[dict[str, object]] = []
        for index in range(self.began):
            following = self._seen.get(index + 1) if index + 1 < self.began else ended
            seconds = _between(self._seen.get(index), following, now)
            last = index == self.began - 1
            told.append({"text": self._commands[index], "seconds": seconds, "exit_code": code if last else 0})
        return tuple(told)

    def _keep_back(self, side: _Side, data: bytes) -> bytes:
        at = data.rfind(b"\x1e", max(0, len(data) - len(self._prefix)))
        if at < 0 or not self._prefix.startswith(data[at:]):
            return data
        side.tail = data[at:]
        return data[:at]

    def _push(self, stream: str, item: bytes | shell.Mark) -> None:
        side = self._sides[stream]
        if isinstance(item, shell.Mark):
            self._seen.setdefault(item.index, (item, self._clock()))
        if side.waiting is None:
            self._pass_on(stream, item)
        else:
            side.held.append(item)
            side.held_bytes += len(item) if isinstance(item, bytes) else 0
            if side.held_bytes > _HELD_BYTES:
                self._sides["err" if stream == "out" else "out"].gone = True
        if side.waiting is not None:
            self._meet()

    def _pass_on(self, stream: str, item: bytes | shell.Mark) -> None:
        side = self._sides[stream]
        if isinstance(item, bytes):
            if item:
                self._log.feed(stream, item)
                side.at_line_start = item.endswith(b"\n")
            return
        if not side.at_line_start:
            self._log.feed(stream, b"\n")
            side.at_line_start = True
        if item.index >= self._next:
            side.waiting = item

    def _meet(self) -> None:
        """Go on behind each mark as soon as both streams are there, or one is and the other does not come."""
        while not any(side.waiting is None and not side.gone for side in self._sides.values()):
            marks = [side.waiting for side in self._sides.values() if side.waiting is not None]
            if not marks:
                return
            index = min(mark.index for mark in marks)
            self._announce(index)
            self._next = index + 1
            for stream, side in self._sides.items():
                if side.waiting is not None and side.waiting.index <= index:
                    side.waiting = None
                    self._release(stream, side)

    def _release(self, stream: str, side: _Side) -> None:
        while side.held and side.waiting is None:
            item = side.held.popleft()
            side.held_bytes -= len(item) if isinstance(item, bytes) else 0
            self._pass_on(stream, item)

    def _announce(self, index: int) -> None:
        if self._said <= index < len(self._commands):
            first, *more = self._commands[index].rstrip("\n").split("\n")
            self._log.say("\n".join([f"$ {first}", *(f"> {line}" for line in more)]))


def _between(
    begun: tuple[shell.Mark, float] | None, ended: tuple[shell.Mark, float] | None, now: float
) -> float | None:
    """Return the seconds between two marks, by the container's clock where both tell it."""
    if begun is None:
        return None
    if ended is None:
        return round(max(0.0, now - begun[1]), 3)
    if begun[0].clock is not None and ended[0].clock is not None:
        by_clock = max(0.0, ended[0].clock - begun[0].clock)
        by_arrival = max(0.0, ended[1] - begun[1])
        # The container's clock has steps of 10 ms; the arrival is finer where nothing was waited for.
        return round(by_arrival if abs(by_arrival - by_clock) <= 0.02 else by_clock, 3)
    return round(max(0.0, ended[1] - begun[1]), 3)
