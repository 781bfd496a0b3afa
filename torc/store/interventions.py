"""The table of what assistants proposed and did. Names, ids and times are as in `tables`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index
from sqlmodel import Field, SQLModel

from torc.store.tables import Id, json_column, reference, text_column


class InterventionRow(SQLModel, table=True):
    """A plan for a workflow as it was then, and what came of it."""

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
