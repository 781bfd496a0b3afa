"""Plans keep all that was shown of them; what assistants spend is summed up for the whole store."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go from the version before to this one."""
    for column in (
        sa.Column("digest", sa.Text()),
        sa.Column("document", sa.Text()),
        sa.Column("pages_read", sa.Integer()),
        sa.Column("asked_at", sa.Float()),
        sa.Column("declined_at", sa.Float()),
        sa.Column("approved_at", sa.Float()),
        sa.Column("approved_by", sa.Text()),
        sa.Column("token_id", sa.BigInteger()),
        sa.Column("reserved_seconds", sa.Float()),
        sa.Column("used_seconds", sa.Float()),
        sa.Column("charged_attempt", sa.BigInteger()),
    ):
        op.add_column("intervention", column)
    op.add_column("workflow", sa.Column("charged_to", ID, nullable=True))
    op.create_index(
        "workflow_charged",
        "workflow",
        ["id"],
        sqlite_where=sa.text("charged_to IS NOT NULL"),
        postgresql_where=sa.text("charged_to IS NOT NULL"),
    )
    op.create_table(
        "spending",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("node_seconds", sa.Float(), nullable=False),
        sa.Column("num_retries", sa.Integer(), nullable=False),
        sa.Column("limit_seconds", sa.Float()),
    )
    # what plans were charged so far, in all workflows
    op.execute(
        "INSERT INTO spending (name, node_seconds, num_retries) SELECT 'assistants', coalesce(sum(node_hours), 0) * 3600.0, "
        "coalesce(sum(num_retries), 0) FROM intervention WHERE applied_at IS NOT NULL"
    )
