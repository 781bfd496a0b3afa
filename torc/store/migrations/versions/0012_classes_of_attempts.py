"""Attempts keep the class that they ran with: recoveries give jobs others."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Go from the version before to this one."""
    op.add_column(
        "attempt", sa.Column("requirement_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True)
    )
