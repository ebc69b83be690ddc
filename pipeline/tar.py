"""Tar archives from strangers, read as a stream: regular files come out, everything else is refused by name.

Written for archives that a container hands out. Formats: ustar, GNU long names, pax paths and sizes (POSIX.1-2001,
`pax` interchange format). Nothing is ever written to a path that an archive names; links, devices and sparse files
are refused, memory stays flat, and a broken archive ends with ArchiveRefused. What is done with
the files is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

BLOCK = 512
_NAMES = 64 * 1024  # bytes of a long name or a pax header
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a FIFO",
    b"S": "a sparse file",
    b"M": "part of a file in several volumes",
    b"V": "a volume label",
}


class ArchiveRefused(Exception):
    """The archive is broken or beyond its limits; what came out before stays valid."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one archive may hold."""

    members: int = 100_000
    total_bytes: int = 10 * 1024**3
    name_bytes: int = 1024
    depth: int = 64


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of an archive: a clean relative path, its permission bits, its content in chunks."""

    path: str
    size: int
    mode: int
    chunks: Iterator[bytes]


def files(
    archive: Iterable[bytes], refuse: Callable[[str, str], None], *, limits: Limits | None = None
) -> Iterator[Member]:
    """Yield the regular files; `refuse(name, why)` is told of every other member. Raises ArchiveRefused.

    A member's chunks are read before the next member, or skipped.
    """
    limits = limits or Limits()
    source = _Source(archive)
    long_name: bytes | None = None
    pax: dict[str, bytes] = {}
    total = count = 0
    while True:
        header = source.exactly(BLOCK, at_end=b"")
        if len(header) < BLOCK or header == bytes(BLOCK):
            return
        kind, size = _checked(header)
        size = int(pax["size"]) if "size" in pax else size
        count += 1
        if count > limits.members:
            raise ArchiveRefused(f"it holds more than {limits.members} members")
        if kind in b"LKxg":
            data = _extension(source, size)
            if kind == b"L":
                long_name = data.rstrip(b"\0")
            elif kind == b"x":
                pax = _pax(data)
            continue
        raw = pax.get("path", long_name if long_name is not None else _short_name(header))
        sparse = any(key.startswith("GNU.sparse") for key in pax)
        long_name, pax = None, {}
        body = _Body(source, size if kind in b"0\x007SM" else 0)
        path, why = _clean(raw, limits)
        if kind == b"5":
            why = why if why.startswith("its name") else "a directory"
        elif kind in _KINDS or sparse:
            why = "it is " + _KINDS.get(kind, "a sparse file")
        elif kind not in b"0\x007":
            why = f"it is of an unknown kind {kind!r}"
        elif not why and raw.endswith(b"/"):
            why = "it is a directory that holds bytes" if size else "a directory"
        if not why:
            total += size
            if total > limits.total_bytes:
                raise ArchiveRefused(f"it holds more than {limits.total_bytes} bytes")
            yield Member(path, size, _octal(header[100:108]) & 0o777, iter(body))
        elif why != "a directory":
            refuse(_shown(raw), why)
        body.skip()


def pack(members: Iterable[Member]) -> Iterator[bytes]:
    """Yield a tar archive of files, in pax format where names or sizes need it; owned by root, without dates."""
    for member in members:
        name = member.path.encode()
        if len(name) > 100 or member.size >= 8**11:
            record = _pax_record("path", name) + _pax_record("size", str(member.size).encode())
            yield _header(b"./pax", len(record), 0o644, b"x") + record + _padding(len(record))
        yield _header(name[:100], min(member.size, 8**11 - 1), member.mode, b"0")
        written = 0
        for chunk in member.chunks:
            written += len(chunk)
            yield chunk
        if written != member.size:
            raise ArchiveRefused(f"{member.path} has {written} bytes instead of {member.size}")
        yield _padding(member.size)
    yield bytes(2 * BLOCK)


class _Source:
    """Bytes in exact amounts out of chunks of any size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = memoryview(b"")

    def some(self, most: int) -> bytes:
        while not self._left:
            try:
                self._left = memoryview(next(self._chunks))
            except StopIteration:
                raise ArchiveRefused("it ends in the middle") from None
        piece, self._left = self._left[:most], self._left[most:]
        return bytes(piece)

    def exactly(self, size: int, at_end: bytes | None = None) -> bytes:
        pieces: list[bytes] = []
        missing = size
        while missing:
            try:
                pieces.append(self.some(missing))
            except ArchiveRefused:
                if at_end is None or pieces:
                    raise
                return at_end
            missing -= len(pieces[-1])
        return b"".join(pieces)


class _Body:
    """The content of one member with its padding."""

    def __init__(self, source: _Source, size: int) -> None:
        self._source = source
        self._left = size
        self._padding = -size % BLOCK

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            piece = self._source.some(self._left)
            self._left -= len(piece)
            yield piece

    def skip(self) -> None:
        for _ in self:
            pass
        self._source.exactly(self._padding)
        self._padding = 0


def _checked(header: bytes) -> tuple[bytes, int]:
    total = sum(header) - sum(header[148:156]) + 8 * 32
    if _octal(header[148:156]) != total:
        raise ArchiveRefused("a header does not have its checksum")
    return header[156:157], _octal(header[124:136])


def _octal(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: base 256, big numbers
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40 or value >= 1 << 62:
            raise ArchiveRefused("a header holds an absurd number")
        return value
    digits = field.strip(b" \0") or b"0"
    if digits.strip(b"01234567"):  # int() would take signs and underscores as well
        raise ArchiveRefused("a header holds something that is not a number")
    return int(digits, 8)


def _extension(source: _Source, size: int) -> bytes:
    if size > _NAMES:
        raise ArchiveRefused("a name is longer than any path can be")
    data = source.exactly(size)
    source.exactly(-size % BLOCK)
    return data


def _pax(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not 4 < int(length) <= len(data):
            raise ArchiveRefused("a pax header is malformed")
        record, data = data[len(length) + 1 : int(length) - 1], data[int(length) :]
        key, _, value = record.partition(b"=")
        found[key.decode(errors="replace")] = value
    if "size" in found and not (found["size"].isdigit() and len(found["size"]) < 19):
        raise ArchiveRefused("a pax header holds an absurd size")
    return found


def _pax_record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def _short_name(header: bytes) -> bytes:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _clean(raw: bytes, limits: Limits) -> tuple[str, str]:
    """Return a relative path in its shortest form, or the reason for refusing the name."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return "", "its name is not UTF-8"
    if len(raw) > limits.name_bytes:
        return "", "its name is too long"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "", "its name holds control characters"
    if name.startswith("/"):
        return "", "its name is absolute"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        return "", "its name leads out of the folder"
    if len(parts) > limits.depth or any(len(part.encode()) > 255 for part in parts):
        return "", "its name is too long"
    return ("/".join(parts), "") if parts else ("", "a directory")


def _shown(raw: bytes) -> str:
    name = raw[:120].decode(errors="replace")
    return "".join(c if ord(c) >= 32 and ord(c) != 127 else "\N{REPLACEMENT CHARACTER}" for c in name)


def _header(name: bytes, size: int, mode: int, kind: bytes) -> bytes:
    fields = name.ljust(100, b"\0") + b"%07o\0" % mode + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    fields += b" " * 8 + kind + bytes(100) + b"ustar\x0000"
    fields = fields.ljust(BLOCK, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)
