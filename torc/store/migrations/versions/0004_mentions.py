"""Where commands mention user data by its id, so that a workflow can be moved to where the ids are others."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Go from the version before to this one."""
    op.create_table(
        "mention",
        sa.Column("job_id", ID, sa.ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("field", sa.String(), primary_key=True),
        sa.Column("at", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("user_data_id", ID, sa.ForeignKey("user_data.id", ondelete="CASCADE"), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_mention_user_data_id", "mention", ["user_data_id"])
