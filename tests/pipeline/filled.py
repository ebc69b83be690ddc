"""A record that has been in use: some rows in every table, for migrations to keep."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from pipeline import schema

TEXT = {"VARCHAR": "text", "TEXT": "a longer text", "FLOAT": 1_795_000_000.25, "BOOLEAN": True}
FIXED: dict[str, Any] = {
    "installation.id": "11111111-2222-3333-4444-555555555555",
    "runs.status": "running",
    "jobs.status": "queued",
}


def fill(tx: Connection) -> None:
    """Put two rows into every table, references and all."""
    for table in schema.metadata.sorted_tables:
        for number in (1, 2) if table.name != "installation" else (1,):
            tx.execute(table.insert().values({c.name: _value(c, number) for c in table.columns}))


def _value(column: Any, number: int) -> Any:
    known = FIXED.get(f"{column.table.name}.{column.name}")
    if known is not None:
        return known
    kind = str(column.type).split("(")[0]
    if column.name == "holds_slot":
        return False
    if column.name == "status" and column.table.name == "promotions":
        return "live"
    if kind in ("BIGINT", "INTEGER"):
        return number
    if kind == "JSON":
        return {"number": number, "text": "ä"}
    if kind == "VARCHAR":
        return f"{column.name}-{number}"[: column.type.length]
    if kind == "TEXT":
        return f"{column.name} of row {number}"
    return TEXT[kind]


def rows(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything that is in the record."""
    found = {}
    for table in schema.metadata.sorted_tables:
        first = next(iter(table.primary_key.columns))
        found[table.name] = [tuple(row) for row in connection.execute(select(table).order_by(first))]
    return found
