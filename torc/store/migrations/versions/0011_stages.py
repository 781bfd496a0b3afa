"""The stage of the jobs behind each gate. Gates of before have none: whoever wants their stages reads the graph."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Go from the version before to this one."""
    op.add_column("gate", sa.Column("stage", sa.Integer(), nullable=True))
