"""A run's snapshot, begun before the run has a number: while its definition is planned and its record opened.

It is made in a folder of this process and moved to the run's once that is known; whoever needs it before it is
finished waits for it. Nothing depends on it: where it fails, the stage that needs files makes the snapshot itself,
and meets the error where it can be told.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from pathlib import Path

from pipeline.errors import PipeError
from pipeline.model import Event
from pipeline.settings import Settings

_given: dict[Path, HeadStart] = {}  # by the folder of the run that it was given to
_lock = threading.Lock()


class HeadStart:
    """The making of one snapshot with the default `checkout`, in the background."""

    def __init__(self, settings: Settings, event: Event, source: Path, workspaces: Path, name: str) -> None:
        """Begin; `name` is the pipeline's."""
        self._place = workspaces / f"early-{os.getpid()}"
        self._thread = threading.Thread(
            target=self._make, args=(settings, event, source, name), name="snapshot-early", daemon=True
        )
        self._thread.start()

    def give(self, folder: Path) -> None:
        """Let it become the snapshot of the run whose folder this is; the first that needs it finishes that."""
        with _lock:
            _given[folder] = self

    def end(self) -> None:
        """Wait, and remove what no run collected; idempotent."""
        self._thread.join()
        shutil.rmtree(self._place, ignore_errors=True)

    def _make(self, settings: Settings, event: Event, source: Path, name: str) -> None:
        from pipeline.definition import Checkout
        from runners import snapshots

        with contextlib.suppress(PipeError, OSError):
            hide(self._place.parent)
            _forget_the_dead(self._place.parent)
            snapshots.take(settings, event, source, self._place, name, Checkout())

    def _move(self, folder: Path) -> None:
        self._thread.join()
        with contextlib.suppress(OSError):  # it failed, or the run has a folder already: that one counts
            self._place.rename(folder)


def collect(folder: Path) -> None:
    """Wait for what was begun for the run of this folder, if anything was, and put it there."""
    with _lock:
        early = _given.pop(folder, None)
        if early:
            early._move(folder)


def hide(workspaces: Path) -> None:
    """Make the folder of workspaces, out of git's sight: what runs leave there is no change of the tree."""
    workspaces.mkdir(parents=True, exist_ok=True)
    ignore = workspaces / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _forget_the_dead(workspaces: Path) -> None:
    """Remove what processes left that were killed."""
    for path in workspaces.glob("early-*"):
        pid = path.name.removeprefix("early-")
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)
