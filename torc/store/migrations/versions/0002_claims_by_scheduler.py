"""Ready jobs are found by the scheduler that they are bound to."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Go from the version before to this one."""
    op.drop_index("job_ready", table_name="job")
    op.create_index(
        "job_ready",
        "job",
        ["workflow_id", "requirement_id", "scheduler_id", "order_key", "id"],
        sqlite_where=sa.text("state = 'ready'"),
        postgresql_where=sa.text("state = 'ready'"),
    )
