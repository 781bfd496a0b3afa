"""Where results come from: the spec as it was written, and the environments of runners."""

import sqlalchemy as sa
from alembic import op

from torc.store.schema import Json

revision = "0006"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Go from the version before to this one."""
    op.create_table(
        "provenance",
        sa.Column("id", ID, primary_key=True),
        sa.Column("workflow_id", ID, sa.ForeignKey("workflow.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("runner_id", ID, nullable=True),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("facts", Json(), nullable=False),
    )
    op.create_index("provenance_workflow", "provenance", ["workflow_id", "kind", "hash"])
    op.create_index("ix_provenance_runner_id", "provenance", ["runner_id"])
