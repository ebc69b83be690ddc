"""Secrets as files in memory on this host, mounted into processes. They outlive a container, not a reboot.

A tmpfs of the container's own would be empty after each of its restarts; a folder of the host's memory file
system is not. Its parent is closed to other users, so that the files themselves may be readable to any user of
the container.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import Unavailable

_MEMORY = Path("/dev/shm")


class SecretFiles:
    """The folders of one installation."""

    def __init__(self, installation: str, root: Path = _MEMORY) -> None:
        self._root = root / f"pipewright-{os.getuid()}" / installation[:8]

    def put(self, place: str, owner: str, values: Mapping[str, str]) -> Path:
        """Write one file per secret and return their folder. Raises Unavailable when there is no room."""
        folder = self._root / place / owner
        try:
            self._root.parent.mkdir(mode=0o700, exist_ok=True)
            found = self._root.parent.lstat()  # a link of another user's could lead to where everybody reads
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise Unavailable(f"{self._root.parent} is not a folder of this user's alone", hint="remove it")
            folder.mkdir(parents=True, exist_ok=True)
            for name, value in values.items():
                new = folder / f".{name}.new"
                new.write_text(value, encoding="utf-8")
                new.chmod(0o444)
                new.replace(folder / name)
        except OSError as error:
            raise Unavailable(
                f"can not write secrets in {self._root}: {error.strerror}",
                hint="a memory file system at /dev/shm with some room is needed",
            ) from error
        return folder

    def remove(self, place: str, owner: str = "") -> None:
        """Remove the folders whose name begins with `owner`, or all of a place; idempotent."""
        root = self._root / place
        if not root.is_dir():
            return
        for folder in root.iterdir():
            if folder.name.startswith(owner):
                shutil.rmtree(folder, ignore_errors=True)
        if not owner:
            shutil.rmtree(root, ignore_errors=True)
            with contextlib.suppress(OSError):  # other environments still have theirs
                self._root.rmdir()
