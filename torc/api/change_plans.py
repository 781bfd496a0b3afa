"""What an assistant proposes to do to a workflow and, once that was agreed to, does: plans, what they cost, who agreed.

A plan says in requests what would be done. When it is made, they are answered and undone again, and what would run afterwards
is kept word by word (its document, and a digest of it). Applying it answers them for good, in one transaction with the check
that the outcome is what was shown, with the budget and with the record. A plan holds once; whoever says no ends it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from torc.api.base import Page, Request, Value, request
from torc.api.runs import NodeCapacity
from torc.api.workflows import FileFact, SourceFile
from torc.spec.formats import Format

Agreed = Literal["user", "token", "policy", "approval"]
Starts = Literal["run", "worker", "submit"]
OperationKind = Literal[
    "CancelWorkflow", "ResetWorkflow", "ActOnJobs", "ReinitializeWorkflow", "RecoverWorkflow", "UpdateRequirement"
]
Shows = Literal["due", "all", "ending", "nothing"]


class Operation(Value):
    """A request that a plan consists of."""

    kind: OperationKind
    fields: dict[str, Any] = {}


class SpecAsWritten(Value):
    """The spec that a workflow was made from, as GetProvenance gives it: jobs are shown by its templates."""

    text: str
    format: Format | None = None
    name: str = "<spec>"
    files: list[SourceFile] = []


class Intervention(Value):
    """A plan: what would be done, or was."""

    id: int
    workflow_id: int
    token: str | None = Field(None, description="to apply it with; told once, to whoever has seen all of the document")
    action: str = Field(description="what would do it, such as recover_workflow")
    arguments: dict[str, Any] = Field(description="all that it needs to do it")
    client: str
    reason: str | None = Field(None, description="that was given when it was applied")
    agreed: Agreed | None = Field(
        None,
        description="who agreed: the user was asked, the token was shown, the policy allows it, somebody approved it",
    )
    num_retries: int
    node_hours: float
    proposed_at: float
    expires_at: float
    applied_at: float | None = None
    declined_at: float | None = None
    approved_at: float | None = None
    approved_by: str | None = None
    digest: str | None = None
    num_pages: int = Field(1, description="of the document")
    document: str | None = Field(None, description="what would be done and run, as far as it was asked for")
    is_whole: bool = Field(True, description="`document` is all of it")
    code: str | None = Field(None, description="proves that the end of the document was reached")
    operations: list[Operation] = Field([], description="the requests that it consists of, where it was asked about")
    results: list[Any] = Field([], description="what the requests answered, or would")


@request("POST", "/workflows/{workflow_id}/interventions", access="write", takes_long=True)
class ProposeIntervention(Request[Intervention]):
    """Keep a plan of what is to be done to a workflow as it is now; nothing is done."""

    workflow_id: int
    action: str = Field(min_length=1, max_length=64)
    operations: list[Operation] = Field([], max_length=100)
    starts: Starts | None = Field(None, description="what is begun afterwards: its jobs are charged to the plan")
    shows: Shows = Field("due", description="which of the commands run because of it")
    summary: str = Field("", max_length=2000)
    changes: list[str] = Field([], description="what changes beside, in words")
    arguments: dict[str, Any] = {}
    spec: SpecAsWritten | None = None
    client: str = Field(min_length=1, max_length=64)
    num_retries: int = Field(0, ge=0, le=2**31 - 1, description="counted against the budget")
    node_hours: float | None = Field(None, ge=0.0, description="that are asked for; left out: worked out from the jobs")
    node: NodeCapacity | None = Field(None, description="where the jobs would run")
    most_characters: int = Field(6_000, ge=500, le=1_000_000, description="of the document, in the reply")
    lifetime_seconds: float = Field(86_400.0, gt=0.0, le=604_800.0)


@request("POST", "/workflows/{workflow_id}/interventions/apply", access="write", takes_long=True)
class ApplyIntervention(Request[Intervention]):
    """Do what a plan says, once, and record who did it and why.

    Refused (`conflict`) when the workflow is not as it was when the plan was made, saying what changed; when what would come of
    it is not what was shown; when it was applied or declined or has expired; and when it would go beyond the budget.
    """

    workflow_id: int
    token: str
    action: str = Field(description="that the plan must be for")
    client: str = Field(min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=1000)
    agreed: Agreed = "token"
    must_be_approved: bool = Field(False, description="where the user was not asked, somebody must have approved it")
    spec: SpecAsWritten | None = Field(None, description="the edited spec, where the plan brings one in")
    files: list[FileFact] = Field([], description="how files look now, where the plan depends on it")
    max_retries: int | None = Field(None, ge=0, description="budget of all assistants; left out: none")
    max_node_hours: float | None = Field(None, ge=0.0)


@request("POST", "/workflows/{workflow_id}/interventions/ask", access="write")
class AskIntervention(Request[Intervention]):
    """Note that the user is asked about a plan, once: without a yes it ends. Refused when it could not be applied any more."""

    workflow_id: int
    token: str
    action: str
    most_characters: int = Field(6_000, ge=500, le=1_000_000)
    again: bool = Field(False, description="only look: it was noted before")
    agreed: Agreed | None = Field(None, description="check, too, that the plan could be applied with this agreement")
    must_be_approved: bool = Field(False, description="as for ApplyIntervention")
    max_retries: int | None = Field(None, ge=0)
    max_node_hours: float | None = Field(None, ge=0.0)


@request("POST", "/workflows/{workflow_id}/interventions/decline", access="write")
class DeclineIntervention(Request[Intervention]):
    """End a plan: nobody can apply it any more."""

    workflow_id: int
    token: str | None = Field(None, description="of the plan; or its number")
    intervention_id: int | None = None
    reason: str = Field("declined", min_length=1, max_length=1000)


@request("POST", "/workflows/{workflow_id}/interventions/release", access="write")
class ReleaseIntervention(Request[Intervention]):
    """Take back that a plan was applied, whose run did not begin: nothing is charged, and the plan holds again."""

    workflow_id: int
    token: str


@request("POST", "/workflows/{workflow_id}/interventions/read", access="write")
class ReadIntervention(Request[Intervention]):
    """Read a page of the document of a plan. Who has read them in order gets the token with the last one."""

    workflow_id: int
    intervention_id: int
    page: int = Field(ge=1, le=1_000_000)


@request("GET", "/workflows/{workflow_id}/interventions")
class ListInterventions(Request[Page[Intervention]]):
    """List plans and what was applied, newest first."""

    workflow_id: int
    applied_only: bool = False
    open_only: bool = Field(False, description="only plans that could still be applied")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("GET", "/interventions")
class ListOpenInterventions(Request[list[Intervention]]):
    """List the plans of all workflows that could still be applied, newest first."""

    limit: int = Field(100, ge=1, le=10_000)


@request("GET", "/interventions/find")
class FindInterventions(Request[list[Intervention]]):
    """Find a plan of any workflow by its number, or by the SHA-256 of its token."""

    intervention_id: int | None = None
    token_sha256: str | None = Field(None, max_length=64)


@request("GET", "/workflows/{workflow_id}/interventions/{intervention_id}/document")
class GetIntervention(Request[Intervention]):
    """Get a plan with all of its document, and the code that proves that its end was reached."""

    workflow_id: int
    intervention_id: int


@request("POST", "/workflows/{workflow_id}/interventions/{intervention_id}/approve", access="write")
class ApproveIntervention(Request[Intervention]):
    """Agree to a plan, as a person: not by an assistant, nor with the token that proposed it or one made with that."""

    workflow_id: int
    intervention_id: int
    digest: str = Field(description="of what was read")


class Spending(Value):
    """What assistants have spent in this store, over all workflows and sessions, and what is spoken for."""

    num_retries: int
    node_hours: float
    node_hours_reserved: float = Field(0.0, description="by runs that go on, or are about to begin")
    max_node_hours: float | None = Field(None, description="that the deployment allowed when it was last asked")


@request("GET", "/interventions/spending")
class GetSpending(Request[Spending]):
    """Sum up what assistants have cost."""


@request("POST", "/interventions/spending/anew", access="admin")
class StartSpendingAnew(Request[Spending]):
    """Forget what assistants have spent, as a person."""
