"""How a log lies on disk: segment files of text, each with an index that alone says what counts.

Every opening of an attempt's log begins a segment of its own, `<attempt>.<n>.log` with `<attempt>.<n>.idx`,
whose header says how many records of the segment before it count. So what a killed writer left half
done, and what a worker that lost its lease still writes, is never read. Text goes first, then its index
record with a checksum over both. Lines, streams and secrets are the business of `logs`.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import LeaseLost, Unavailable

MAGIC = b"pipelog1"
HEADER = struct.Struct("<8sIQQ")  # magic, segment, records of the one before that count, first line
RECORD = struct.Struct("<QIQIdBxxxI")  # offset, length, first line, lines, at, stream, checksum
STREAMS = ("out", "err", "pipe", "end")
END = STREAMS.index("end")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some whole lines of one stream, stored at one time."""

    first: int
    lines: int
    at: float
    stream: str
    path: Path
    offset: int
    length: int

    def text(self) -> bytes:
        """Return the lines, each with its line end."""
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), self.length, self.offset)


def folder(logs: Path, attempt: int) -> Path:
    """Return where an attempt's segments lie; a thousand attempts share a folder."""
    return logs / f"{attempt // 1000:04d}"


def _paths(logs: Path, attempt: int, number: int) -> tuple[Path, Path]:
    stem = folder(logs, attempt) / f"{attempt:07d}.{number}"
    return stem.with_name(stem.name + ".log"), stem.with_name(stem.name + ".idx")


class Segment:
    """The segment being written. One writer; who is overtaken by a newer segment gets LeaseLost."""

    def __init__(self, logs: Path, attempt: int) -> None:
        """Begin the next segment. Raises Unavailable."""
        with _refusing(folder(logs, attempt)):
            folder(logs, attempt).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._begin(logs, attempt)
        self._next = _paths(logs, attempt, self.number + 1)[1]
        self._offset = 0
        self._index_offset = HEADER.size

    def _begin(self, logs: Path, attempt: int) -> None:
        while True:
            before = _last_number(logs, attempt)
            chunks, count = _verified(logs, attempt, before)
            self.number = before + 1
            self.lines = chunks[-1].first + chunks[-1].lines - 1 if chunks else 0
            self.seen = dict.fromkeys(STREAMS, 0)
            for chunk in chunks:
                self.seen[chunk.stream] += chunk.lines
            self._text_path, self._index_path = _paths(logs, attempt, self.number)
            header = HEADER.pack(MAGIC, self.number, count, self.lines + 1)
            index = _begun(self._index_path, header)
            if index is not None:  # else another one was quicker: come after it
                self._index = index
                break
        self._text = os.open(self._text_path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def append(self, pieces: Sequence[tuple[int, float, int, bytes]]) -> None:
        """Store (stream, at, lines, text) in order. Raises Unavailable (nothing of it counts then) and LeaseLost."""
        if self._next.exists():
            raise LeaseLost(f"another worker writes {self._next.name} now")
        texts, records = [], []
        offset, lines = self._offset, self.lines
        for stream, at, count, text in pieces:
            record = RECORD.pack(offset, len(text), lines + 1, count, at, stream, 0)
            texts.append(text)
            records.append(record[:-4] + struct.pack("<I", zlib.crc32(record[:-4], zlib.crc32(text))))
            offset += len(text)
            lines += count
        _write(self._text, b"".join(texts), self._offset, self._text_path)
        index = b"".join(records)
        _write(self._index, index, self._index_offset, self._index_path)
        self._offset, self.lines = offset, lines
        self._index_offset += len(index)
        for stream, _, count, _ in pieces:
            self.seen[STREAMS[stream]] += count

    def sync(self) -> None:
        """Make what was stored survive a power loss."""
        with _refusing(self._text_path):
            os.fdatasync(self._text)
            os.fdatasync(self._index)

    def close(self) -> None:
        """Close the files."""
        os.close(self._text)
        os.close(self._index)


class Reader:
    """Reads the chunks of an attempt's log in order, and goes on where it stopped as more is stored."""

    def __init__(self, logs: Path, attempt: int, from_line: int = 1) -> None:
        self._logs, self._attempt = logs, attempt
        self._number, self._record = 1, -1
        self._line = from_line
        self.ended = False

    def chunks(self) -> Iterator[Chunk]:
        """Yield what was stored since the last call, from `from_line` on; a chunk may begin before it."""
        while True:
            limit = _counted(self._logs, self._attempt, self._number)
            yield from self._segment(limit)
            if limit is None:
                return
            self._number, self._record, self.ended = self._number + 1, -1, False

    def _segment(self, limit: int | None) -> Iterator[Chunk]:
        text, index = _paths(self._logs, self._attempt, self._number)
        try:
            file = index.open("rb")
        except FileNotFoundError:
            return
        with file:
            total = max(0, (os.fstat(file.fileno()).st_size - HEADER.size) // RECORD.size)
            total = total if limit is None else min(total, limit)
            if self._record < 0:
                self._record = _find(file.fileno(), total, self._line)
            while self._record < total:
                chunk = _chunk(file.fileno(), self._record, text)
                self._record += 1
                self.ended = chunk.stream == "end"
                if chunk.first + chunk.lines > self._line and not self.ended:
                    self._line = chunk.first + chunk.lines
                    yield chunk


def remove(logs: Path, attempt: int) -> None:
    """Remove an attempt's log; idempotent."""
    for number in range(1, _last_number(logs, attempt) + 1):
        for path in _paths(logs, attempt, number):
            path.unlink(missing_ok=True)


def _begun(path: Path, header: bytes) -> int | None:
    """Make an index file that has its header from the first instant; None when the name is taken."""
    draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    file = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write(file, header, 0, path)
        os.link(draft, path)
    except FileExistsError:
        os.close(file)
        return None
    except BaseException:
        os.close(file)
        raise
    finally:
        draft.unlink()
    return file


def _chunk(index: int, record: int, text: Path) -> Chunk:
    raw = os.pread(index, RECORD.size, HEADER.size + record * RECORD.size)
    offset, length, first, lines, at, stream, _ = RECORD.unpack(raw)
    return Chunk(first, lines, at, STREAMS[stream], text, offset, length)


def _find(index: int, total: int, line: int) -> int:
    """Return the first record that ends at `line` or after it, by bisection."""
    low, high = 0, total
    while low < high:
        middle = (low + high) // 2
        raw = os.pread(index, RECORD.size, HEADER.size + middle * RECORD.size)
        _, _, first, lines, *_ = RECORD.unpack(raw)
        if first + lines > line:
            high = middle
        else:
            low = middle + 1
    return low


def _last_number(logs: Path, attempt: int) -> int:
    number = 0
    while _paths(logs, attempt, number + 1)[1].exists():
        number += 1
    return number


def _counted(logs: Path, attempt: int, number: int) -> int | None:
    """Return how many records of a segment count because the next one says so; None for the last one."""
    try:
        with _paths(logs, attempt, number + 1)[1].open("rb") as file:
            header = file.read(HEADER.size)
    except FileNotFoundError:
        return None
    return int(HEADER.unpack(header)[2])


def _verified(logs: Path, attempt: int, last: int) -> tuple[list[Chunk], int]:
    """Return the chunks that count in all segments so far, and how many records do in the last one."""
    found: list[Chunk] = []
    count = 0
    for number in range(1, last + 1):
        text, index = _paths(logs, attempt, number)
        limit = _counted(logs, attempt, number) if number < last else None
        with index.open("rb") as records, text.open("rb") if text.exists() else open(os.devnull, "rb") as texts:  # noqa: PTH123
            records.seek(HEADER.size)
            count = 0
            while (limit is None or count < limit) and len(raw := records.read(RECORD.size)) == RECORD.size:
                offset, length, first, lines, at, stream, checksum = RECORD.unpack(raw)
                if limit is None and zlib.crc32(raw[:-4], zlib.crc32(texts.read(length))) != checksum:
                    break
                if stream != END:
                    found.append(Chunk(first, lines, at, STREAMS[stream], text, offset, length))
                count += 1
    return found, count


def _write(file: int, data: bytes, offset: int, path: Path) -> None:
    view = memoryview(data)
    with _refusing(path):
        while view:
            done = os.pwrite(file, view, offset)
            view, offset = view[done:], offset + done


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the log {path} can not be written: {error.strerror}",
            hint="free some space (`pipe gc`, `df -h`), then `pipe run --resume`: no line is lost",
        ) from error
