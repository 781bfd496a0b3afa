"""`torc approve` and `torc plans`: what assistants want to do, all of it, and a person's yes or no."""

from __future__ import annotations

import hashlib
import sys
from typing import Annotated, Any

import typer

from torc.api import change_plans as api
from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.connection import torc
from torc.cli.session import SESSION
from torc.cli.terminal import confirmed
from torc.errors import Forbidden, NotFound

plans = App("Review the plans of assistants, and what they have spent.")
Plan = Annotated[str, typer.Argument(metavar="PLAN", help="Number or token (plan_...) of the plan.")]
_COLUMNS = [
    *rendering.columns("id", "workflow_id", "action", "client"),
    ("node hours", lambda plan: f"{plan.node_hours:.4g}"),
    ("proposed", lambda plan: rendering.when(plan.proposed_at)),
    ("expires", lambda plan: rendering.when(plan.expires_at)),
    ("approved by", rendering.attribute("approved_by")),
]
_SPENDING = [
    ("node hours", lambda spent: f"{spent.node_hours:.4g}"),
    ("reserved", lambda spent: f"{spent.node_hours_reserved:.4g}"),
    ("at most", lambda spent: "" if spent.max_node_hours is None else f"{spent.max_node_hours:.4g}"),
    ("retries", rendering.attribute("num_retries")),
]


def approve(
    plan: Annotated[
        str | None, typer.Argument(metavar="[PLAN]", help="Number or token (plan_...) of the plan.")
    ] = None,
) -> None:
    """Approve a plan of an assistant, after showing all of it; without a plan, list the open plans.

    Needs a terminal, because a person must decide.

    Example: torc approve 3
    """
    if plan is None:
        list_plans()
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Forbidden(
            "plans are approved at a terminal, by a person who has read them", hint=f"run `torc approve {plan}` there"
        )
    with torc(create=False) as opened:
        found = _found(opened, plan)
        _print(found)
        if not confirmed(f"approve plan {found.id} for workflow {found.workflow_id}?"):
            rendering.note(f"nothing was approved; to decline the plan: torc plans decline {found.id}")
            raise typer.Exit(1)
        opened.send(_about(api.ApproveIntervention, found, digest=found.digest))
    rendering.note(f"plan {found.id} is approved: the assistant can go on with it")


@plans.command("list")
def list_plans(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 100,
) -> None:
    """List the plans that wait for approval or can still be applied.

    Example: torc plans list
    """
    with torc(create=False) as opened:
        found = opened.send(api.ListOpenInterventions(limit=limit))
    rendering.show_list(found, _COLUMNS, empty="no plans are open")


@plans.command("show")
def show_plan(plan: Plan) -> None:
    """Show everything that a plan would do and run.

    Example: torc plans show 3
    """
    with torc(create=False) as opened:
        found = _found(opened, plan)
    rendering.show_json(found) if SESSION.json else _print(found)


@plans.command("decline")
def decline_plan(
    plan: Plan,
    reason: Annotated[str, typer.Option("--reason", help="The reason to record in the log.")] = "declined by a person",
) -> None:
    """Decline a plan, so that it can no longer be applied.

    Example: torc plans decline 3
    """
    with torc(create=False) as opened:
        found = _found(opened, plan)
        opened.send(_about(api.DeclineIntervention, found, reason=reason))
    rendering.note(f"plan {found.id} is declined")


@plans.command("budget")
def budget(
    reset: Annotated[bool, typer.Option("--reset", help="Reset the budget, so that nothing counts as spent.")] = False,
) -> None:
    """Show what assistants have spent in this store, over all workflows.

    The configuration sets how much they may spend (mcp.max_node_hours).

    Example: torc plans budget
    """
    with torc(create=False) as opened:
        spent = opened.send(api.StartSpendingAnew() if reset else api.GetSpending())
    rendering.show_one(spent, _SPENDING)


def _found(opened: Torc, named: str) -> Any:
    """Find a plan by number or token, with all of its document. Raises NotFound."""
    if named.isdecimal() and named.isascii():
        asked = api.FindInterventions(intervention_id=int(named))
    else:
        asked = api.FindInterventions(token_sha256=hashlib.sha256(named.encode("utf-8", "replace")).hexdigest())
    found = opened.send(asked)
    if not found:
        raise NotFound(f"there is no plan {named}", hint="`torc plans list` shows those that are open")
    return opened.send(_about(api.GetIntervention, found[0]))


def _about(kind: Any, plan: Any, **fields: Any) -> Any:
    return kind(workflow_id=plan.workflow_id, intervention_id=plan.id, **fields)


def _print(plan: Any) -> None:
    print(f"Plan {plan.id} of {plan.client} for workflow {plan.workflow_id}: {plan.action}")
    print(plan.document, end="")
    print(f"code: {plan.code}")
