"""Retries that have to wait: ready jobs that nobody gets before they are due."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
_DUE_NOW = sa.text("state = 'ready' AND due_at IS NULL")
_WAITING = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    """Go from the version before to this one."""
    op.add_column("job", sa.Column("due_at", sa.Float(), nullable=True))
    op.drop_index("job_ready", table_name="job")
    op.create_index(
        "job_ready",
        "job",
        ["workflow_id", "requirement_id", "scheduler_id", "order_key", "id"],
        sqlite_where=_DUE_NOW,
        postgresql_where=_DUE_NOW,
    )
    op.create_index("job_due", "job", ["workflow_id", "due_at"], sqlite_where=_WAITING, postgresql_where=_WAITING)
