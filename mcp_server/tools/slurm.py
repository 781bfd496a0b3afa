"""Tools for Slurm: plan allocations, submit them, and show their status."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from typing import Annotated

from mcp.server.elicitation import ElicitationResult
from mcp.server.mcpserver.resolve import Resolve
from pydantic import Field

from mcp_server import confirmation
from mcp_server.confirmation import Confirmation, DraftPlan, PlanChange, PlanOutcome, PlanToken, Reason, asking
from mcp_server.context import context, find_workflow, require_here, require_writes
from mcp_server.formatting import Reply, all_plain, page_that_fits, plain, when, without_nothing
from mcp_server.registry import tool
from mcp_server.tools.inspect import Cursor, Limit, WorkflowId
from mcp_server.tools.run import begin
from torc.api.allocations import Allocation, ListAllocations
from torc.api.workflows import Workflow
from torc.errors import Conflict, Invalid
from torc.schedulers.allocation_planning import AllocationPlanOptions, PlannedAllocation, plan
from torc.schedulers.partition_choice import PartitionWishes
from torc.schedulers.registry import scheduler, type_of_workflow
from torc.schedulers.slurm import profiles
from torc.schedulers.workflow_plans import left_of, names_taken
from torc.units import human_duration
from torc.workflow.executable_content import visible

Submit = Annotated[ElicitationResult[Confirmation], Resolve(asking("submit_workflow"))]


@tool("Submit to Slurm", "runs", idempotent=False)
def submit_workflow(  # noqa: PLR0913, PLR0917 - options of a command
    workflow_id: WorkflowId,
    agreed: Submit,
    account: Annotated[str | None, Field(description="Slurm account to charge")] = None,
    partition: Annotated[str | None, Field(description="default: the smallest that fits")] = None,
    profile: Annotated[str | None, Field(description="default: the cluster here")] = None,
    max_nodes: Annotated[int | None, Field(ge=1, description="maximum number of nodes at once")] = None,
    start_server: Annotated[bool, Field(description="if the nodes cannot reach a server")] = False,
    plan_token: PlanToken = None,
    reason: Reason = None,
) -> PlanOutcome:
    """Plan Slurm allocations for the remaining jobs of a workflow and submit them; a process here follows them to the end. First call:
    the plan with node-hours; second call with plan_token: submit. Next: get_slurm_sacct, wait_for_workflow."""
    require_here("submitting to Slurm")
    require_writes()
    workflow = find_workflow(workflow_id)
    if plan_token is None:
        wishes = PartitionWishes(partitions=(partition,) if partition else (), account=account)
        options = [
            *(["--account", account] if account else []),
            *(["--partition", partition] if partition else []),
            *(["--profile", profile] if profile else []),
            *(["--max-nodes", str(max_nodes)] if max_nodes else []),
            *(["--start-server"] if start_server else []),
        ]
        made = _planned(workflow, AllocationPlanOptions(wishes=wishes, max_nodes=max_nodes), profile, options)
        return confirmation.propose("submit_workflow", workflow.id, made)
    applied = confirmation.apply("submit_workflow", workflow.id, plan_token, reason, agreed)
    return confirmation.begun(workflow.id, plan_token, lambda: _submit(workflow, applied.arguments["options"]))


def was_submitted(workflow_id: int) -> bool:
    """Return whether allocations were ever requested for a workflow."""
    return bool(context().torc.send(ListAllocations(workflow_id=workflow_id, limit=1)).items)


def go_on(workflow: Workflow) -> tuple[PlanOutcome, bool] | None:
    """Submit the remaining jobs of a workflow with its previous options; None if it was never submitted."""
    found = context().torc.send(ListAllocations(workflow_id=workflow.id, limit=1)).items
    if not found:
        return None
    account = ["--account", found[0].account] if found[0].account else []
    return _submit(workflow, ["--anyway", *account])  # the previous follower may have left before the allocations ended


def _submit(workflow: Workflow, options: list[str]) -> tuple[PlanOutcome, bool]:
    before = _num_allocations(workflow.id)
    return begin(
        workflow,
        ["submit", str(workflow.id), "--no-estimate", *options],
        at_work=lambda: _num_allocations(workflow.id) > before,
    )


def _num_allocations(workflow_id: int) -> int:
    return len(context().torc.send(ListAllocations(workflow_id=workflow_id, limit=10_000)).items)


def _planned(
    workflow: Workflow, options: AllocationPlanOptions, profile: str | None, arguments: list[str]
) -> DraftPlan:
    """Plan allocations. Raises Invalid for jobs that fit nowhere on the cluster."""
    torc = context().torc
    asked = scheduler(type_of_workflow(torc, workflow.id))
    found = asked.plan_for(dict(os.environ), profile)
    left = left_of(torc, workflow.id)
    if not left.demand.num_jobs:
        raise Conflict(f"no job of workflow {workflow.id} is left to run", hint="reset_jobs makes jobs run again")
    made = plan(left.demand, found.cluster, options, taken=names_taken(torc, workflow.id))
    if made.refused:
        first = made.refused[0]
        raise Invalid(plain(first.message, 600), hint=plain(first.hint, 400))
    said = f", with {visible(shlex.join(arguments))}" if arguments else ""
    own = f" The spec has {asked.type.noun}s of its own, which are used instead." if left.num_schedule_nodes else ""
    return DraftPlan(
        summary=f"Submit workflow {workflow.id} ({plain(workflow.name, 80)}) to {plain(found.cluster.display_name, 60)} "
        f"({plain(found.source, 80)}): {left.demand.num_jobs} jobs{said}.{own}",
        changes=[_change(item) for item in made.allocations],
        starts="submit",
        do={"options": arguments},
        node_hours=made.node_hours,
    )


def _change(item: PlannedAllocation) -> PlanChange:
    later = f", once stage {item.stage} is ready" if item.stage else ""
    return PlanChange(
        what=f"{item.num_allocations} allocations {plain(item.name, 60)} for {item.num_jobs} jobs{later}",
        new=f"{item.num_nodes} nodes of {plain(item.partition, 60)} each, for {human_duration(item.walltime_seconds)}",
        why=plain("; ".join(item.reasons), 200) or None,
    )


class AllocationLine(Reply):
    """An allocation and its status in the cluster."""

    slurm_job_id: str | None = None
    name: str
    state: str
    slurm_state: str | None = None
    reason: str | None = None
    nodes: int
    partition: str | None = None
    walltime: str
    submitted: str | None = None
    expected_start: str | None = None
    started: str | None = None
    ended: str | None = None
    exit_code: str | None = None
    node_hours: float
    node_hours_idle: float | None = None


class Allocations(Reply):
    """Allocations, newest first."""

    allocations: list[AllocationLine]
    cursor: str | None = None
    next: str


@tool("Slurm accounting")
def get_slurm_sacct(
    workflow_id: WorkflowId,
    active_only: Annotated[bool, Field(description="only queued or running ones")] = False,
    limit: Limit = 30,
    cursor: Cursor = None,
) -> Allocations:
    """Show the Slurm allocations of a workflow as last reported by squeue and sacct: states, reasons, nodes, times, exit codes,
    node-hours used and idle. They are kept up to date while the workflow is followed."""
    number = find_workflow(workflow_id).id
    shown, following = page_that_fits(
        lambda most: context().torc.send(
            ListAllocations(workflow_id=number, active_only=active_only, limit=most, cursor=cursor)
        ),
        _line,
        limit,
    )
    return Allocations(
        allocations=shown, cursor=following, next="diagnose_workflow says which failures came from the cluster"
    )


def _line(item: Allocation) -> AllocationLine:
    return AllocationLine(
        slurm_job_id=plain(item.cluster_job_id, 40) or None,
        name=plain(item.name, 80),
        state=item.state.value,
        slurm_state=plain(item.cluster_state, 60) or None,
        reason=plain(item.reason, 200) or None,
        nodes=item.num_nodes,
        partition=plain(item.partition, 60) or None,
        walltime=human_duration(item.walltime_seconds),
        submitted=when(item.submitted_at),
        started=when(item.started_at),
        expected_start=when(item.expected_start_at),
        ended=when(item.ended_at),
        exit_code=plain(item.exit_code, 20) or None,
        node_hours=round(item.node_seconds_used / 3600, 3),
        node_hours_idle=None if item.node_seconds_wasted is None else round(item.node_seconds_wasted / 3600, 3),
    )


def profile(name: str) -> dict[str, object]:
    """Describe a cluster by its profile. Raises NotFound, with the existing profiles."""
    found = asdict(profiles.find(name, dict(os.environ)).cluster)
    shown: dict[str, object] = without_nothing(all_plain(found))
    return shown


def profile_names() -> list[str]:
    """Return the names of the profiles."""
    return list(profiles.profiles(dict(os.environ)))
