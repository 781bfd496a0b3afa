"""What a failed attempt wrote to its standard output, and where the ends of its logs stand in their files."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Go from the version before to this one."""
    op.add_column("attempt", sa.Column("stderr_line", sa.Integer(), nullable=True))
    op.add_column("attempt", sa.Column("stdout_tail", sa.Text(), nullable=True))
    op.add_column("attempt", sa.Column("stdout_line", sa.Integer(), nullable=True))
