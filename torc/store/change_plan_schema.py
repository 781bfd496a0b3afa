"""The tables of what assistants proposed and did, and of what that has cost. Names, ids and times are as in `schema`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Index
from sqlmodel import Field, SQLModel

from torc.store.schema import Id, json_column, reference, text_column


class InterventionRow(SQLModel, table=True):
    """A plan for a workflow in its state at that time, and its result."""

    __tablename__ = "intervention"
    __table_args__ = (Index("intervention_workflow", "workflow_id", "id"),)
    id: int = Field(default=None, sa_column=Column(Id, primary_key=True))
    workflow_id: int = reference("workflow.id")
    token_hash: str = text_column(nullable=False)  # SHA-256 of the token, which is random
    action: str
    arguments: dict[str, Any] = json_column()
    standing: dict[str, Any] = json_column()  # how the workflow was
    client: str = text_column(nullable=False)
    reason: str | None = text_column()
    agreed: str | None = None
    num_retries: int = 0
    node_hours: float = 0.0
    proposed_at: float
    expires_at: float
    applied_at: float | None = None
    digest: str | None = text_column()  # SHA-256 of all that was shown; what is done must have the same
    document: str | None = text_column()  # all that was shown
    pages_read: int | None = None
    asked_at: float | None = None  # the user was asked: whatever is not a yes ends the plan
    declined_at: float | None = None
    approved_at: float | None = None
    approved_by: str | None = text_column()
    token_id: int | None = Field(default=None, sa_column=Column(BigInteger))  # of the caller that proposed it
    reserved_seconds: float | None = None  # node-seconds that what was begun may still take
    used_seconds: float | None = None  # of attempts that have ended
    charged_attempt: int | None = Field(default=None, sa_column=Column(BigInteger))  # the last of these attempts


class SpendingRow(SQLModel, table=True):
    """The total cost of everything that assistants started in this store. It remains when workflows are deleted."""

    __tablename__ = "spending"
    name: str = Field(primary_key=True)
    node_seconds: float = 0.0
    num_retries: int = 0
    limit_seconds: float | None = None  # what the deployment allowed when something was last begun; NULL: no limit
