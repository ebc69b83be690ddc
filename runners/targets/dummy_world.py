"""The world in which the dummy target and the dummy router live: one locked file, so that it outlives a killed process.

Nothing runs here. An image may say after `#` how its containers behave: `never-ready`, `dies`, `breaks`
(answers with errors), `hook-fails`, `missing`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_EMPTY: dict[str, Any] = {
    "networks": [],
    "accessories": [],
    "containers": {},  # name -> what is known of it
    "hooks": {},  # place/promotion -> {"code": exit code, "runs": how often it was started}
    "routes": {},  # key -> recorded and running pointers, backends, epoch
    "alive": True,  # the router runs
    "happened": [],  # every effect, in order
}


class World:
    """A world in a file; `changing` is one atomic step of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Give the world to be changed; it is stored when the block ends without an error."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            data = json.loads(text) if text else json.loads(json.dumps(_EMPTY))
            yield data
            new = json.dumps(data)
            if new != text:  # never torn: the old world stays until the new one is whole
                whole = self.path.with_suffix(".new")
                whole.write_text(new, encoding="utf-8")
                whole.replace(self.path)

    def now(self) -> dict[str, Any]:
        """Return the world as it is."""
        with self.changing() as data:
            return data


def behaves(container: dict[str, Any], how: str) -> bool:
    """Tell whether a container's image asks for a behaviour."""
    return how in str(container["image"]).partition("#")[2].split("+")


def is_up(container: dict[str, Any]) -> bool:
    """Tell whether a container would pass its health check."""
    return container["state"] == "running" and not behaves(container, "never-ready")
