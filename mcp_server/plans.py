"""Propose, then apply: how every tool that spends node-hours, stops or throws away work goes about it.

Without a token a tool says what would change, why, and what it costs, and gives a token; with the token it does that, once,
if the workflow is still as it was, the user agrees (where the client can ask), and the budget allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit
from pydantic import BaseModel, Field

from mcp_server.desk import desk, find_workflow, require_writes
from mcp_server.present import Reply, plain, when
from torc.api.interventions import Agreed, ApplyIntervention, FindIntervention, GetSpending, ProposeIntervention
from torc.api.workflows import Change as JobChange
from torc.errors import Forbidden, Invalid

PlanToken = Annotated[
    str | None,
    Field(description="of the plan to apply, as it was made; left out: make the plan"),
]
Reason = Annotated[str | None, Field(max_length=1000, description="why; needed with plan_token")]
_MOST_CHANGES = 25
_MOST_COMMANDS = 8


class Change(Reply):
    """One thing that would change, or did."""

    what: str
    old: str | None = None
    new: str | None = None
    why: str | None = None


class Cost(Reply):
    """What it counts as, and what is left of the workflow's budget before it."""

    node_hours: float
    retries: int
    node_hours_left: float
    retries_left: int


class Outcome(Reply):
    """A plan, or what was done."""

    applied: bool
    summary: str
    changes: list[Change]
    num_changes: int
    commands: list[str] | None = Field(None, description="what would run: show them to the user")
    cost: Cost | None = None
    plan_token: str | None = None
    expires: str | None = None
    log: str | None = None  # of the process that was begun
    next: str


class Confirmation(BaseModel):
    """What the user is asked."""

    go_ahead: bool = Field(description="Do it?")


class Made(BaseModel):
    """A plan before it is kept."""

    summary: str
    changes: list[Change]
    num_changes: int | None = None
    commands: list[str] | None = None
    do: dict[str, Any] = {}
    node_hours: float = 0.0
    retries: int = 0
    follows_progress: bool = False


def propose(action: str, workflow_id: int, made: Made) -> Outcome:
    """Keep a plan, and show it with its token. Raises Forbidden where the deployment is read-only."""
    policy = require_writes()
    here = desk()
    spent = here.torc.send(GetSpending(workflow_id=workflow_id))
    cost = Cost(
        node_hours=round(made.node_hours, 3), retries=made.retries, retries_left=max(0, policy.max_retries - spent.num_retries),
        node_hours_left=round(max(0.0, policy.max_node_hours - spent.node_hours), 3),
    )  # fmt: skip
    kept = here.torc.send(
        ProposeIntervention(
            workflow_id=workflow_id, action=action, arguments={"do": made.do, "summary": _asked(made, cost)},
            client=here.client, num_retries=made.retries, node_hours=cost.node_hours, follows_progress=made.follows_progress,
        )
    )  # fmt: skip
    asks = "" if policy.name == "auto-within-budget" else "Show this to the user; when they agree, "
    return Outcome(
        applied=False, summary=made.summary, changes=made.changes[:_MOST_CHANGES], commands=made.commands, cost=cost,
        num_changes=len(made.changes) if made.num_changes is None else made.num_changes,
        plan_token=kept.token, expires=when(kept.expires_at),
        next=f"{asks}call {action}(workflow_id={workflow_id}, plan_token=..., reason=...) to do it. Nothing was done yet.",
    )  # fmt: skip


def _asked(made: Made, cost: Cost) -> str:
    """Write what the user is asked: nothing in it comes from the model but what would be done."""
    lines = [made.summary]
    lines += [
        f"- {change.what}: {change.old or '-'} -> {change.new or '-'}" for change in made.changes[:_MOST_COMMANDS]
    ]
    lines += [f"$ {command}" for command in (made.commands or [])[:_MOST_COMMANDS]]
    lines.append(f"About {cost.node_hours:g} node-hours ({cost.node_hours_left:g} left in the budget).")
    return "\n".join(lines)


def asking(action: str) -> Callable[..., Any]:
    """Make what asks the user before a plan is applied, where the client can and the deployment wants it."""

    def ask(ctx: Context[Any, Any], workflow_id: int | str, plan_token: str | None) -> Agreed | Elicit[Confirmation]:
        if plan_token is None or desk().policy.name == "read-only":
            return "token"
        if desk().policy.name == "auto-within-budget":
            return "policy"
        capabilities = ctx.client_capabilities
        form = capabilities.elicitation if capabilities is not None else None
        if form is None or (form.form is None and form.url is not None):
            return "token"
        number = find_workflow(workflow_id).id
        plan = desk().torc.send(FindIntervention(workflow_id=number, token=plan_token, action=action))
        return Elicit(f"{desk().client} wants to change workflow {number}.\n{plan.arguments['summary']}", Confirmation)

    return ask


def apply(
    action: str, workflow_id: int, token: str, reason: str | None, agreed: ElicitationResult[Confirmation]
) -> dict[str, Any]:
    """Take a plan as applied and give what it wants done. Raises Forbidden, Conflict or Invalid."""
    policy = require_writes()
    if not reason or not reason.strip():
        raise Invalid(
            "reason: is needed with plan_token: it goes into the record of the workflow",
            hint="reason='the user agreed to retry the jobs that ran out of memory'",
        )
    here = desk()
    done = here.torc.send(
        ApplyIntervention(
            workflow_id=workflow_id, token=token, action=action, client=here.client, reason=plain(reason, 1000),
            agreed=_agreement(agreed), max_retries=policy.max_retries, max_node_hours=float(policy.max_node_hours),
        )
    )  # fmt: skip
    wanted: dict[str, Any] = done.arguments["do"]
    return wanted


def _agreement(outcome: ElicitationResult[Confirmation]) -> Agreed:
    if not isinstance(outcome, AcceptedElicitation):
        raise Forbidden("the user did not agree: nothing was done", hint="ask the user what they want instead")
    told: Any = outcome.data
    if isinstance(told, Confirmation):
        if not told.go_ahead:
            raise Forbidden("the user said no: nothing was done", hint="ask the user what they want instead")
        return "user"
    agreed: Agreed = told
    return agreed


def done(summary: str, following: str, changes: Sequence[Change] = (), log: str | None = None) -> Outcome:
    """Show what was done."""
    return Outcome(
        applied=True,
        summary=summary,
        changes=list(changes)[:_MOST_CHANGES],
        num_changes=len(changes),
        log=log,
        next=following,
    )


def of_jobs(changes: Sequence[JobChange]) -> list[Change]:
    """Show what happens to jobs."""
    return [
        Change(
            what=f"job {change.job_id} ({plain(change.job_name, 60)})", old=change.state.value,
            new=change.new_state.value if change.new_state else "removed", why=plain(change.reason, 120),
        )
        for change in changes[:_MOST_CHANGES]
    ]  # fmt: skip
