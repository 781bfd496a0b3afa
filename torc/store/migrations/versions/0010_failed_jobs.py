"""An index of the failed jobs: whoever asks why jobs failed does not read those that did not."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
_FAILED = sa.text("state IN ('failed', 'terminated', 'pending_failed')")


def upgrade() -> None:
    """Go from the version before to this one."""
    op.create_index("job_failed", "job", ["workflow_id", "id"], sqlite_where=_FAILED, postgresql_where=_FAILED)
