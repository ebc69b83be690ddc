"""A socket between the engine and its daemon that a test can cut, as a daemon does that is stopped and started."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path


class GoBetween:
    """Passes bytes both ways between `path` and the daemon's socket, until it is cut."""

    def __init__(self, path: Path, daemon: str = "/var/run/docker.sock") -> None:
        self.url = f"unix://{path}"
        self._path = path
        self._daemon = daemon
        self._pairs: list[socket.socket] = []
        self._lock = threading.Lock()
        self._door: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Listen."""
        self._path.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self._path))
        self._door.listen(32)
        threading.Thread(target=self._serve, args=(self._door,), daemon=True).start()

    def cut(self) -> None:
        """Close everything, and answer nobody any more."""
        self._path.unlink(missing_ok=True)
        if self._door:
            with contextlib.suppress(OSError):
                self._door.shutdown(socket.SHUT_RDWR)
            self._door.close()
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for end in pairs:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _serve(self, door: socket.socket) -> None:
        while True:
            try:
                near, _ = door.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._daemon)
            with self._lock:
                self._pairs += [near, far]
            ended = threading.Barrier(2, action=lambda near=near, far=far: (near.close(), far.close()))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(one, other, ended), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, ended: threading.Barrier) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
    with contextlib.suppress(threading.BrokenBarrierError):
        ended.wait()
