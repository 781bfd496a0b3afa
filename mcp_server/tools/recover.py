"""Tools for recovery: propose what would help, then do it. Plans go through `confirmation`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from mcp.server.elicitation import ElicitationResult
from mcp.server.mcpserver.resolve import Resolve
from pydantic import Field

from mcp_server import confirmation
from mcp_server.confirmation import Confirmation, Cost, DraftPlan, PlanChange, PlanOutcome, PlanToken, Reason, asking
from mcp_server.context import context, find_workflow
from mcp_server.formatting import Quoted, Reply, plain
from mcp_server.registry import tool
from mcp_server.tools import slurm
from mcp_server.tools.inspect import WorkflowId
from mcp_server.tools.run import begin, this_node
from torc.api.change_plans import Starts
from torc.api.data import ListRequirements, Requirement, UpdateRequirement
from torc.api.jobs import ActOnJobs, GetJob, ListJobs
from torc.api.pagination import items_of
from torc.api.recovery import Proposal, RecoverWorkflow, Recovery
from torc.api.workflows import Workflow
from torc.errors import Conflict, Invalid, NotFound
from torc.failures.categories import Category
from torc.runner import dead_runners, hardware
from torc.units import human_bytes, human_duration, parse_duration, parse_memory
from torc.workflow.states import State

Recover = Annotated[ElicitationResult[Confirmation], Resolve(asking("recover_workflow"))]
Resolution = Annotated[ElicitationResult[Confirmation], Resolve(asking("classify_and_resolve_failures"))]
Update = Annotated[ElicitationResult[Confirmation], Resolve(asking("update_job_resources"))]
MemoryFactor = Annotated[float, Field(ge=1.0, le=16.0, description="factor applied to what was requested or used")]
RuntimeFactor = Annotated[float, Field(ge=1.0, le=16.0, description="likewise, for time")]
RetryUnknown = Annotated[bool, Field(description="also retry jobs that failed for an unknown reason")]
OnlyGroups = Annotated[list[str] | None, Field(description="only groups with these keys, as listed in `changes`")]
RetryAlso = Annotated[
    list[Category] | None, Field(description="also retry jobs that failed in these categories, unchanged")
]


class UnrecoveredJobs(Reply):
    """Failed jobs that a retry does not help."""

    jobs: int
    category: str
    job_ids: list[int]
    why: str


class Proposed(Reply):
    """What would help, and which failures a retry does not help."""

    retried: int
    changes: list[PlanChange]
    left: list[UnrecoveredJobs]
    num_left: int
    node_hours: float = Field(description="expected cost of the retries")
    shown: Quoted | None = Field(None, description="everything that would run: show it to the user")
    cost: Cost | None = None
    plan_id: int | None = None
    plan_token: str | None = Field(None, description="for recover_workflow; absent if assistants are read-only")
    next: str


@tool("Propose a recovery", "adds", idempotent=False)
def propose_recovery(
    workflow_id: WorkflowId,
    memory_multiplier: MemoryFactor = 1.5,
    runtime_multiplier: RuntimeFactor = 1.4,
    retry_unknown: RetryUnknown = False,
    retry_categories: RetryAlso = None,
    only: OnlyGroups = None,
) -> Proposed:
    """Say what would help the failed jobs: more memory or time (old -> new, with the reason) or a plain retry; and which need a person,
    such as a missing file. Changes nothing. Show it to the user. Next: recover_workflow with the token."""
    workflow = find_workflow(workflow_id)
    request = RecoverWorkflow(
        workflow_id=workflow.id,
        memory_multiplier=memory_multiplier,
        runtime_multiplier=runtime_multiplier,
        retry_unknown=retry_unknown,
        retry=retry_categories or [],
        only=only or [],
    )
    found = _dry_run(workflow, request)
    left = [
        UnrecoveredJobs(
            jobs=item.num_jobs, category=item.category, job_ids=item.job_ids[:10], why=plain(item.reason, 240)
        )
        for item in found.left[:15]
    ]
    changes = [_change(proposal) for proposal in found.proposals]
    token, shown, cost, number = None, None, None, None
    following = "recover_workflow(workflow_id, plan_token, reason) does it, when the user agrees"
    if found.num_retried and context().policy.name != "read-only":
        outcome = confirmation.propose("recover_workflow", workflow.id, _made(workflow, found, request), _proposals)
        token, shown, cost = outcome.plan_token, outcome.shown, outcome.cost
        number, following = outcome.plan_id, outcome.next
    if not found.num_retried:
        following = "a retry helps none of them: see `left`, correct the cause, then reset_jobs"
    return Proposed(
        retried=found.num_retried,
        changes=changes,
        left=left,
        num_left=found.num_left,
        node_hours=round(found.cost_node_hours, 3),
        shown=shown,
        cost=cost,
        plan_id=number,
        plan_token=token,
        next=following,
    )


@tool("Recover a workflow", "runs", idempotent=False)
def recover_workflow(
    workflow_id: WorkflowId,
    agreed: Recover,
    plan_token: PlanToken = None,
    reason: Reason = None,
    memory_multiplier: MemoryFactor = 1.5,
    runtime_multiplier: RuntimeFactor = 1.4,
    retry_unknown: RetryUnknown = False,
) -> PlanOutcome:
    """Do what propose_recovery proposed: raise requests, reset the jobs and run them, here or, where it was submitted,
    on Slurm. Without plan_token it makes the plan itself. Next: wait_for_workflow."""
    workflow = find_workflow(workflow_id)
    if plan_token is None:
        request = RecoverWorkflow(
            workflow_id=workflow.id,
            memory_multiplier=memory_multiplier,
            runtime_multiplier=runtime_multiplier,
            retry_unknown=retry_unknown,
        )
        found = _dry_run(workflow, request)
        if not found.num_retried:
            why = "; ".join(f"{item.num_jobs} {item.category}: {plain(item.reason, 160)}" for item in found.left[:5])
            raise Conflict(
                f"a retry helps none of the failed jobs of workflow {workflow.id}: {why or 'no job has failed'}",
                hint="correct the cause, then reset_jobs",
            )
        return confirmation.propose("recover_workflow", workflow.id, _made(workflow, found, request), _proposals)
    applied = confirmation.apply(
        "recover_workflow", workflow.id, plan_token, reason, agreed, before=lambda: _give_up_dead(workflow)
    )
    done = Recovery.model_validate(applied.results[0])
    changes, _ = _proposals(applied.results)
    summary = f"{done.num_retried} jobs of workflow {workflow.id} will run again; {done.num_left} stay as they are"
    if not context().is_here:
        return confirmation.done(summary, "run_workflow or submit_workflow continues the workflow", changes)
    command = ["run", str(workflow.id), "--quiet"]
    outcome = confirmation.begun(workflow.id, plan_token, lambda: slurm.go_on(workflow) or begin(workflow, command))
    return outcome.model_copy(
        update={"summary": f"{summary}. {outcome.summary}", "changes": changes, "num_changes": len(changes)}
    )


def _give_up_dead(workflow: Workflow) -> dict[str, Any]:
    """End what dead runners of this machine left, now that the user has agreed: the plan counts it as lost."""
    here = context()
    if here.is_here:
        dead_runners.give_up_dead_runners(here.torc, workflow.id, hardware.identity(), here.output_dir)
    return {}


def _dry_run(workflow: Workflow, request: RecoverWorkflow) -> Recovery:
    """Return what would be done. The jobs of dead runners of this machine count as failed; nothing is changed."""
    here = context()
    if here.is_here:
        dead = dead_runners.dead_runners(here.torc, workflow.id, hardware.identity())
        request = request.model_copy(update={"lost_runners": [runner.id for runner in dead]})
    return here.torc.send(request.model_copy(update={"dry_run": True}))


def _made(workflow: Workflow, found: Recovery, request: RecoverWorkflow) -> DraftPlan:
    here = context()
    starts: Starts | None = None
    lost: list[int] = []
    if here.is_here:
        starts = "submit" if slurm.was_submitted(workflow.id) else "run"
        lost = [runner.id for runner in dead_runners.dead_runners(here.torc, workflow.id, hardware.identity())]
    return DraftPlan(
        summary=f"Recover workflow {workflow.id} ({plain(workflow.name, 80)}): run {found.num_retried} failed jobs again",
        operations=[confirmation.operation(request.model_copy(update={"lost_runners": lost}))],
        starts=starts,
        retries=1,
        node=this_node(),
    )


def _proposals(results: list[Any]) -> tuple[list[PlanChange], int]:
    changes = [_change(proposal) for proposal in Recovery.model_validate(results[0]).proposals]
    return changes, len(changes)


def _change(proposal: Proposal) -> PlanChange:
    old, new = [], []
    if proposal.memory_bytes != proposal.new_memory_bytes:
        old.append(f"memory {human_bytes(proposal.memory_bytes)}")
        new.append(f"memory {human_bytes(proposal.new_memory_bytes)}")
    if proposal.runtime_seconds != proposal.new_runtime_seconds:
        old.append(f"time {human_duration(proposal.runtime_seconds)}")
        new.append(f"time {human_duration(proposal.new_runtime_seconds)}")
    behind = f" and {proposal.num_behind} downstream" if proposal.num_behind else ""
    what = f"{plain(proposal.key, 120)}: {proposal.num_jobs} jobs{behind}, such as {proposal.job_ids[0]}"
    return PlanChange(
        what=what,
        old=", ".join(old) or "failed",
        new=", ".join(new) or "run again unchanged",
        why=plain(proposal.reason, 200),
    )


class JobDecision(Reply):
    """What to do with jobs that await a decision."""

    job_ids: list[int] = Field(min_length=1, max_length=1000)
    action: Literal["retry", "cancel"] = Field(
        description="retry: run again unchanged; cancel: cancel them and the jobs downstream"
    )
    why: str = Field("", max_length=200)


@tool("Decide about failed jobs", "runs", idempotent=False)
def classify_and_resolve_failures(
    workflow_id: WorkflowId,
    agreed: Resolution,
    decisions: Annotated[
        list[JobDecision] | None, Field(description="for jobs from list_pending_failed_jobs", max_length=50)
    ] = None,
    plan_token: PlanToken = None,
    reason: Reason = None,
) -> PlanOutcome:
    """Decide about jobs in pending_failed: retry what was transient, cancel what will fail again. Plan first, then with
    plan_token. For other failed jobs use recover_workflow or reset_jobs."""
    workflow = find_workflow(workflow_id)
    if plan_token is None:
        if not decisions:
            raise Invalid("decisions: is required for a plan", hint='decisions=[{"job_ids": [3], "action": "retry"}]')
        return confirmation.propose("classify_and_resolve_failures", workflow.id, _decided(workflow, decisions))
    applied = confirmation.apply("classify_and_resolve_failures", workflow.id, plan_token, reason, agreed)
    changes, _ = confirmation.of_jobs(applied.results)
    return confirmation.done(f"decided about jobs of workflow {workflow.id}", "run_workflow runs them", changes)


def _decided(workflow: Workflow, decisions: list[JobDecision]) -> DraftPlan:
    listed = ListJobs(workflow_id=workflow.id, state=State.PENDING_FAILED, limit=10_000)
    waiting = {job.id: job for job in items_of(context().torc, listed)}
    named = Counter(job_id for decision in decisions for job_id in decision.job_ids)
    if twice := [job_id for job_id, count in named.items() if count > 1]:
        raise Invalid(f"decisions: job {twice[0]} is listed more than once", hint="decide about each job once")
    changes = []
    retried: set[int] = set()
    for decision in decisions:
        for job_id in decision.job_ids:
            if job_id not in waiting:
                near = ", ".join(map(str, list(waiting)[:10])) or "none"
                raise NotFound(f"decisions: job {job_id} does not await a decision", hint=f"those that do: {near}")
            if decision.action == "retry":
                retried.add(job_id)
            changes.append(
                PlanChange(
                    what=f"job {job_id} ({plain(waiting[job_id].name, 60)})",
                    old="pending_failed",
                    new="run again" if decision.action == "retry" else "canceled",
                    why=plain(decision.why, 120) or None,
                )
            )
    return DraftPlan(
        summary=f"Retry {len(retried)} and cancel {len(changes) - len(retried)} failed jobs of workflow {workflow.id}",
        changes=changes,
        operations=[confirmation.operation(_decision(workflow.id, decision)) for decision in decisions],
        node=this_node(),
        retries=1 if retried else 0,
    )


def _decision(workflow_id: int, decision: JobDecision) -> ActOnJobs:
    action: Any = "reset" if decision.action == "retry" else "cancel"
    return ActOnJobs(workflow_id=workflow_id, job_ids=decision.job_ids, action=action, limit=10_000)


@tool("Change what jobs ask for", "changes", idempotent=True)
def update_job_resources(  # noqa: PLR0913, PLR0917 - fields of a class
    workflow_id: WorkflowId,
    agreed: Update,
    requirement: Annotated[str | None, Field(description="name of the class to change")] = None,
    job_id: Annotated[int | None, Field(description="or of a job in it")] = None,
    memory: Annotated[str | None, Field(description="such as 8g")] = None,
    runtime: Annotated[str | None, Field(description="such as 2h or PT2H")] = None,
    num_cpus: Annotated[int | None, Field(ge=1, le=100_000)] = None,
    num_gpus: Annotated[int | None, Field(ge=0, le=10_000)] = None,
    plan_token: PlanToken = None,
    reason: Reason = None,
) -> PlanOutcome:
    """Change what a requirement class requests, for all its jobs that have not started. Plan first (old -> new, number of jobs), then
    with plan_token. Next: run_workflow; for jobs that failed, recover_workflow does both."""
    workflow = find_workflow(workflow_id)
    if plan_token is None:
        found = _class_of(workflow, requirement, job_id)
        new = {
            "memory_bytes": _parsed("memory", memory, parse_memory),
            "runtime_seconds": _parsed("runtime", runtime, parse_duration),
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
        }
        wanted = {name: value for name, value in new.items() if value is not None and value != getattr(found, name)}
        if not wanted:
            raise Invalid(
                f"memory, runtime, num_cpus, num_gpus: class {found.name} already requests these values",
                hint="update_job_resources(workflow_id=1, requirement='large', memory='16g')",
            )
        return confirmation.propose("update_job_resources", workflow.id, _plan_of_class(found, wanted))
    confirmation.apply("update_job_resources", workflow.id, plan_token, reason, agreed)
    return confirmation.done(
        "the class is changed", "run_workflow runs what is due; reset_jobs lets failed jobs run again"
    )


def _parsed(name: str, text: str | None, parse: Any) -> int | None:
    try:
        return None if text is None else int(parse(text))
    except ValueError as error:
        raise Invalid(f"{name}: {error}", hint="memory='8g', runtime='2h'") from None


def _class_of(workflow: Workflow, requirement: str | None, job_id: int | None) -> Requirement:
    torc = context().torc
    if (requirement is None) == (job_id is None):
        raise Invalid("requirement: give either requirement or job_id", hint="get_job_details names the class of a job")
    if job_id is not None:
        requirement = torc.send(GetJob(job_id=job_id)).requirement_name
    known = torc.send(ListRequirements(workflow_id=workflow.id, limit=1000)).items
    found = next((item for item in known if item.name == requirement), None)
    if found is None:
        names = ", ".join(plain(item.name, 60) for item in known[:15])
        raise NotFound(f"requirement: workflow {workflow.id} has no class {requirement!r}", hint=f"classes are {names}")
    return found


def _plan_of_class(found: Requirement, wanted: dict[str, int]) -> DraftPlan:
    show = {"memory_bytes": human_bytes, "runtime_seconds": human_duration}
    changes = [
        PlanChange(
            what=f"{name.removesuffix('_bytes').removesuffix('_seconds')} of class {plain(found.name, 60)}",
            old=show.get(name, str)(getattr(found, name)),
            new=show.get(name, str)(value),
        )
        for name, value in wanted.items()
    ]
    return DraftPlan(
        summary=f"Change what class {plain(found.name, 60)} requests",
        changes=changes,
        operations=[confirmation.operation(UpdateRequirement(requirement_id=found.id, **wanted))],
        shows="nothing",
        node=this_node(),
    )
