"""The tables of accounts: who may use a server, with what, and what they did.

Names, ids and times are as in `schema`. Passwords and tokens cannot be recovered from what is stored here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, Text
from sqlmodel import Field, SQLModel

from torc.store.schema import Id, id_column, json_column, reference, text_column


class AccountRow(SQLModel, table=True):
    """An account that can sign in. Workflows belong to accounts by name."""

    __tablename__ = "account"
    __table_args__ = (Index("account_name", "name", unique=True),)
    id: int = id_column()
    name: str = text_column(nullable=False)
    password_hash: str | None = text_column()  # argon2id, or bcrypt until the next sign-in; NULL: by tokens alone
    is_admin: bool = False
    is_disabled: bool = False
    created_at: float


class TokenRow(SQLModel, table=True):
    """A token, which programs use instead of a password."""

    __tablename__ = "token"
    id: int = id_column()
    account_id: int = reference("account.id", index=True)
    parent_id: int | None = reference("token.id", nullable=True, index=True)  # the one that it was made with
    workflow_id: int | None = reference("workflow.id", nullable=True, index=True)  # for this one alone
    name: str = text_column(nullable=False)
    secret_hash: str = text_column(nullable=False)  # SHA-256 of the secret part, which is 256 random bits
    scope: str = text_column(nullable=False)
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    used_at: float | None = None  # to the hour


class AccessGroupRow(SQLModel, table=True):
    """Accounts that workflows are shared with."""

    __tablename__ = "access_group"
    __table_args__ = (Index("access_group_name", "name", unique=True),)
    id: int = id_column()
    name: str = text_column(nullable=False)
    description: str | None = text_column()
    owner_id: int | None = reference("account.id", nullable=True, index=True)  # NULL: the administrators'
    created_at: float


class AccessMemberRow(SQLModel, table=True):
    """An account in a group."""

    __tablename__ = "access_member"
    __table_args__ = {"sqlite_with_rowid": False}
    account_id: int = reference("account.id", primary_key=True)
    group_id: int = reference("access_group.id", primary_key=True, index=True)


class AccessShareRow(SQLModel, table=True):
    """A workflow shared with a group. `level`: the index of the right in `torc.workflow.access.LEVELS`."""

    __tablename__ = "access_share"
    __table_args__ = {"sqlite_with_rowid": False}
    workflow_id: int = reference("workflow.id", primary_key=True)
    group_id: int = reference("access_group.id", primary_key=True, index=True)
    level: int


class AuditRow(SQLModel, table=True):
    """Who did what, and from where. Records outlive what they are about, so they reference nothing."""

    __tablename__ = "audit"
    __table_args__ = (Index("audit_workflow", "workflow_id", "id"),)
    id: int = Field(default=None, sa_column=Column(Id, primary_key=True))  # by the database
    time: float
    actor: str = Field(sa_column=Column(Text, nullable=False))
    address: str = Field(sa_column=Column(Text, nullable=False))
    token_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True))
    action: str = Field(sa_column=Column(Text, nullable=False))
    workflow_id: int | None = Field(default=None, sa_column=Column(Id, nullable=True))
    data: dict[str, Any] = json_column()
