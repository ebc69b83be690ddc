"""The journal of a local worker: what only an operator needs goes to $PIPE_HOME/pipe.log.

It must not come between the lines of a run; what the author of a stage must see is in the stage's log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.settings import Settings

_FORMAT = "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s %(facts)s"
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"facts", "message", "asctime"}


def keep(settings: Settings) -> None:
    """Write warnings and errors of this process to the journal from now on."""
    rooms = [logging.getLogger(room) for room in ("pipeline", "runners")]
    if any(room.handlers for room in rooms):
        return
    handler = logging.FileHandler(settings.home / "pipe.log", delay=True)
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_add_facts)
    for room in rooms:
        room.addHandler(handler)
        room.propagate = False


def _add_facts(record: logging.LogRecord) -> bool:
    record.facts = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _USUAL)
    return True
