"""What Alembic runs for each command: our connection, our metadata, batch mode for SQLite."""

from alembic import context

from pipeline import schema

schema.for_postgresql()
connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=schema.metadata,
    render_as_batch=True,
    compare_type=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
