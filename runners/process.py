"""Run a program: the only place in the project that starts one. Never a shell, never an inherited environment.

A command is a value, a list of arguments. It runs in a session of its own, so that a timeout or a
cancel ends it with everything that it started, and no Ctrl-C reaches it behind our back. What a
command means is not known here; containers are the engine's.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from pipeline.errors import Unavailable

Stream = Literal["out", "err"]
OnLine = Callable[[Stream, bytes], None]

_CHUNK_BYTES = 65536
_LINE_BYTES = 1 << 20  # a longer line is handed over in pieces
_TAIL_BYTES = 65536  # of each stream, when a callback has seen the lines
_LOOK_SECONDS = 0.1  # how often a cancel is looked for
_GUARD = Path("/usr/bin/setpriv")


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended; `stopped` says whether it was us who ended it."""

    argv: tuple[str, ...]
    code: int  # negative: the signal that ended it
    out: bytes
    err: bytes
    stopped: Literal["", "timeout", "cancelled"] = ""

    @property
    def ok(self) -> bool:
        """Tell whether it ended by itself with exit code 0."""
        return self.code == 0 and not self.stopped

    @property
    def text(self) -> str:
        """Return its standard output as text, without the last newline."""
        return self.out.decode(errors="replace").removesuffix("\n")

    @property
    def complaint(self) -> str:
        """Return the last line that is not blank of what it said, standard error first, for an error message."""
        for data in (self.err, self.out):
            lines = [line for line in data.decode(errors="replace").splitlines() if line.strip()]
            if lines:
                return lines[-1].strip()
        return f"exit code {self.code}"


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    input: bytes = b"",
    timeout_seconds: float | None = None,
    on_line: OnLine | None = None,
    cancelled: threading.Event | None = None,
    grace_seconds: float = 3.0,
    keep_bytes: int = 256 << 20,
    dies_with_us: bool = False,
) -> Completed:
    """Run a program to its end and return how it ended.

    `env` is its whole environment. `on_line` gets each line without its newline as it comes; then only
    the last 64 KiB of each stream are kept, else all of it up to `keep_bytes`. On timeout or cancel the
    whole session gets SIGTERM and after `grace_seconds` SIGKILL; what it left running is killed at its end.
    `dies_with_us`: it gets SIGTERM when this process is killed (Linux only).

    Raises:
        Unavailable: the program can not be started, or says more than `keep_bytes`.
    """
    with _start(argv, env=env, cwd=cwd, with_input=bool(input), guarded=dies_with_us) as child:
        conversation = _Conversation(child, argv[0], on_line, keep_bytes)
        try:
            stopped = conversation.hold(input, timeout_seconds, cancelled, grace_seconds)
        finally:
            _signal(child, signal.SIGKILL)  # before it is waited for: until then its number is its own
            child.wait()
            conversation.close()
    return Completed(tuple(argv), child.returncode, conversation.kept("out"), conversation.kept("err"), stopped)


def foreground(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None) -> int:
    """Run a program that talks to the person at the terminal, and return its exit code."""
    with _start(argv, env=env, cwd=cwd, terminal=True) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:  # the terminal sent it to the program as well; it decides
                continue


def _start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    with_input: bool = False,
    guarded: bool = False,
    terminal: bool = False,
) -> subprocess.Popen[bytes]:
    command = list(argv)
    if guarded and _GUARD.exists():
        command[:0] = [str(_GUARD), "--pdeathsig", "TERM", "--"]
    pipe = None if terminal else subprocess.PIPE
    try:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=None if terminal else subprocess.PIPE if with_input else subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            start_new_session=not terminal,
            umask=-1 if terminal else 0o022,  # what it makes can be read by a stage's user, whatever ours is
        )
    except OSError as error:
        where = f" in {cwd}" if cwd else ""
        raise Unavailable(
            f"{argv[0]} can not be started{where}: {error.strerror}", hint=f"Is {argv[0]} installed and in PATH?"
        ) from error


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):  # all of the session has ended
        pass


@dataclass
class _Told:
    """What one stream has said so far."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    rest: bytes = b""


class _Conversation:
    """The pipes of one running program: what it says, what it is told, and when it is stopped."""

    def __init__(self, child: subprocess.Popen[bytes], name: str, on_line: OnLine | None, keep_bytes: int) -> None:
        self._name = name
        self._child, self._on_line, self._keep_bytes = child, on_line, keep_bytes
        self._told: dict[Stream, _Told] = {"out": _Told(), "err": _Told()}
        self._selector = selectors.DefaultSelector()
        self._pidfd = os.pidfd_open(child.pid) if hasattr(os, "pidfd_open") else -1
        if self._pidfd >= 0:
            self._selector.register(self._pidfd, selectors.EVENT_READ, "ended")
        streams: tuple[tuple[IO[bytes] | None, Stream], ...] = ((child.stdout, "out"), (child.stderr, "err"))
        for pipe, name in streams:
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ, name)

    def hold(
        self, data: bytes, timeout_seconds: float | None, cancelled: threading.Event | None, grace_seconds: float
    ) -> Literal["", "timeout", "cancelled"]:
        """Talk until the program has ended, and return why it was stopped, if it was."""
        if self._child.stdin is not None:
            os.set_blocking(self._child.stdin.fileno(), False)
            self._selector.register(self._child.stdin, selectors.EVENT_WRITE, "in")
        deadline = time.monotonic() + timeout_seconds if timeout_seconds is not None else None
        stopped: Literal["", "timeout", "cancelled"] = ""
        while True:
            data, ended = self._turn(data, self._patience(deadline, cancelled if not stopped else None))
            if ended:
                self._drain()
                return stopped
            late = deadline is not None and time.monotonic() >= deadline
            if not stopped and (late or (cancelled is not None and cancelled.is_set())):
                stopped = "timeout" if late else "cancelled"
                _signal(self._child, signal.SIGTERM)
                deadline = time.monotonic() + grace_seconds
            elif stopped and late:
                _signal(self._child, signal.SIGKILL)
                deadline = None

    def _patience(self, deadline: float | None, cancelled: threading.Event | None) -> float | None:
        left = max(0.0, deadline - time.monotonic()) if deadline is not None else None
        if cancelled is None and self._pidfd >= 0:
            return left
        return _LOOK_SECONDS if left is None else min(left, _LOOK_SECONDS)

    def _turn(self, data: bytes, patience: float | None) -> tuple[bytes, bool]:
        ended = False
        for key, _ in self._selector.select(patience):
            if key.data == "ended":
                ended = True
            elif key.data == "in":
                data = self._write(key.fd, data)
            else:
                self._read(key.fd, key.data, key.fileobj)
        if self._pidfd < 0:
            ended = self._child.poll() is not None
        return data, ended

    def _write(self, fd: int, data: bytes) -> bytes:
        try:
            data = data[os.write(fd, data[:_CHUNK_BYTES]) :]
        except BrokenPipeError:  # it does not want to hear more
            data = b""
        if not data and self._child.stdin is not None:
            self._selector.unregister(self._child.stdin)
            self._child.stdin.close()
        return data

    def _read(self, fd: int, stream: Stream, pipe: object) -> bool:
        try:
            chunk = os.read(fd, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._selector.unregister(pipe)  # type: ignore[arg-type]
            return False
        self._hear(stream, chunk)
        return True

    def _drain(self) -> None:
        """Read what is left in the pipes without waiting: others may hold their far ends open for ever."""
        for key in list(self._selector.get_map().values()):
            while key.data in self._told and self._read(key.fd, key.data, key.fileobj):
                pass
        for stream, told in self._told.items():
            if told.rest and self._on_line is not None:
                self._on_line(stream, told.rest)
                told.rest = b""

    def _hear(self, stream: Stream, chunk: bytes) -> None:
        told = self._told[stream]
        told.chunks.append(chunk)
        told.size += len(chunk)
        if self._on_line is None:
            if told.size > self._keep_bytes:
                raise Unavailable(f"{self._name} said more than {self._keep_bytes} bytes")
            return
        while told.size - len(told.chunks[0]) > _TAIL_BYTES:
            told.size -= len(told.chunks.pop(0))
        *lines, told.rest = (told.rest + chunk).split(b"\n")
        for line in lines:
            self._on_line(stream, line)
        if len(told.rest) > _LINE_BYTES:
            self._on_line(stream, told.rest)
            told.rest = b""

    def kept(self, stream: Stream) -> bytes:
        """Return what was kept of a stream."""
        return b"".join(self._told[stream].chunks)

    def close(self) -> None:
        """Give the selector and the handle on the process back."""
        self._selector.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
