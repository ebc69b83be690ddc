"""The world in which the dummy engine's containers live, and what a scripted container can do. Nothing is run here.

A script is a function of its `Process`; it may print, read its input, wait for an event of the test, and is ended
by `Ended`, which is how a signal arrives.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from runners.engines import ContainerSpec, Exit, Stream


class Ended(BaseException):
    """Raised inside a scripted container by a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Process:
    """What a scripted container sees and does."""

    spec: ContainerSpec
    files: dict[str, bytes]
    changed: threading.Condition
    output: list[tuple[Stream, bytes]] = field(default_factory=list)
    input: bytearray = field(default_factory=bytearray)
    input_ended: bool = False
    signal: int = 0
    oom: bool = False

    def write(self, data: bytes, stream: Stream = "out") -> None:
        """Print."""
        with self.changed:
            self._check()
            self.output.append((stream, data))
            self.changed.notify_all()

    def read_input(self, until: bytes = b"") -> bytes:
        """Return standard input to its end, or as soon as `until` is in it."""
        with self.changed:
            self._await(lambda: self.input_ended or (bool(until) and until in self.input))
            return bytes(self.input)

    def until(self, event: threading.Event) -> None:
        """Go on only when the test sets `event`, or a signal comes."""
        while not event.wait(0.01):
            with self.changed:
                self._check()

    def forever(self) -> int:
        """Live until a signal comes."""
        with self.changed:
            self._await(lambda: False)
        return 0

    def _await(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._check()
            self.changed.wait(5)

    def _check(self) -> None:
        if self.signal:
            raise Ended(self.signal)


Script = Callable[[Process], int]
Command = Callable[[Process, tuple[str, ...]], tuple[int, bytes]]


@dataclass
class Box:
    id: str
    spec: ContainerSpec
    labels: Mapping[str, str]
    process: Process
    state: str = "created"
    exit: Exit | None = None


@dataclass
class World:
    """Everything that outlives a worker: images, containers, networks, volumes."""

    images: dict[str, Script] = field(default_factory=dict)  # reference -> what its containers do
    pullable: dict[str, Script] = field(default_factory=dict)  # not here yet
    users: dict[str, str] = field(default_factory=dict)  # image -> its USER
    missing: set[str] = field(default_factory=set)  # programs that no image has
    commands: dict[str, Command] = field(default_factory=dict)  # program -> what `execute` of it does
    boxes: dict[str, Box] = field(default_factory=dict)
    networks: dict[str, Mapping[str, str]] = field(default_factory=dict)
    volumes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)  # names, in order: nothing may be started twice
    changed: threading.Condition = field(default_factory=threading.Condition)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))


def follow(process: Process, at: int, over: Callable[[], bool]) -> Iterator[tuple[Stream, bytes]]:
    while True:
        with process.changed:
            while at == len(process.output) and not over():
                process.changed.wait(5)
            chunks = process.output[at:]
        if not chunks:
            return
        at += len(chunks)
        yield from chunks
