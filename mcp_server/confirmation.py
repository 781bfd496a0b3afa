"""Propose, then apply: the procedure of every tool that spends node-hours, or stops or discards work.

Without a token, a tool returns what would change and run and what it costs, with a token. Called with the token, it does that, once,
if the outcome is what was shown, the user agrees (where the client can ask), and the budget allows it. Plans and all checks are in
`torc.operations.change_plans`; this module words them and asks the user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit
from pydantic import BaseModel, Field

from mcp_server.context import AssistantPolicy, context, find_workflow, require_writes
from mcp_server.formatting import Quoted, Reply, between, plain, present_mark, what_fits, when
from mcp_server.registry import tool
from torc.api.base import Request
from torc.api.change_plans import (
    Agreed,
    ApplyIntervention,
    AskIntervention,
    DeclineIntervention,
    GetSpending,
    Intervention,
    Operation,
    ProposeIntervention,
    ReadIntervention,
    ReleaseIntervention,
    Shows,
    SpecAsWritten,
    Starts,
)
from torc.api.provenance import GetProvenance
from torc.api.runs import NodeCapacity
from torc.errors import Conflict, Forbidden, Invalid, TorcError
from torc.redaction import redact
from torc.workflow.executable_content import without_secrets

PlanToken = Annotated[
    str | None,
    Field(description="token of the plan to apply; default: make a plan"),
]
Reason = Annotated[str | None, Field(max_length=1000, description="required with plan_token")]
_MOST_CHANGES = 25
_MOST_OF_CHANGES = 4_000
_MOST_CHARACTERS = 5_000


class PlanChange(Reply):
    """One thing that would change, or did change."""

    what: str
    old: str | None = None
    new: str | None = None
    why: str | None = None


class Cost(Reply):
    """The cost, and what is left of the budget before it."""

    node_hours: float
    retries: int
    node_hours_left: float
    retries_left: int


class PlanOutcome(Reply):
    """A plan, or its result."""

    applied: bool
    summary: str
    changes: list[PlanChange]
    num_changes: int
    shown: Quoted | None = Field(None, description="the changes and everything that would run: show this to the user")
    cost: Cost | None = None
    plan_id: int | None = None
    plan_token: str | None = None
    expires: str | None = None
    log: str | None = None  # of the process that was started
    next: str


class Confirmation(BaseModel):
    """The question to the user."""

    go_ahead: bool = Field(description="Do it?")


class CodedConfirmation(Confirmation):
    """The question to the user about a plan that is too long to be included."""

    code: str = Field(
        description="the code at the end of the output of `torc plans show`, which proves that the whole plan was read"
    )


class DraftPlan(BaseModel):
    """A plan before it is stored."""

    summary: str
    operations: list[Operation] = []
    starts: Starts | None = None
    shows: Shows = "due"
    changes: list[PlanChange] = []
    do: dict[str, Any] = {}
    node_hours: float | None = None
    node: NodeCapacity | None = None
    retries: int = 0


#: formats the replies to a plan's requests: changes, and their number
ShowResults = Callable[[list[Any]], tuple[list[PlanChange], int]]


def operation(request: Request[Any]) -> Operation:
    """Make a request part of a plan."""
    fields = request.model_dump(mode="json", exclude={"workflow_id", "dry_run"}, exclude_unset=True)
    return Operation.model_validate({"kind": type(request).__name__, "fields": fields})


def propose(action: str, workflow_id: int, made: DraftPlan, show: ShowResults | None = None) -> PlanOutcome:
    """Store a plan and return what to show, with its token. Raises Forbidden if the deployment is read-only."""
    return proposed(action, workflow_id, made, show)[0]


def proposed(
    action: str, workflow_id: int, made: DraftPlan, show: ShowResults | None = None
) -> tuple[PlanOutcome, Intervention]:
    """Store a plan and return it together with what to show. Raises Forbidden if the deployment is read-only."""
    policy = require_writes()
    here = context()
    words = [_in_words(change) for change in made.changes]
    kept = here.torc.send(
        ProposeIntervention(
            workflow_id=workflow_id,
            action=action,
            operations=made.operations,
            starts=made.starts,
            shows=made.shows,
            summary=made.summary,
            changes=words,
            arguments=made.do,
            spec=_as_written(workflow_id),
            client=here.client,
            num_retries=made.retries,
            node_hours=made.node_hours,
            node=made.node,
            most_characters=_MOST_CHARACTERS,
        )
    )
    changes, count = (made.changes, len(made.changes)) if show is None else show(kept.results)
    outcome = PlanOutcome(
        applied=False,
        summary=made.summary,
        changes=what_fits(changes[:_MOST_CHANGES], _MOST_OF_CHANGES),
        num_changes=count,
        shown=whole(kept.document or "", f"plan {kept.id}"),
        cost=_cost(kept, policy),
        plan_id=kept.id,
        plan_token=kept.token,
        expires=when(kept.expires_at),
        next=_next(action, workflow_id, kept, policy),
    )
    return outcome, kept


def _in_words(change: PlanChange) -> str:
    why = f" ({change.why})" if change.why else ""
    return f"{change.what}: {change.old or '-'} -> {change.new or '-'}{why}"


def _cost(kept: Intervention, policy: AssistantPolicy) -> Cost:
    spent = context().torc.send(GetSpending())
    left = policy.max_node_hours - spent.node_hours - spent.node_hours_reserved
    return Cost(
        node_hours=round(kept.node_hours, 3),
        retries=kept.num_retries,
        node_hours_left=round(max(0.0, left), 3),
        retries_left=max(0, policy.max_retries - spent.num_retries),
    )


def _next(action: str, workflow_id: int, kept: Intervention, policy: AssistantPolicy) -> str:
    if kept.token is None:
        return (
            f"This is incomplete. read_plan(workflow_id={workflow_id}, plan_id={kept.id}, page=1) and so on shows the "
            f"{kept.num_pages} pages; the last page includes the plan_token. Nothing has been done yet."
        )
    asks = {
        "auto-within-budget": "",
        "approve": "Show this to the user, who agrees in the client or in a terminal "
        f"(`torc approve {kept.id}`); then ",
    }.get(policy.name, "Show this to the user; when they agree, ")
    return f"{asks}call {action}(workflow_id={workflow_id}, plan_token=..., reason=...) to do it. Nothing has been done yet."


def whole(text: str, source: str) -> Quoted:
    """Mark what a plan shows as data. Nothing is truncated, and nothing that could be code is redacted as a secret."""
    mark, shown = present_mark(), without_secrets(text, redact)
    cut = (
        None
        if shown == text
        else "values that look like secrets: people see them in the question and with `torc plans show`"
    )
    return Quoted(source=source, untrusted=mark, text=between(shown, mark), cut=cut)


def _as_written(workflow_id: int) -> SpecAsWritten | None:
    """Return the spec from which a workflow was created, as far as it is stored."""
    spec = context().torc.send(GetProvenance(workflow_id=workflow_id, limit=1)).spec
    if spec is None or spec.text is None:
        return None
    return SpecAsWritten.model_validate({"text": spec.text, "format": spec.format, "name": spec.name})


class PlanPage(Reply):
    """A page of a plan."""

    shown: Quoted
    num_pages: int
    plan_token: str | None = None
    next: str


@tool("Read a plan", "adds", idempotent=True)
def read_plan(workflow_id: int, plan_id: int, page: Annotated[int, Field(ge=1)] = 1) -> PlanPage:
    """Read a plan that is too long for one reply, page by page and in order. The last page includes its plan_token."""
    require_writes()
    found = context().torc.send(ReadIntervention(workflow_id=workflow_id, intervention_id=plan_id, page=page))
    following = f"call {found.action} with plan_token and reason, when the user agrees"
    if found.token is None:
        following = f"read_plan(workflow_id={workflow_id}, plan_id={plan_id}, page={page + 1})"
    return PlanPage(
        shown=whole(found.document or "", f"plan {plan_id}, page {page} of {found.num_pages}"),
        num_pages=found.num_pages,
        plan_token=found.token,
        next=following,
    )


def asking(action: str) -> Callable[..., Any]:
    """Return the resolver that asks the user before a plan is applied, if the client can and the policy requires it."""

    def ask(
        ctx: Context[Any, Any], workflow_id: int | str, plan_token: str | None, reason: str | None
    ) -> Agreed | Elicit[Confirmation]:
        if plan_token is None or context().policy.name == "read-only":
            return "token"
        _check_reason(reason)
        if context().policy.name == "auto-within-budget":
            return "policy"
        capabilities = ctx.client_capabilities
        form = capabilities.elicitation if capabilities is not None else None
        if form is None or (form.form is None and form.url is not None):
            return "token"
        plan = _asked(action, workflow_id, plan_token, again=bool(ctx.input_responses))
        question = f"{context().client} wants to change workflow {plan.workflow_id}.\n{plan.document}"
        return Elicit(question, Confirmation if plan.is_whole else CodedConfirmation)

    return ask


def _asked(action: str, workflow_id: int | str, token: str, *, again: bool) -> Intervention:
    policy = context().policy
    return context().torc.send(
        AskIntervention(
            workflow_id=find_workflow(workflow_id).id,
            token=token,
            action=action,
            again=again,
            max_retries=policy.max_retries,
            max_node_hours=float(policy.max_node_hours),
            most_characters=_MOST_CHARACTERS,
        )
    )


def _check_reason(reason: str | None) -> None:
    if not reason or not reason.strip():
        raise Invalid(
            "reason: is required with plan_token: it is recorded with the workflow",
            hint="reason='the user agreed to retry the jobs that ran out of memory'",
        )


def apply(
    action: str,
    workflow_id: int,
    token: str,
    reason: str | None,
    agreed: ElicitationResult[Confirmation],
    *,
    before: Callable[[], Mapping[str, Any]] | None = None,
) -> Intervention:
    """Apply a plan and return it with the replies to its requests. Raises Forbidden, Conflict or Invalid.

    `before` is called after the user has agreed to a valid plan, and returns what else the plan needs (`files`, `spec`).
    """
    policy = require_writes()
    _check_reason(reason)
    here = context()
    by = _agreement(action, workflow_id, token, agreed)
    more: Mapping[str, Any] = {}
    if before is not None:  # it may end processes, so not for an invalid or insufficient token
        here.torc.send(
            AskIntervention(
                workflow_id=workflow_id,
                token=token,
                action=action,
                again=True,
                agreed=by,
                must_be_approved=policy.name == "approve",
                max_retries=policy.max_retries,
                max_node_hours=float(policy.max_node_hours),
            )
        )
        more = before()
    return here.torc.send(
        ApplyIntervention(
            workflow_id=workflow_id,
            token=token,
            action=action,
            client=here.client,
            reason=plain(reason, 1000),
            agreed=by,
            must_be_approved=policy.name == "approve",
            max_retries=policy.max_retries,
            max_node_hours=float(policy.max_node_hours),
            **more,
        )
    )


def stored(workflow_id: int, token: str, action: str) -> Intervention:
    """Return a plan that is about to be applied."""
    return context().torc.send(AskIntervention(workflow_id=workflow_id, token=token, action=action, again=True))


def _agreement(action: str, workflow_id: int, token: str, outcome: ElicitationResult[Confirmation]) -> Agreed:
    """Return who agreed. Any answer but yes ends the plan. Raises Forbidden."""
    if not isinstance(outcome, AcceptedElicitation):
        raise _declined(workflow_id, token, "did not agree")
    told: Any = outcome.data
    if not isinstance(told, Confirmation):
        agreed: Agreed = told
        return agreed
    if not told.go_ahead:
        raise _declined(workflow_id, token, "said no")
    if isinstance(told, CodedConfirmation):
        code = _asked(action, workflow_id, token, again=True).code
        if told.code.strip() != code:
            raise _declined(workflow_id, token, "did not give the code at the end of the plan")
    return "user"


def _declined(workflow_id: int, token: str, what: str) -> Forbidden:
    context().torc.send(DeclineIntervention(workflow_id=workflow_id, token=token, reason=f"the user {what}"))
    return Forbidden(
        f"the user {what}: nothing was done, and this plan is closed",
        hint="ask the user what they want instead",
    )


def begun(workflow_id: int, token: str, begin: Callable[[], tuple[PlanOutcome, bool]]) -> PlanOutcome:
    """Start what an applied plan starts. If it does not start, nothing is charged; a plan that did nothing else can be applied again.

    Raises Conflict with its output, or what `begin` raises.
    """
    try:
        outcome, has_ended = begin()
    except TorcError:
        _release(workflow_id, token)
        raise
    released = _release(workflow_id, token) if has_ended else None
    if released is None:
        return outcome
    said = f"nothing has started, and nothing is charged: {outcome.summary}"
    if released.applied_at is not None:
        return outcome.model_copy(update={"summary": said, "next": "correct the problem, then call run_workflow"})
    raise Conflict(said, hint="correct the problem, then call again with the same plan_token")


def _release(workflow_id: int, token: str) -> Intervention | None:
    try:
        return context().torc.send(ReleaseIntervention(workflow_id=workflow_id, token=token))
    except Conflict:
        return None


def done(summary: str, following: str, changes: Sequence[PlanChange] = (), log: str | None = None) -> PlanOutcome:
    """Describe what was done."""
    return PlanOutcome(
        applied=True,
        summary=summary,
        changes=what_fits(list(changes)[:_MOST_CHANGES]),
        num_changes=len(changes),
        log=log,
        next=following,
    )


def of_jobs(results: Sequence[Mapping[str, Any]]) -> tuple[list[PlanChange], int]:
    """Describe what requests did to jobs, and to how many."""
    changes = [
        PlanChange(
            what=f"job {change['job_id']} ({plain(change['job_name'], 60)})",
            old=change["state"],
            new=change["new_state"] or "removed",
            why=plain(change["reason"], 120),
        )
        for result in results
        for change in result.get("changes", ())[:_MOST_CHANGES]
    ]
    return changes, sum(result.get("total", 0) for result in results)
