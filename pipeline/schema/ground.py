"""What all tables share: one metadata, numbered rows, partial indexes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, MetaData, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER


def where(condition: str) -> dict[str, Any]:
    """Return the arguments of an index over the rows for which `condition` holds.

    Naming PostgreSQL here would import its dialect (12 ms) for everybody: `for_postgresql` is for those who need it.
    """
    return {"sqlite_where": text(condition), "info": {"where": condition}}


def for_postgresql() -> None:
    """Give the partial indexes their conditions on PostgreSQL as well."""
    for table in metadata.tables.values():
        for index in table.indexes:
            if "where" in index.info:
                index.dialect_options["postgresql"]["where"] = text(index.info["where"])


def id_() -> Column[int]:
    """Return the column that numbers the rows."""
    return Column("id", Id, primary_key=True, autoincrement=True)
