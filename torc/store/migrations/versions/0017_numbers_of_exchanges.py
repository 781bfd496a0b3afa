"""Exchanges of a runner are numbered, so that one that was overtaken is known."""

import sqlalchemy as sa
from alembic import op

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Go from the version before to this one."""
    op.add_column("runner", sa.Column("last_exchange", _ID, nullable=False, server_default="0"))
