"""For developers: print the operations that lead from the newest revision to `schema`, for the next revision's file.

python -m pipeline.migrations
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from pipeline import migrations, schema


def operations() -> str:
    """Return the operations as Python code; empty when the revisions and the schema agree."""
    schema.for_postgresql()
    with TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'empty.db'}")
        if any((Path(__file__).parent / "versions").glob("*.py")):
            migrations.upgrade(engine)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            code = render_python_code(produce_migrations(context, schema.metadata).upgrade_ops)  # type: ignore[arg-type]
        engine.dispose()
    code = code.replace("sa.BigInteger().with_variant(sa.Integer(), 'sqlite')", "_Id")
    code = re.sub(r"op\.f\(('[a-z0-9_]+')\)", r"\1", code).replace(", nullable=True", "")
    return "\n".join(line for line in code.splitlines() if not line.lstrip().startswith("#")).strip()


if __name__ == "__main__":
    sys.stdout.write(operations() + "\n")
