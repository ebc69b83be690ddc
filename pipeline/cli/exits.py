"""Exit codes of the command `pipe`, all in one place, and how a run's status becomes one.

Scripts rely on these numbers: they change with a major version only.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.model import Status


class Exit(IntEnum):
    """What a shell learns from `pipe`."""

    DONE = 0  # everything that was asked for is done
    FAILED = 1  # the author's news: a command, test, build or health check said no
    USAGE = 2  # the definition or the command line is wrong, or the person may not
    ERRORED = 3  # ours or the machine's: Docker, registry, disk, a defect
    WAITING = 4  # an approval is missing; the run goes on once it is given
    CANCELLED = 130  # somebody cancelled it, as with Ctrl-C


_OF_STATUS = {  # by the text of model.Status, which starting `pipe` need not load
    "succeeded": Exit.DONE,
    "skipped": Exit.DONE,
    "failed": Exit.FAILED,
    "errored": Exit.ERRORED,
    "waiting": Exit.WAITING,
    "cancelled": Exit.CANCELLED,
}


def of_status(status: Status) -> Exit:
    """Return the exit code of a run that stands at `status`; one that has not ended is `ERRORED`."""
    return _OF_STATUS.get(status, Exit.ERRORED)
