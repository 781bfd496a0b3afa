"""What assistants proposed and did."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
JSON = sa.JSON(none_as_null=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Go from the version before to this one."""
    op.create_table(
        "intervention",
        sa.Column("id", ID, primary_key=True),
        sa.Column("workflow_id", ID, sa.ForeignKey("workflow.id", ondelete="CASCADE"), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("arguments", JSON, nullable=False),
        sa.Column("standing", JSON, nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("agreed", sa.String()),
        sa.Column("num_retries", sa.Integer(), nullable=False),
        sa.Column("node_hours", sa.Float(), nullable=False),
        sa.Column("proposed_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("applied_at", sa.Float()),
    )
    op.create_index("intervention_workflow", "intervention", ["workflow_id", "id"])
