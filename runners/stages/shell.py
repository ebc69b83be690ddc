"""The commands of a stage as one program for one shell, and the marks by which it tells how far it is.

The program goes in through standard input, which neither the process list nor the container's configuration shows;
so secrets can be part of it. The shell must read it whole (it is one group) before it runs the first command, and
the commands' own input is empty. `set -e` holds for the whole; what one command sets, the next one sees.

Before each command a mark is written to both output streams: a control character and a number that no output can
guess, because it is made from the installation's secret id. Pure, no effects.
"""

from __future__ import annotations

import hashlib
import hmac
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.errors import StageFailed

DEFAULT = "sh"
_FAMILY = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "busybox"})
_MARK = "\\036"  # ASCII record separator, as printf writes it
_CLOSED = "7>&- 8>&-"  # the commands do not see where marks go; 9 is left to them, `flock` examples use it


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark: the command that begins, or the end with its code; `clock` is the container's uptime in seconds."""

    index: int
    code: int
    clock: float | None


def nonce(installation: str, key: str) -> str:
    """Return the unguessable part of an attempt's marks; the same again after a crash."""
    return hmac.new(installation.encode(), f"marks of {key}".encode(), hashlib.sha256).hexdigest()[:32]


def prefix(mark: str) -> bytes:
    """Return what every mark begins with."""
    return b"\x1e" + mark.encode() + b";"


def parse(rest: bytes) -> Mark | None:
    """Return the mark whose text after the prefix is `rest`."""
    try:
        index, code, clock = rest.decode().split(";")
        return Mark(int(index), int(code), float(clock) if clock else None)
    except ValueError:
        return None


def argv(wish: str | None) -> tuple[str, ...]:
    """Return how the shell is started. Raises StageFailed for one that does not read such programs."""
    words = tuple(shlex.split(wish or DEFAULT))
    if not words or PurePosixPath(words[0]).name not in _FAMILY:
        raise StageFailed(
            f"`shell: {wish}` is not a shell that can run commands one after the other",
            hint=f"use one of {', '.join(sorted(_FAMILY))}, with options if need be: `shell: bash -o pipefail`",
        )
    return (*words, "-s")


def program(commands: Sequence[str], *, secrets: Mapping[str, str], mark: str) -> bytes:
    """Return the program for the shell's standard input."""
    lines = ["{", "exec </dev/null 7>&1 8>&2"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(secrets.items())]
    lines += [f"trap {shlex.quote(_mark(mark, len(commands), '$?'))} EXIT", "set -e"]
    for index, command in enumerate(commands):
        lines += [_mark(mark, index, "0"), f"eval {shlex.quote(command)} {_CLOSED}"]
    lines += ["exit 0", "}", ""]
    return "\n".join(lines).encode(errors="surrogateescape")


def _mark(mark: str, index: int, code: str) -> str:
    """Write a mark to both streams, without a trace where the commands have asked for one (`set -x`)."""
    show = f'printf \'{_MARK}%s;{index};%s;%s\\n\' {mark} "$_pipe_code" "$_pipe_clock"'
    return (
        f"{{ _pipe_code={code}; read -r _pipe_clock _pipe_rest </proc/uptime || _pipe_clock=; "
        f"{show} >&7 || :; {show} >&8 || :; unset _pipe_code _pipe_clock _pipe_rest; }} 2>/dev/null"
    )
