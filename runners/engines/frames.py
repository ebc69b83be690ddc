"""Take the two output streams of a container out of the one connection that carries them, fast.

Docker's multiplexed format: eight bytes (stream number, three zeros, length as big-endian 32 bits), then the
payload (Engine API, "Attach to a container", stream format). Consecutive frames of one stream that arrive
together are joined, so that a program that writes line by line costs no Python work per line downstream.
What the bytes mean is not known here.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterable, Iterator

from runners.engines import Stream

RECEIVE_BYTES = 1 << 20
_HEADER = struct.Struct(">BxxxL")
_NAMES: dict[int, Stream] = {0: "out", 1: "out", 2: "err"}


def demultiplex(receive_into: Callable[[memoryview], int]) -> Iterator[tuple[Stream, bytes]]:
    """Yield (stream, chunk) until `receive_into` returns 0; a frame that was cut off is yielded as far as it came."""
    buffer = memoryview(bytearray(RECEIVE_BYTES))
    kept = 0  # bytes of an incomplete header, moved to the front
    stream: Stream = "out"
    missing = 0  # of the current frame's payload
    unpack = _HEADER.unpack_from
    while received := receive_into(buffer[kept:]):
        end = kept + received
        at = kept = 0
        pieces: list[memoryview] = []
        while at < end:
            if not missing:
                if end - at < 8:
                    buffer[: end - at] = bytes(buffer[at:end])
                    kept = end - at
                    break
                number, missing = unpack(buffer, at)
                at += 8
                name = _NAMES.get(number, "err")
                if name != stream and pieces:
                    yield stream, b"".join(pieces)
                    pieces = []
                stream = name
            stop = min(end, at + missing)
            if stop > at:
                pieces.append(buffer[at:stop])
            missing -= stop - at
            at = stop
        if pieces:
            yield stream, b"".join(pieces)


def from_chunks(chunks: Iterable[bytes]) -> Callable[[memoryview], int]:
    """Return a `receive_into` that hands out what an iterable of chunks yields."""
    source = iter(chunks)
    rest = memoryview(b"")

    def receive_into(view: memoryview) -> int:
        nonlocal rest
        while not rest:
            if (chunk := next(source, None)) is None:
                return 0
            rest = memoryview(chunk)
        taken = min(len(view), len(rest))
        view[:taken] = rest[:taken]
        rest = rest[taken:]
        return taken

    return receive_into


class SocketAttached:
    """An attached connection over a raw socket; see `runners.engines.Attached`."""

    def __init__(self, connection: socket.socket, give_back: Callable[[], None]) -> None:
        self._socket = connection
        self._give_back = give_back
        connection.settimeout(None)

    def _receive_into(self, view: memoryview) -> int:
        try:
            return self._socket.recv_into(view)
        except OSError:  # closed by us or lost; which of the two it was, `wait` and `inspect` tell
            return 0

    def __iter__(self) -> Iterator[tuple[Stream, bytes]]:
        """Yield chunks as they come, until the container ends or the daemon is lost."""
        return demultiplex(self._receive_into)

    def write(self, data: bytes) -> None:
        """Write to standard input; what a container that has ended can not read is dropped."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def end_input(self) -> None:
        """Close standard input."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Give the connection back; a reader in another thread comes to its end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._give_back()
