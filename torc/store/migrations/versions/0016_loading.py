"""Large workflows are stored in slices: what is under way, or was left of it."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Go from the version before to this one."""
    op.create_table(
        "loading",
        sa.Column(
            "workflow_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("num_jobs", sa.Integer(), nullable=False),
        sa.Column("renewed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("workflow_id"),
    )
