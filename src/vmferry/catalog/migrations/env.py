"""How Alembic runs: always over a connection that ``Database`` hands in."""

from __future__ import annotations

from alembic import context

from vmferry.catalog._schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
