"""Which ports of this machine are free, and who holds the others. Reads `/proc`, changes nothing."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

_LISTEN = "0A"  # include/net/tcp_states.h of Linux


def is_free(address: str, port: int) -> bool:
    """Tell whether a listener could be opened on `address:port` now; an address that is not here yet is free."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
        except OSError as error:
            return error.errno not in (errno.EADDRINUSE, errno.EACCES)
    return True


def holder(port: int) -> str:
    """Return who listens on a TCP port, as `name (pid n)`, or "another program" where that can not be seen."""
    inodes = set(_listening(port))
    if not inodes:
        return "another program"
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and any(f"socket:[{inode}]" in _descriptors(process) for inode in inodes):
            with contextlib.suppress(OSError):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return "another program"


def _listening(port: int) -> list[str]:
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    found.append(fields[9])
    return found


def _descriptors(process: Path) -> set[str]:
    names = set()
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                names.add(str(descriptor.readlink()))
    return names
