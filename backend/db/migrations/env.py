"""Alembic's entry: runs the migrations on the connection that ``Database.upgrade`` opened."""

from __future__ import annotations

from alembic import context

from backend.db import Base

# SQLite changes a table by copying it, which batch mode does.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
