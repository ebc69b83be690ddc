"""Who did what, from where, to what: rows that are only added, each bound to the one before by its hash.

The database refuses changes (`schema.guards`); whoever gets around that breaks the chain, and `verify`
says where. A chain that was cut off at its end is found by keeping `head` elsewhere. What moved by itself
is not here but in `history`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from pipeline.db import moment
from pipeline.schema import audit

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipeline.db import Database

START = "0" * 64
_SIGNED = ("at", "who", "origin", "what", "subject", "detail", "previous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the audit."""

    id: int
    at: float
    who: str
    origin: str
    what: str
    subject: str
    detail: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found: how many rows, the last hash, and the first row that does not fit, if any."""

    rows: int
    head: str
    broken: int | None
    reason: str = ""


def append(
    tx: Connection, *, who: str, origin: str, what: str, subject: str, detail: Mapping[str, Any] | None = None
) -> str:
    """Add a row in the caller's transaction and return its hash.

    `origin` is the door and the address (`cli`, `api 192.0.2.7`); `detail` plain data, without secrets.
    The transaction must be one of `Database.write()`: writers take turns, so the chain does not fork.
    """
    last = tx.execute(select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)).scalar()
    row = {
        "at": moment(tx),
        "who": who,
        "origin": origin,
        "what": what,
        "subject": subject,
        "detail": dict(detail or {}),
        "previous": last or START,
    }
    row["hash"] = _hash(row)
    tx.execute(insert(audit).values(**row))
    return str(row["hash"])


def verify(db: Database, *, head: str = "") -> Verdict:
    """Check the whole chain, and that it reaches `head` if one was kept elsewhere."""
    expected, rows, seen = START, 0, not head
    query = select(audit).order_by(audit.c.id)
    with db.read() as connection, connection.execution_options(yield_per=1000).execute(query) as result:
        for row in result:
            if row.previous != expected:
                return Verdict(rows, expected, row.id, f"row {row.id} does not follow the row before it")
            if _hash(row._mapping) != row.hash:
                return Verdict(rows, expected, row.id, f"row {row.id} was changed after it was written")
            expected, rows = row.hash, rows + 1
            seen = seen or row.hash == head
    if not seen:
        return Verdict(rows, expected, 0, f"the row with the hash {head[:12]} is missing: the end was cut off")
    return Verdict(rows, expected, None)


def listing(db: Database, *, subject: str | None = None, limit: int = 50) -> list[Entry]:
    """Return the newest rows first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    with db.read() as connection:
        return [Entry(**row._mapping) for row in connection.execute(query)]


def _hash(row: Mapping[Any, Any]) -> str:
    signed = {name: row[name] for name in _SIGNED}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
