"""The shop's memory in PostgreSQL. The password is a file that the pipeline brings, never an argument."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg


def connect() -> psycopg.Connection:
    """Connect to the database named by DB_HOST."""
    secret = Path("/run/secrets/POSTGRES_PASSWORD")
    return psycopg.connect(
        host=os.environ.get("DB_HOST", "db"),
        dbname=os.environ.get("DB_NAME", "postgres"),
        user="postgres",
        password=secret.read_text().strip() if secret.exists() else os.environ.get("POSTGRES_PASSWORD", ""),
        connect_timeout=5,
        autocommit=True,
    )


# Only steps that both colours can live with: during a swap the old release still works on the new tables.
MIGRATIONS = (
    """CREATE TABLE IF NOT EXISTS orders (
        id bigserial PRIMARY KEY, item text NOT NULL, quantity int NOT NULL, cents int NOT NULL,
        placed_at timestamptz NOT NULL DEFAULT now())""",
    "ALTER TABLE orders ADD COLUMN IF NOT EXISTS parcels int",
    "ALTER TABLE orders ADD COLUMN IF NOT EXISTS packed_by text",
    "ALTER TABLE orders ADD COLUMN IF NOT EXISTS token text UNIQUE",
)


def migrate() -> None:
    """Bring the tables up to date; running it again changes nothing."""
    with connect() as connection:
        for step in MIGRATIONS:
            connection.execute(step)
    print(f"{len(MIGRATIONS)} migrations are in place")


if __name__ == "__main__":
    migrate()
