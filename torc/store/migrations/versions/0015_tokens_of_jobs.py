"""Runners give their jobs a token."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Go from the version before to this one."""
    op.add_column("runner", sa.Column("job_token_hash", sa.Text(), nullable=True))
