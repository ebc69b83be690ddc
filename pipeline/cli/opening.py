"""Open what a command needs and close it again: the database, and the engine beneath it.

Imports are inside the functions, because most commands need only one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.db import Database
    from pipeline.settings import Settings
    from runners.engines import Engine


@contextmanager
def reading(settings: Settings) -> Iterator[Database]:
    """Open the records for one command, made or upgraded if need be. Raises Unavailable."""
    from pipeline.db import Database

    db = Database.open(settings)
    try:
        yield db
    finally:
        db.close()


@contextmanager
def at_work(settings: Settings) -> Iterator[tuple[Database, Engine]]:
    """Open the records and the engine for one command. Raises Unavailable."""
    from runners.engines.docker import DockerEngine

    with reading(settings) as db:
        engine = DockerEngine(settings, db.installation)
        try:
            yield db, engine
        finally:
            engine.close()
