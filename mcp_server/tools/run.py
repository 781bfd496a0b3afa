"""Tools that run workflows: start, wait, stop, reset. What spends or stops goes through a plan (`confirmation`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
from mcp.server.elicitation import ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Resolve
from pydantic import Field

from mcp_server import confirmation, spec_input
from mcp_server.confirmation import Confirmation, DraftPlan, PlanChange, PlanOutcome, PlanToken, Reason, asking
from mcp_server.context import context, find_workflow, require_here, require_idle
from mcp_server.formatting import Reply, plain
from mcp_server.registry import tool
from mcp_server.spec_input import Spec, SpecPath
from mcp_server.tools.inspect import AttemptEntry, StatusReport, WorkflowId, attempt_line, status_of
from torc.api.allocations import ListAllocations
from torc.api.base import Request
from torc.api.change_plans import DeclineIntervention, Intervention, SpecAsWritten
from torc.api.events import ListEvents
from torc.api.jobs import ActOnJobs, GetJob
from torc.api.runs import NodeCapacity, SummarizeRun
from torc.api.workflows import (
    CancelWorkflow,
    GetWorkflow,
    ReinitializeWorkflow,
    ResetWorkflow,
    Workflow,
)
from torc.errors import Conflict, Invalid
from torc.runner import background_start, file_status
from torc.runner.budget_messages import held_back
from torc.runner.hardware import node
from torc.units import human_duration, parse_duration, parse_memory
from torc.workflow.states import ENDED_BADLY, FINISHED, State

Run = Annotated[ElicitationResult[Confirmation], Resolve(asking("run_workflow"))]
Worker = Annotated[ElicitationResult[Confirmation], Resolve(asking("spawn_worker"))]
Cancel = Annotated[ElicitationResult[Confirmation], Resolve(asking("cancel_workflow"))]
Reset = Annotated[ElicitationResult[Confirmation], Resolve(asking("reset_jobs"))]
Reinitialize = Annotated[ElicitationResult[Confirmation], Resolve(asking("reinitialize_workflow"))]
MaxJobs = Annotated[int | None, Field(ge=1, description="maximum running at once, whatever they request")]
NumCpus = Annotated[int | None, Field(ge=1, description="default: all here")]
Memory = Annotated[str | None, Field(description="such as 8g")]
TimeLimit = Annotated[str | None, Field(description="such as 30m")]
_STEP_SECONDS = 2.0
_MOST_LISTED = 10_000


def _options(max_jobs: int | None, num_cpus: int | None, memory: str | None, time_limit: str | None) -> list[str]:
    """Return the options for `torc run` and `torc worker`. Raises Invalid."""
    for name, value, parse in (("memory", memory, parse_memory), ("time_limit", time_limit, parse_duration)):
        if value is not None:
            try:
                parse(value)
            except ValueError as error:
                raise Invalid(f"{name}: {error}", hint="memory='8g', time_limit='2h'") from None
    given = (
        ("--max-parallel-jobs", max_jobs),
        ("--num-cpus", num_cpus),
        ("--memory", memory),
        ("--time-limit", time_limit),
    )
    return [word for option, value in given if value is not None for word in (option, str(value))]


@tool("Run a workflow here", "runs", idempotent=False)
def run_workflow(  # noqa: PLR0913, PLR0917 - options of a command
    workflow_id: WorkflowId,
    agreed: Run,
    max_parallel_jobs: MaxJobs = None,
    num_cpus: NumCpus = None,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    fail_fast: Annotated[bool, Field(description="stop at the first failed job")] = False,
    plan_token: PlanToken = None,
    reason: Reason = None,
) -> PlanOutcome:
    """Run a stored workflow on this machine, in the background: it continues when you disconnect. First call: the plan, with
    commands and node-hours; second call with plan_token: run. Next: wait_for_workflow. For Slurm use submit_workflow."""
    require_here("running jobs")
    workflow = find_workflow(workflow_id)
    if plan_token is None:
        require_idle(workflow, "run again")
        options = [*_options(max_parallel_jobs, num_cpus, memory, time_limit), *(["--fail-fast"] if fail_fast else [])]
        return confirmation.propose(
            "run_workflow", workflow.id, _plan_to_run(workflow, options, f"Run workflow {workflow.id}")
        )
    plan = confirmation.apply("run_workflow", workflow.id, plan_token, reason, agreed)
    command = ["run", str(workflow.id), "--quiet", *plan.arguments["options"]]
    return confirmation.begun(workflow.id, plan_token, lambda: begin(workflow, command))


@tool("Add a runner", "runs", idempotent=False)
def spawn_worker(  # noqa: PLR0913, PLR0917
    workflow_id: WorkflowId,
    agreed: Worker,
    max_parallel_jobs: MaxJobs = None,
    num_cpus: NumCpus = None,
    memory: Memory = None,
    time_limit: TimeLimit = None,
    plan_token: PlanToken = None,
    reason: Reason = None,
) -> PlanOutcome:
    """Start another runner on this machine for a workflow, in addition to those working on it, in the background. Plan first, as with
    run_workflow. Only useful if CPUs are idle."""
    require_here("running jobs")
    workflow = find_workflow(workflow_id)
    if plan_token is None:
        options = _options(max_parallel_jobs, num_cpus, memory, time_limit)
        made = _plan_to_run(workflow, options, f"Start another runner for workflow {workflow.id}")
        # all of its jobs are shown, so that the plan stays valid while they start and end
        return confirmation.propose(
            "spawn_worker", workflow.id, made.model_copy(update={"shows": "all", "starts": "worker", "changes": []})
        )
    plan = confirmation.apply("spawn_worker", workflow.id, plan_token, reason, agreed)
    command = ["worker", str(workflow.id), "--quiet", *plan.arguments["options"]]
    return confirmation.begun(workflow.id, plan_token, lambda: begin(workflow, command))


def _plan_to_run(workflow: Workflow, options: list[str], summary: str) -> DraftPlan:
    due = sum(count for state, count in workflow.counts.by_state.items() if state not in FINISHED)
    if not due:
        raise Conflict(
            f"workflow {workflow.id} is finished: no job is left to run",
            hint="reset_jobs or reinitialize_workflow make jobs run again",
        )
    shown = f"{summary} ({plain(workflow.name, 80)}) on this machine, in {plain(workflow.directory, 200)}"
    return DraftPlan(
        summary=shown + (f", with {' '.join(options)}" if options else ""),
        starts="run",
        changes=[PlanChange(what="jobs to run", old=str(due), new="finished")],
        do={"options": options},
        node=this_node(),
    )


def this_node() -> NodeCapacity:
    """Return the capacity of this machine."""
    here, _ = node()
    return NodeCapacity(num_cpus=here.num_cpus, memory_bytes=here.memory_bytes, num_gpus=here.num_gpus)


def begin(
    workflow: Workflow, command: list[str], at_work: Callable[[], bool] | None = None
) -> tuple[PlanOutcome, bool]:
    """Start a process for a workflow and wait until it is working. Also returns whether it has already ended."""
    here = context()
    directory = Path(workflow.directory)
    if not directory.is_dir():
        directory = here.directory
    begun = background_start.begin(
        here.torc,
        workflow.id,
        command,
        here.place,
        directory=directory,
        at_work=at_work,
        output_dir=(directory / here.output_dir).absolute(),
    )
    summary = f"`torc {command[0]}` runs in the background (pid {begun.pid})"
    if begun.ended:
        summary = f"`torc {command[0]}` has ended already: {_end_of(begun.log)}"
    following = "wait_for_workflow waits until it ends; get_workflow_status shows progress"
    return confirmation.done(summary, following, log=plain(str(begun.log), 400)), begun.ended


def _end_of(log: Path) -> str:
    try:
        return plain(log.read_text(encoding="utf-8", errors="replace")[-600:], 600) or "it printed nothing"
    except OSError as error:
        return f"its log cannot be read: {error.strerror}"


class WaitResult(Reply):
    """The status of a workflow after waiting."""

    status: StatusReport
    ended: bool
    waited: str
    first_failures: list[AttemptEntry] | None = None
    next: str


@tool("Wait for a workflow")
async def wait_for_workflow(
    workflow_id: WorkflowId,
    ctx: Context[Any, Any],
    timeout_seconds: Annotated[float, Field(ge=0, le=3600)] = 50.0,
    until_first_failure: Annotated[bool, Field(description="once a job has failed")] = False,
) -> WaitResult:
    """Wait until a running workflow ends, with progress notifications. Costs only time: call it again while `ended` is
    false. Many clients give up on a call after 60 s: keep the timeout below that."""
    begun = time.monotonic()
    workflow = await anyio.to_thread.run_sync(find_workflow, workflow_id)
    torc, number = context().torc, workflow.id
    failed_before = _num_failed(workflow)
    after = await anyio.to_thread.run_sync(_last_event, number)
    while going := await anyio.to_thread.run_sync(_is_going, workflow):
        finished = sum(workflow.counts[state] for state in FINISHED)
        await ctx.report_progress(
            finished, workflow.counts.total, f"{finished} of {workflow.counts.total} jobs finished"
        )
        left = timeout_seconds - (time.monotonic() - begun)
        if left <= 0 or (until_first_failure and _num_failed(workflow)):
            break
        request = ListEvents(workflow_id=number, after=after, wait_seconds=min(_STEP_SECONDS, left), limit=1000)
        page = await anyio.to_thread.run_sync(torc.send, request, abandon_on_cancel=True)
        after = page.items[-1].id if page.items else after
        workflow = await anyio.to_thread.run_sync(torc.send, GetWorkflow(workflow_id=number))
    status = status_of(workflow)
    failures = None
    if _num_failed(workflow) > (failed_before if going else 0):
        summary = await anyio.to_thread.run_sync(torc.send, SummarizeRun(workflow_id=number, limit=5))
        failures = [attempt_line(result) for result in summary.failed]
    ended = not going
    over_budget = None
    if ended and workflow.counts[State.READY]:
        over_budget = await anyio.to_thread.run_sync(held_back, torc, number)
    following = status.next if over_budget is None else f"ready jobs are left: {over_budget}. Tell the user"
    return WaitResult(
        status=status,
        ended=ended,
        waited=human_duration(time.monotonic() - begun),
        first_failures=failures,
        next=following if ended else "call wait_for_workflow again, or diagnose_workflow when jobs have failed",
    )


def _is_going(workflow: Workflow) -> bool:
    """Return whether runners are working on a workflow or waiting in a queue to do so."""
    if workflow.state == "running":
        return True
    if workflow.state not in {"idle", "interrupted"}:
        return False
    return bool(context().torc.send(ListAllocations(workflow_id=workflow.id, active_only=True, limit=1)).items)


def _num_failed(workflow: Workflow) -> int:
    return sum(workflow.counts[state] for state in ENDED_BADLY)


def _last_event(workflow_id: int) -> int:
    page = context().torc.send(ListEvents(workflow_id=workflow_id, newest_first=True, limit=1))
    return page.items[0].id if page.items else 0


@tool("Cancel a workflow", "runs", idempotent=True)
def cancel_workflow(
    workflow_id: WorkflowId, agreed: Cancel, plan_token: PlanToken = None, reason: Reason = None
) -> PlanOutcome:
    """Stop a workflow: running jobs are killed, all unfinished jobs are canceled. Plan first; with plan_token it is done. reset_jobs
    makes them run again later."""
    workflow = find_workflow(workflow_id)
    if plan_token is None:
        left = {state: count for state, count in workflow.counts.by_state.items() if state not in FINISHED and count}
        if not left:
            raise Conflict(
                f"workflow {workflow.id} is finished: there is nothing to cancel", hint="get_workflow_status"
            )
        made = DraftPlan(
            summary=f"Cancel workflow {workflow.id} ({plain(workflow.name, 80)}): {sum(left.values())} jobs, "
            f"of which {left.get(State.RUNNING, 0)} are running and would be killed",
            operations=[confirmation.operation(CancelWorkflow(workflow_id=workflow.id))],
            shows="ending",
            changes=[PlanChange(what="unfinished jobs", old="due", new="canceled")],
        )
        return confirmation.propose("cancel_workflow", workflow.id, made)
    done = confirmation.apply("cancel_workflow", workflow.id, plan_token, reason, agreed)
    canceled = Workflow.model_validate(done.results[0])
    return confirmation.done(
        f"workflow {workflow.id} is canceled: {canceled.counts[State.CANCELED]} jobs",
        "runners stop their jobs within seconds",
    )


@tool("Reset jobs to run again", "runs", idempotent=False)
def reset_jobs(
    workflow_id: WorkflowId,
    agreed: Reset,
    job_ids: Annotated[
        list[int] | None,
        Field(max_length=1000, description="these jobs and all jobs downstream; default: see failed_only"),
    ] = None,
    failed_only: Annotated[
        bool, Field(description="true: unsuccessful jobs and all jobs downstream; false: every job")
    ] = True,
    plan_token: PlanToken = None,
    reason: Reason = None,
) -> PlanOutcome:
    """Make jobs run again unchanged: their states are cleared, and they run with the next run_workflow. Plan first, then with
    plan_token. If jobs lacked memory or time, recover_workflow is better: it raises their requests."""
    workflow = find_workflow(workflow_id)
    if plan_token is None:
        require_idle(workflow, "reset")
        request = _reset(workflow.id, job_ids, failed_only=failed_only).model_copy(update={"limit": _MOST_LISTED})
        return _propose_changes("reset_jobs", workflow, request, "Reset jobs to run again")
    return _changed(workflow, confirmation.apply("reset_jobs", workflow.id, plan_token, reason, agreed))


def _reset(workflow_id: int, job_ids: list[int] | None, *, failed_only: bool) -> ActOnJobs | ResetWorkflow:
    if job_ids is None:
        return ResetWorkflow(workflow_id=workflow_id, failed_only=failed_only)
    for job_id in job_ids[:20]:
        job = context().torc.send(GetJob(job_id=job_id))
        if job.workflow_id != workflow_id:
            raise Invalid(
                f"job_ids: job {job_id} belongs to workflow {job.workflow_id}, not to {workflow_id}",
                hint="list_jobs_by_status",
            )
    return ActOnJobs(workflow_id=workflow_id, job_ids=job_ids, action="run-again")


def _propose_changes(action: str, workflow: Workflow, request: Request[Any], what: str) -> PlanOutcome:
    """Plan a request that changes jobs. Raises Conflict if it would change nothing."""
    made = DraftPlan(
        summary=f"{what} in workflow {workflow.id} ({plain(workflow.name, 80)})",
        retries=1,
        operations=[confirmation.operation(request)],
        node=this_node(),
    )
    outcome, kept = confirmation.proposed(action, workflow.id, made, confirmation.of_jobs)
    if not outcome.num_changes:
        context().torc.send(
            DeclineIntervention(workflow_id=workflow.id, intervention_id=kept.id, reason="changes nothing")
        )
        raise Conflict(f"workflow {workflow.id}: nothing would change", hint="get_workflow_status shows its state")
    return outcome


def _changed(workflow: Workflow, done: Intervention) -> PlanOutcome:
    changes, count = confirmation.of_jobs(done.results)
    shown = confirmation.done(
        f"{count} jobs of workflow {workflow.id} changed", "run_workflow or submit_workflow runs what is due", changes
    )
    return shown.model_copy(update={"num_changes": count})


@tool("Rerun what changed", "destroys", idempotent=True)
def reinitialize_workflow(
    workflow_id: WorkflowId,
    agreed: Reinitialize,
    spec: Spec = None,
    path: SpecPath = None,
    plan_token: PlanToken = None,
    reason: Reason = None,
) -> PlanOutcome:
    """Rerun the jobs whose inputs, commands or outputs have changed since their success, and all jobs downstream. With an edited spec,
    the workflow is changed to match it: jobs are matched by name, and removed jobs lose their results. Plan first."""
    require_here("looking at the files of a workflow")
    workflow = find_workflow(workflow_id)
    if plan_token is None:
        require_idle(workflow, "reinitialized")
        edited: dict[str, Any] = {}
        if spec is not None or path is not None:
            source = spec_input.source_of(spec, path)
            spec_input.checked(source)
            edited = {
                "spec": source.text,
                "format": source.format,
                "name": source.name,
                "spec_files": [file.model_dump() for file in spec_input.source_files(source)],
            }
        request = _with_facts(workflow.id, edited)
        return _propose_changes("reinitialize_workflow", workflow, request, "Reinitialize and rerun what changed")

    def now() -> dict[str, Any]:
        """Examine the files again: the resulting changes must be those that were shown."""
        kept = confirmation.stored(workflow.id, str(plan_token), "reinitialize_workflow").operations[0].fields
        request = _with_facts(workflow.id, {name: value for name, value in kept.items() if name != "limit"})
        brought = None
        if request.spec is not None:
            brought = SpecAsWritten(
                text=request.spec, format=request.format, name=request.name, files=request.spec_files
            )
        return {"files": request.files, "spec": brought}

    return _changed(
        workflow, confirmation.apply("reinitialize_workflow", workflow.id, plan_token, reason, agreed, before=now)
    )


def _with_facts(workflow_id: int, edited: dict[str, Any]) -> ReinitializeWorkflow:
    """Collect the facts about files that a reinitialization needs."""
    asked = ReinitializeWorkflow.model_validate(
        {
            "workflow_id": workflow_id,
            "dry_run": True,
            "limit": _MOST_LISTED,
            **edited,
        }
    )
    return file_status.answered(context().torc, asked)[0]
