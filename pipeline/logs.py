"""The logs of attempts: numbered lines of `out`, `err` and our own `pipe`, masked before they are stored.

A stream is taken chunk by chunk, as the container wrote it; only whole lines are stored, so after a
crash `seen` tells how many lines of each stream are safe, and a replay from the container's first byte
goes on exactly there. How the files look is `segments`; what is secret is `masking`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from pipeline.errors import LeaseLost, PipeError
from pipeline.lines import LINE_BYTES, LineStream
from pipeline.masking import Masker
from pipeline.segments import END, STREAMS, Chunk, Reader, Segment, remove

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.settings import Settings

__all__ = ["Line", "LogWriter", "chunks", "follow", "open_log", "read", "remove_log", "tail"]

BUFFER_BYTES = 256 * 1024
FLUSH_SECONDS = 0.03  # how long output may wait for company
POLL_SECONDS = 0.05  # how soon a follower sees what another process stored

_stored = threading.Condition()  # notified whenever a writer of this process has stored something


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log, numbered from 1 over all streams."""

    number: int
    at: float
    stream: str
    text: str


class LogWriter:
    """Writes the log of one attempt. Threads may share it. Raises Unavailable when the disk refuses."""

    def __init__(self, logs: Path, attempt: int, masker: Masker, clock: Callable[[], float] = time.time) -> None:
        """Open the attempt's log behind what is already stored; see `open_log`."""
        self._segment = Segment(logs, attempt)
        self._masker = masker
        self._clock = clock
        self._lock = threading.RLock()
        self._pending: list[tuple[str, bytes]] = []
        self._pending_bytes = 0
        self._flushed_at = 0.0
        self._streams = {name: LineStream(masker) for name in STREAMS[:3]}
        self._error: PipeError | LeaseLost | None = None
        self._closed = False

    @property
    def lines(self) -> int:
        """Return how many lines are stored."""
        return self._segment.lines

    def seen(self, stream: str) -> int:
        """Return how many lines of `out` or `err` are safely stored."""
        with self._lock:
            return self._segment.seen[stream]

    def replay(self) -> None:
        """Expect `out` and `err` to come again from their first byte: the lines that are stored are left out."""
        with self._lock:
            for name in ("out", "err"):
                self._streams[name].begin_again(self._segment.seen[name])

    def feed(self, stream: str, data: bytes) -> None:
        """Take output as it comes, in chunks of any size. Raises Unavailable and LeaseLost."""
        with self._lock:
            self._check()
            self._pending.append((stream, bytes(data)))
            self._pending_bytes += len(data)
            if self._pending_bytes >= BUFFER_BYTES or time.monotonic() - self._flushed_at > FLUSH_SECONDS:
                self._drain()
                return
        _flusher.remember(self)

    def say(self, text: str) -> None:
        """Add lines of our own (stream `pipe`), behind all whole lines that came before."""
        with self._lock:
            self._check()
            self._pending.append(("pipe", text.rstrip("\n").encode(errors="replace") + b"\n"))
            self._drain()

    def flush(self) -> None:
        """Store every whole line that has come. Raises Unavailable and LeaseLost."""
        with self._lock:
            self._check()
            self._drain()

    def close(self) -> int:
        """Store what is left, also a last line without its end; return the number of lines. Idempotent."""
        with self._lock:
            if self._closed:
                return self._segment.lines
            try:
                self._check()
                self._drain(end=True)
                self._segment.sync()
            finally:
                self._closed = True
                self._segment.close()
            with _stored:
                _stored.notify_all()
            return self._segment.lines

    def _check(self) -> None:
        if self._error:
            raise self._error
        if self._closed:
            raise ValueError("the log is closed")

    def _drain(self, *, end: bool = False) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        now = self._clock()
        pieces: list[tuple[int, float, int, bytes]] = []
        for name, group in groupby(pending, key=lambda item: item[0]):
            data = b"".join(chunk for _, chunk in group)
            for at in range(0, len(data), LINE_BYTES):
                self._keep(pieces, name, now, self._streams[name].take(data[at : at + LINE_BYTES]))
        if end:
            for name, stream in self._streams.items():
                self._keep(pieces, name, now, stream.end())
            pieces.append((END, now, 0, b""))
        if pieces:
            try:
                self._segment.append(pieces)
            except (PipeError, LeaseLost) as error:
                self._error = error
                raise
            with _stored:
                _stored.notify_all()
        self._flushed_at = time.monotonic()

    def _keep(self, pieces: list[tuple[int, float, int, bytes]], name: str, now: float, text: bytes) -> None:
        if text:
            pieces.append((STREAMS.index(name), now, text.count(b"\n"), text))

    def flush_quietly(self) -> None:
        """Store what waits; an error is kept for the next call of the writer's owner."""
        with self._lock:
            if self._closed or self._error or not self._pending:
                return
            try:
                self._drain()
            except (PipeError, LeaseLost):
                return


class _Flusher:
    """One thread per process that stores what came last and then waited."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._writers: set[LogWriter] = set()
        self._thread: threading.Thread | None = None

    def remember(self, writer: LogWriter) -> None:
        with self._condition:
            self._writers.add(writer)
            if self._thread is None or not self._thread.is_alive():  # not there, or left behind in a parent process
                self._thread = threading.Thread(target=self._work, name="log-flusher", daemon=True)
                self._thread.start()
            self._condition.notify()

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._writers:
                    self._condition.wait()
            time.sleep(FLUSH_SECONDS)
            with self._condition:
                writers, self._writers = self._writers, set()
            for writer in writers:
                writer.flush_quietly()


_flusher = _Flusher()


def open_log(
    settings: Settings, attempt: int, masker: Masker | None = None, *, clock: Callable[[], float] = time.time
) -> LogWriter:
    """Open the log of an attempt to write behind what is stored; a writer that had it open loses it.

    Raises Unavailable when the disk refuses.
    """
    return LogWriter(settings.logs, attempt, masker or Masker(), clock)


def chunks(settings: Settings, attempt: int, *, from_line: int = 1) -> Iterator[Chunk]:
    """Yield what is stored in pieces of about `BUFFER_BYTES`, for whoever sends bytes; the first may begin earlier."""
    yield from Reader(settings.logs, attempt, from_line).chunks()


def read(settings: Settings, attempt: int, *, from_line: int = 1) -> Iterator[Line]:
    """Yield the lines that are stored, from `from_line` on."""
    for chunk in chunks(settings, attempt, from_line=from_line):
        yield from _lines(chunk, from_line)


def follow(
    settings: Settings, attempt: int, *, from_line: int = 1, ended: Callable[[], bool] = lambda: False
) -> Iterator[Line]:
    """Yield lines as they are stored, until the log is closed or `ended()` and nothing more is there."""
    reader = Reader(settings.logs, attempt, from_line)
    while True:
        last = ended()
        for chunk in reader.chunks():
            yield from _lines(chunk, from_line)
        if reader.ended or last:
            return
        with _stored:
            _stored.wait(POLL_SECONDS)


def tail(settings: Settings, attempt: int, count: int) -> list[Line]:
    """Return the last `count` lines."""
    last = 0
    for chunk in chunks(settings, attempt):
        last = chunk.first + chunk.lines - 1
    return list(read(settings, attempt, from_line=max(1, last - count + 1)))


def remove_log(settings: Settings, attempt: int) -> None:
    """Remove an attempt's log; idempotent."""
    remove(settings.logs, attempt)


def _lines(chunk: Chunk, from_line: int) -> Iterator[Line]:
    for number, text in enumerate(chunk.text().split(b"\n")[:-1], chunk.first):
        if number >= from_line:
            yield Line(number, chunk.at, chunk.stream, text.removesuffix(b"\r").decode(errors="replace"))
