"""Allocations of clusters, the runners that live in them, and what the cluster said of attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
JSON_TEXT = sa.JSON().with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Go from the version before to this one."""
    op.create_table(
        "allocation",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("workflow_id", ID, sa.ForeignKey("workflow.id", ondelete="CASCADE"), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scheduler", sa.Text(), nullable=True),
        sa.Column("firing_id", ID, nullable=True),
        sa.Column("request", JSON_TEXT, nullable=False),
        sa.Column("num_nodes", sa.Integer(), nullable=False),
        sa.Column("walltime_seconds", sa.Integer(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("qos", sa.Text(), nullable=True),
        sa.Column("cpus_per_node", sa.Integer(), nullable=True),
        sa.Column("memory_bytes_per_node", sa.BigInteger(), nullable=True),
        sa.Column("gpus_per_node", sa.Integer(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=True),
        sa.Column("cluster_job_id", sa.Text(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cluster_state", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("nodes", JSON_TEXT, nullable=False),
        sa.Column("failed_nodes", JSON_TEXT, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        *(
            sa.Column(name, sa.Float(), nullable=True)
            for name in (
                "submitted_at",
                "expected_start_at",
                "started_at",
                "ended_at",
                "seen_at",
                "cancel_requested_at",
            )
        ),
        sa.Column("exit_code", sa.String(), nullable=True),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("node_seconds_used", sa.Float(), nullable=False),
        sa.Column("node_seconds_wasted", sa.Float(), nullable=True),
    )
    op.create_index("allocation_workflow", "allocation", ["workflow_id", "state"])
    op.add_column("runner", sa.Column("allocation_id", ID, nullable=True))
    op.add_column("runner", sa.Column("node", sa.Text(), nullable=True))
    op.create_index("ix_runner_allocation_id", "runner", ["allocation_id"])
    op.add_column("attempt", sa.Column("slurm_state", sa.String(), nullable=True))
