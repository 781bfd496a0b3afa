"""What an assistant proposes to do to a workflow and, once that was agreed to, does: plans, what they cost, who agreed.

A plan is bound to the state that it was made from, holds once, and counts against a budget. Not for doing it: whoever
applied a plan sends the request that does what it says.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from torc.api.base import Page, Request, Value, request

Agreed = Literal["user", "token", "policy"]


class Intervention(Value):
    """A plan: what would be done, or was."""

    id: int
    workflow_id: int
    token: str | None = Field(None, description="to apply it with; told once, when it is proposed")
    action: str = Field(description="what would do it, such as recover_workflow")
    arguments: dict[str, Any] = Field(description="all that it needs to do it")
    client: str
    reason: str | None = Field(None, description="that was given when it was applied")
    agreed: Agreed | None = Field(
        None, description="who agreed: the user was asked, the token was shown, the policy allows it"
    )
    num_retries: int
    node_hours: float
    proposed_at: float
    expires_at: float
    applied_at: float | None = None


@request("POST", "/workflows/{workflow_id}/interventions", access="write")
class ProposeIntervention(Request[Intervention]):
    """Keep a plan of what is to be done to a workflow as it is now; nothing is done."""

    workflow_id: int
    action: str = Field(min_length=1, max_length=64)
    arguments: dict[str, Any] = {}
    client: str = Field(min_length=1, max_length=64)
    num_retries: int = Field(0, ge=0, le=2**31 - 1, description="counted against the budget")
    node_hours: float = Field(0.0, ge=0.0, description="likewise")
    follows_progress: bool = Field(False, description="holds although jobs start and end meanwhile")
    lifetime_seconds: float = Field(86_400.0, gt=0.0, le=604_800.0)


@request("POST", "/workflows/{workflow_id}/interventions/apply", access="write")
class ApplyIntervention(Request[Intervention]):
    """Take a plan as applied, once, and record who did it and why.

    Refused (`conflict`) when the workflow is not as it was when the plan was made, saying what changed; when it was applied or
    has expired; and when it would go beyond the budget.
    """

    workflow_id: int
    token: str
    action: str = Field(description="that the plan must be for")
    client: str = Field(min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=1000)
    agreed: Agreed = "token"
    max_retries: int | None = Field(None, ge=0, description="budget of the workflow; left out: none")
    max_node_hours: float | None = Field(None, ge=0.0)


@request("GET", "/workflows/{workflow_id}/interventions")
class ListInterventions(Request[Page[Intervention]]):
    """List plans and what was applied, newest first."""

    workflow_id: int
    applied_only: bool = False
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


class Spending(Value):
    """What applied plans have asked for so far."""

    num_applied: int
    num_retries: int
    node_hours: float


@request("GET", "/workflows/{workflow_id}/interventions/spending")
class GetSpending(Request[Spending]):
    """Sum up what applied plans have cost a workflow's budget."""

    workflow_id: int


@request("GET", "/workflows/{workflow_id}/interventions/plan")
class FindIntervention(Request[Intervention]):
    """Look at a plan by its token. Refused (`conflict`) when it could not be applied any more."""

    workflow_id: int
    token: str
    action: str
