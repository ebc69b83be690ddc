"""Whose installation this is, without opening the record: for what is begun before it is needed.

Only asked where not knowing is no harm. Whoever writes anything opens the database.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.settings import Settings

_FILE = "sqlite:///"


def installation(settings: Settings) -> str:
    """Return the installation's id, or "" where only opening the record can tell (first time, another server)."""
    if not settings.database_url.startswith(_FILE):
        return ""
    path = settings.database_url.removeprefix(_FILE)
    with contextlib.suppress(sqlite3.Error):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT id FROM installation").fetchone()
        return str(row[0]) if row else ""
    return ""
