"""Talk to a running HAProxy: one command, one connection, one answer. What the commands mean is not known here.

Protocol: HAProxy 2.6 management guide, section 9.3 (runtime API) and 9.4 (master CLI).
"""

from __future__ import annotations

import csv
import os
import re
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import Unavailable

_MASTER_SECONDS = 5.0  # after a reload the master executes itself anew, and does not listen for that moment
_WORKER = re.compile(r"^(\d+)\s+worker\s", re.MULTILINE)


def ask(folder: Path, command: str, *, name: str = "admin.sock", timeout_seconds: float = 5.0) -> str:
    """Send a command to a socket in `folder` and return the answer. Raises Unavailable when nobody answers."""
    give_up = time.monotonic() + (_MASTER_SECONDS if name == "master.sock" else 0.0)
    while True:
        try:
            return _ask(folder, command, name, timeout_seconds)
        except OSError as error:
            if time.monotonic() > give_up or not isinstance(error, ConnectionError | FileNotFoundError):
                raise Unavailable(
                    f"the proxy does not answer at {folder / name}: {error.strerror or error}",
                    hint="`pipe doctor` looks at the proxy; its container restarts by itself",
                ) from error
        time.sleep(0.01)


def _ask(folder: Path, command: str, name: str, timeout_seconds: float) -> str:
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(timeout_seconds)
            sock.connect(f"/proc/self/fd/{directory}/{name}")  # a socket's own path may hold 107 bytes only
            sock.sendall(command.encode() + b"\n")
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b"")).decode(errors="replace").strip()
    finally:
        os.close(directory)


def workers(folder: Path) -> tuple[list[int], list[int]]:
    """Return the process ids of the current workers and of the old ones that still finish what they began."""
    current, _, old = ask(folder, "show proc", name="master.sock").partition("# old workers")
    return [int(pid) for pid in _WORKER.findall(current)], [int(pid) for pid in _WORKER.findall(old)]


def ask_all(folder: Path, command: str) -> list[str]:
    """Send a command to the current worker and to each old one; an old one that has just ended is left out."""
    answers = [ask(folder, command)]
    for pid in workers(folder)[1]:
        try:
            answers.append(ask(folder, ";".join(f"@!{pid} {part}" for part in command.split(";")), name="master.sock"))
        except Unavailable:
            continue
    return answers


def pairs(answer: str) -> dict[str, str]:
    """Read the answer of `show map`: key -> value."""
    rows = (line.split(maxsplit=2) for line in answer.splitlines() if line.startswith("0x"))
    return {row[1]: row[2] for row in rows if len(row) == 3}


def table(answer: str) -> list[dict[str, str]]:
    """Read the answer of `show stat`: one dictionary per line."""
    lines = answer.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("# ")), None)
    if start is None:
        return []
    rows: Iterable[str] = [lines[start][2:], *(line for line in lines[start + 1 :] if "," in line)]
    return [{k: v for k, v in row.items() if k} for row in csv.DictReader(rows)]
