"""What an assistant proposes to do to a workflow and, after approval, does: plans, their cost, and who agreed.

A plan is a list of requests. When it is made, they are executed and rolled back, and what would run afterwards is stored verbatim (its
document) with a digest. Applying the plan executes them for real, in one transaction with the checks that the outcome is what was
shown and within the budget, and with the record. A plan can be applied once; declining it ends it.
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
    """One request of a plan."""

    kind: OperationKind
    fields: dict[str, Any] = {}


class SpecAsWritten(Value):
    """The spec that a workflow was created from, as in GetProvenance; its templates are used to show jobs in groups."""

    text: str
    format: Format | None = None
    name: str = "<spec>"
    files: list[SourceFile] = []


class Intervention(Value):
    """A plan, proposed or applied."""

    id: int
    workflow_id: int
    token: str | None = Field(
        None, description="needed to apply the plan; revealed once, to a client that has seen the whole document"
    )
    action: str = Field(description="the tool that would do it, such as recover_workflow")
    arguments: dict[str, Any] = Field(description="the arguments of the tool")
    client: str
    reason: str | None = Field(None, description="given when it was applied")
    agreed: Agreed | None = Field(
        None,
        description="how it was agreed to: the user was asked, the token was presented, the policy allows it, or a person approved it",
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
    num_pages: int = Field(1, description="pages of the document")
    document: str | None = Field(None, description="what would be done and run, as much of it as was requested")
    is_whole: bool = Field(True, description="whether `document` is complete")
    code: str | None = Field(None, description="proves that the document was read to the end")
    operations: list[Operation] = Field([], description="the requests of the plan, if asked for")
    results: list[Any] = Field([], description="the replies to the requests, actual or expected")


@request("POST", "/workflows/{workflow_id}/interventions", access="write", takes_long=True)
class ProposeIntervention(Request[Intervention]):
    """Store a plan for changing a workflow in its current state; nothing is changed."""

    workflow_id: int
    action: str = Field(min_length=1, max_length=64)
    operations: list[Operation] = Field([], max_length=100)
    starts: Starts | None = Field(None, description="what is started afterwards: its jobs are charged to the plan")
    shows: Shows = Field("due", description="which commands would run because of it")
    summary: str = Field("", max_length=2000)
    changes: list[str] = Field([], description="descriptions of other changes")
    arguments: dict[str, Any] = {}
    spec: SpecAsWritten | None = None
    client: str = Field(min_length=1, max_length=64)
    num_retries: int = Field(0, ge=0, le=2**31 - 1, description="counted against the budget")
    node_hours: float | None = Field(None, ge=0.0, description="requested; default: estimated from the jobs")
    node: NodeCapacity | None = Field(None, description="where the jobs would run")
    most_characters: int = Field(6_000, ge=500, le=1_000_000, description="length limit of the document in the reply")
    lifetime_seconds: float = Field(86_400.0, gt=0.0, le=604_800.0)


@request("POST", "/workflows/{workflow_id}/interventions/apply", access="write", takes_long=True)
class ApplyIntervention(Request[Intervention]):
    """Apply a plan, once, and record who applied it and why.

    Refused (`conflict`) if the workflow has changed since the plan was made, with the changes; if the outcome would differ from what
    was shown; if the plan was already applied or declined or has expired; and if it would exceed the budget.
    """

    workflow_id: int
    token: str
    action: str = Field(description="the action that the plan must be for")
    client: str = Field(min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=1000)
    agreed: Agreed = "token"
    must_be_approved: bool = Field(False, description="unless the user was asked, a person must have approved it")
    spec: SpecAsWritten | None = Field(None, description="the edited spec, if the plan contains one")
    files: list[FileFact] = Field([], description="the current state of files, if the plan depends on it")
    max_retries: int | None = Field(None, ge=0, description="budget of all assistants; default: unlimited")
    max_node_hours: float | None = Field(None, ge=0.0)


@request("POST", "/workflows/{workflow_id}/interventions/ask", access="write")
class AskIntervention(Request[Intervention]):
    """Record that the user is being asked about a plan, once: without a yes it ends. Refused if it could no longer be applied."""

    workflow_id: int
    token: str
    action: str
    most_characters: int = Field(6_000, ge=500, le=1_000_000)
    again: bool = Field(False, description="only read it: this was already recorded")
    agreed: Agreed | None = Field(None, description="also check that the plan could be applied with this agreement")
    must_be_approved: bool = Field(False, description="as in ApplyIntervention")
    max_retries: int | None = Field(None, ge=0)
    max_node_hours: float | None = Field(None, ge=0.0)


@request("POST", "/workflows/{workflow_id}/interventions/decline", access="write")
class DeclineIntervention(Request[Intervention]):
    """End a plan, so that it can no longer be applied."""

    workflow_id: int
    token: str | None = Field(None, description="token of the plan; alternatively give its id")
    intervention_id: int | None = None
    reason: str = Field("declined", min_length=1, max_length=1000)


@request("POST", "/workflows/{workflow_id}/interventions/release", access="write")
class ReleaseIntervention(Request[Intervention]):
    """Undo the record that a plan was applied because its run did not start: nothing is charged, and it can be applied again."""

    workflow_id: int
    token: str


@request("POST", "/workflows/{workflow_id}/interventions/read", access="write")
class ReadIntervention(Request[Intervention]):
    """Read a page of the document of a plan. The last page includes the token if all pages were read in order."""

    workflow_id: int
    intervention_id: int
    page: int = Field(ge=1, le=1_000_000)


@request("GET", "/workflows/{workflow_id}/interventions")
class ListInterventions(Request[Page[Intervention]]):
    """List proposed and applied plans, newest first."""

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
    """Find a plan of any workflow by its id, or by the SHA-256 of its token."""

    intervention_id: int | None = None
    token_sha256: str | None = Field(None, max_length=64)


@request("GET", "/workflows/{workflow_id}/interventions/{intervention_id}/document")
class GetIntervention(Request[Intervention]):
    """Get a plan with all of its document, and the code that proves that its end was reached."""

    workflow_id: int
    intervention_id: int


@request("POST", "/workflows/{workflow_id}/interventions/{intervention_id}/approve", access="write")
class ApproveIntervention(Request[Intervention]):
    """Approve a plan, as a person: not possible for an assistant, nor with the token that proposed it or one derived from that."""

    workflow_id: int
    intervention_id: int
    digest: str = Field(description="of the document that was read")


class Spending(Value):
    """What assistants have spent in this store, over all workflows and sessions, and what is reserved."""

    num_retries: int
    node_hours: float
    node_hours_reserved: float = Field(0.0, description="by runs in progress or about to start")
    max_node_hours: float | None = Field(None, description="the limit of the deployment when it was last reported")


@request("GET", "/interventions/spending")
class GetSpending(Request[Spending]):
    """Return what assistants have spent."""


@request("POST", "/interventions/spending/anew", access="admin")
class StartSpendingAnew(Request[Spending]):
    """Reset the spending of assistants to zero, as a person."""
