"""The schema's history: how a new record is made and an older one brought up to date.

A new one is made straight from `schema` and stamped; the revisions in `versions/` lead every older
one to the same place (a test compares the two). Alembic is imported only when there is
something to upgrade.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from pipeline import schema
from pipeline.dialects import TURN
from pipeline.errors import Unavailable


def create(tx: Connection, head: str, now: float) -> None:
    """Make all tables and the installation's identity in one transaction, unless another process just did."""
    if tx.dialect.name == "postgresql":
        tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TURN})")
        schema.for_postgresql()
    tables = inspect(tx).get_table_names()
    if "alembic_version" in tables:
        return
    if tables:
        raise Unavailable(
            f"the database holds tables that are not Pipewright's: {', '.join(sorted(tables)[:5])}",
            hint="give Pipewright a database of its own: PIPE_DATABASE_URL",
        )
    schema.metadata.create_all(tx, checkfirst=False)
    tx.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    tx.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{head}')")
    tx.execute(schema.installation.insert().values(id=str(uuid.uuid4()), created_at=now))


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Run the revisions that are missing, in one transaction; processes that come meanwhile wait and find it done."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TURN})")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
