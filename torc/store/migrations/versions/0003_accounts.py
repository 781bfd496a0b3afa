"""Accounts, their tokens, groups that share workflows, and the record of who did what."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _ref(name: str, target: str, *, primary_key: bool = False, nullable: bool = False) -> sa.Column[int]:
    foreign = sa.ForeignKey(target, ondelete="CASCADE")
    return sa.Column(name, ID, foreign, primary_key=primary_key, nullable=nullable)


def upgrade() -> None:
    """Go from the version before to this one."""
    op.create_table(
        "account",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=True),
        sa.Column("is_admin", sa.Boolean, nullable=False),
        sa.Column("is_disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("account_name", "account", ["name"], unique=True)
    op.create_table(
        "token",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        _ref("account_id", "account.id"),
        _ref("parent_id", "token.id", nullable=True),
        _ref("workflow_id", "workflow.id", nullable=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=True),
        sa.Column("revoked_at", sa.Float, nullable=True),
        sa.Column("used_at", sa.Float, nullable=True),
    )
    for column in ("account_id", "parent_id", "workflow_id"):
        op.create_index(f"ix_token_{column}", "token", [column])
    op.create_table(
        "access_group",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=True),
        _ref("owner_id", "account.id", nullable=True),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("access_group_name", "access_group", ["name"], unique=True)
    op.create_index("ix_access_group_owner_id", "access_group", ["owner_id"])
    op.create_table(
        "access_member",
        _ref("account_id", "account.id", primary_key=True),
        _ref("group_id", "access_group.id", primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_access_member_group_id", "access_member", ["group_id"])
    op.create_table(
        "access_share",
        _ref("workflow_id", "workflow.id", primary_key=True),
        _ref("group_id", "access_group.id", primary_key=True),
        sa.Column("level", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_access_share_group_id", "access_share", ["group_id"])
    op.create_table(
        "audit",
        sa.Column("id", ID, primary_key=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("token_id", ID, nullable=True),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("workflow_id", ID, nullable=True),
        sa.Column("data", sa.JSON(none_as_null=True).with_variant(sa.Text(), "sqlite"), nullable=False),
    )
    op.create_index("audit_workflow", "audit", ["workflow_id", "id"])
    op.create_index("workflow_user", "workflow", ["user", "id"])
