"""Jobs may say that what they have begun in the background stays."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Go from the version before to this one."""
    op.add_column("job", sa.Column("keep_background_processes", sa.Boolean(), nullable=True))
