"""Alembic's environment: the migrations run on the connection, and in the transaction, that the caller brings."""

from alembic import context
from sqlmodel import SQLModel

from torc.store import account_schema, change_plan_schema

assert account_schema.AccountRow.metadata is change_plan_schema.InterventionRow.metadata is SQLModel.metadata
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,  # SQLite changes tables by copying them
    transactional_ddl=False,  # the caller's transaction holds all of it
)
context.run_migrations()
