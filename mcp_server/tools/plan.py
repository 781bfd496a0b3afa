"""What a workflow will need before it runs: stages, critical path, peaks, makespan, cost; and what its classes should request, given
what their jobs have used."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated

from pydantic import Field

from mcp_server import spec_input
from mcp_server.context import context, find_workflow
from mcp_server.formatting import Quoted, Reply, plain
from mcp_server.registry import tool
from mcp_server.spec_input import Spec, SpecPath
from mcp_server.tools.author import shown as all_that_runs
from mcp_server.tools.inspect import WorkflowId
from torc.api.data import ListRequirements, Requirement
from torc.api.estimates import ListCommandKinds, SuggestResources
from torc.api.planning import GetStages, StageCell, WorkflowStages
from torc.api.utilization import CheckUtilization, ClassUse
from torc.api.workflows import GetGraph
from torc.client.workloads import NamedWorkload, of_plan, of_stored
from torc.errors import Invalid
from torc.failures.resource_adjustment import fitted, raised
from torc.planning.analysis import WorkflowAnalysis, analyze, misfits
from torc.planning.demand import StageDemand
from torc.planning.estimate import estimate
from torc.planning.history import LearnedRequest, shape_of, together
from torc.runner.hardware import node
from torc.units import human_bytes, human_duration
from torc.workflow.resources import ResourceRequest
from torc.workflow.simulation import ResourceUse

#: larger stored workflows are estimated, because a model waits for each reply
MOST_SIMULATED = 2000
_MOST_STAGES = 20
_MOST_PATH = 12


class StageEstimate(Reply):
    """Jobs at the same distance from the start."""

    jobs: int
    classes: dict[str, int]
    at_once: str
    longest: str


class ExecutionPlan(Reply):
    """What a workflow will need. Runtimes are the requested limits; actual ones are often shorter."""

    name: str
    jobs_to_do: int
    jobs_finished: int
    stages: list[StageEstimate]
    num_stages: int
    critical_path: list[str]
    critical_path_time: str
    peak: str
    cpu_hours: float
    gpu_hours: float
    makespan_here: str = Field(description="on the machine of this server")
    estimated: str | None = Field(None, description="the method, if it was not simulated")
    node_hours: float = Field(description="approximate, from the requested limits")
    cannot_run_here: list[str] | None = None
    shown: Quoted | None = Field(None, description="everything that a spec would run")
    next: str


@tool("Plan of execution")
def get_execution_plan(
    workflow_id: Annotated[int | str | None, Field(description="a stored workflow, or give spec or path")] = None,
    spec: Spec = None,
    path: SpecPath = None,
) -> ExecutionPlan:
    """Show what a workflow or a spec will need before it runs: stages, critical path, peaks, expected makespan, node-hours. Costs a
    simulation; stored workflows with over 2,000 jobs are estimated from sums. Next: run_workflow here, or submit_workflow on Slurm."""
    if workflow_id is not None:
        if spec is not None or path is not None:
            raise Invalid(
                "workflow_id: give either workflow_id, or spec or path", hint="get_execution_plan(workflow_id=1)"
            )
        workflow = find_workflow(workflow_id)
        if workflow.counts.total > MOST_SIMULATED:
            found = context().torc.send(GetStages(workflow_id=workflow.id))
            if found.cells is not None:
                return _estimated(found, found.cells)
        described = of_stored(context().torc.send(GetGraph(workflow_id=workflow.id)))
        shown = None
    else:
        source = spec_input.source_of(spec, path)
        plan = spec_input.checked(source)
        described, shown = of_plan(plan), all_that_runs(source, plan)
    return _shown(described, shown)


def _shown(described: NamedWorkload, runs: Quoted | None) -> ExecutionPlan:
    here, _ = node()
    found = analyze(described.workload, [here], states=described.states)
    path = _cut([plain(described.jobs[job], 60) for job in found.critical_path.jobs])
    cannot = [
        f"{misfit.num_jobs} jobs of {plain(described.classes[misfit.request], 60)}: {misfit.reason}"
        for misfit in found.misfits
    ]
    return ExecutionPlan(
        name=plain(described.name, 80),
        jobs_to_do=found.num_jobs,
        jobs_finished=found.num_finished,
        stages=[
            StageEstimate(
                jobs=stage.num_jobs,
                at_once=_use(stage.use),
                longest=human_duration(stage.longest_seconds),
                classes={plain(described.classes[number], 60): count for number, count in stage.classes[:5]},
            )
            for stage in found.stages[:_MOST_STAGES]
        ],
        num_stages=len(found.stages),
        critical_path=path,
        critical_path_time=human_duration(found.critical_path.seconds),
        peak=_use(found.peak),
        cpu_hours=round(found.cpu_seconds / 3600, 2),
        gpu_hours=round(found.gpu_seconds / 3600, 2),
        makespan_here=_makespan(found),
        node_hours=round(hours_here(found), 2),
        cannot_run_here=cannot or None,
        shown=runs,
        next="run_workflow runs it here, submit_workflow on Slurm; suggest_resources derives requests from past use",
    )


def _estimated(found: WorkflowStages, kept: list[StageCell]) -> ExecutionPlan:
    """Show a large workflow from its sums: bounds instead of a simulation."""
    here, _ = node()
    index = {item.requirement_id: at for at, item in enumerate(found.classes)}
    requests = [ResourceRequest.of(item) for item in found.classes]
    cells = [StageDemand(cell.stage, index[cell.requirement_id], cell.num_jobs) for cell in kept]
    path_seconds = sum(job.runtime_seconds for job in found.path)
    told = estimate(requests, cells, path_seconds, here)
    by_stage: dict[int, list[StageDemand]] = {}
    for cell in cells:
        by_stage.setdefault(cell.stage, []).append(cell)
    names = [plain(item.name, 60) for item in found.classes]
    counts = Counter({index[number]: count for number, count in found.by_class.items()})
    upper = told.upper_seconds
    return ExecutionPlan(
        name=plain(found.workflow_name, 80),
        jobs_to_do=counts.total(),
        jobs_finished=found.num_finished,
        stages=[_stage(members, requests, names) for members in list(by_stage.values())[:_MOST_STAGES]],
        num_stages=len(by_stage),
        critical_path=_cut([plain(job.job_name, 60) for job in found.path]),
        critical_path_time=_between(path_seconds, told.longest_path_seconds),
        peak=f"largest stage: {_use(told.peak)}",
        cpu_hours=round(told.cpu_seconds / 3600, 2),
        gpu_hours=round(told.gpu_seconds / 3600, 2),
        makespan_here=f"at least {human_duration(told.lower_seconds)}"
        if upper is None
        else _between(told.lower_seconds, upper),
        node_hours=round((told.lower_seconds if upper is None else upper) / 3600, 2),
        cannot_run_here=[
            f"{misfit.num_jobs} jobs of {names[misfit.request]}: {misfit.reason}"
            for misfit in misfits(requests, [here], counts)
        ]
        or None,
        estimated="from sums over stages and classes: no schedule is shorter than the lower figure, most are no longer than the upper "
        "one; critical_path is a long chain, not necessarily the longest",
        next="run_workflow runs it here, submit_workflow on Slurm; suggest_resources derives requests from past use",
    )


def _stage(cells: list[StageDemand], requests: list[ResourceRequest], names: list[str]) -> StageEstimate:
    use = ResourceUse()
    for cell in cells:
        use = use.plus(requests[cell.requirement], cell.num_jobs)
    return StageEstimate(
        jobs=sum(cell.num_jobs for cell in cells),
        at_once=_use(use),
        longest=human_duration(max(requests[cell.requirement].runtime_seconds for cell in cells)),
        classes={names[cell.requirement]: cell.num_jobs for cell in sorted(cells, key=lambda cell: -cell.num_jobs)[:5]},
    )


def _between(least: float, most: float) -> str:
    if least >= most:
        return f"at most about {human_duration(most)}"
    return f"between {human_duration(least)} and about {human_duration(most)}"


def _cut(path: list[str]) -> list[str]:
    if len(path) <= _MOST_PATH:
        return path
    return [*path[: _MOST_PATH - 1], f"... {len(path) - _MOST_PATH} more ...", path[-1]]


def _use(use: ResourceUse) -> str:
    gpus = f", {use.num_gpus} GPUs" if use.num_gpus else ""
    return f"{use.num_jobs} jobs, {use.num_cpus} CPUs, {human_bytes(use.memory_bytes)}{gpus}"


def _makespan(found: WorkflowAnalysis) -> str:
    if found.makespan_seconds is not None:
        return f"at most about {human_duration(found.makespan_seconds)}"
    return f"at least {human_duration(found.lower_bound_seconds)}"


def hours_here(found: WorkflowAnalysis) -> float:
    """Return the node-hours of a workflow on this machine alone if all jobs run to their limits."""
    seconds = found.lower_bound_seconds if found.makespan_seconds is None else found.makespan_seconds
    return seconds / 3600


class ClassSuggestion(Reply):
    """A class: what it requests, what its jobs used, and what it should request."""

    requirement: str
    attempts: int = Field(description="number of attempts in this workflow")
    learnt_from: int = Field(description="number of completed attempts of similar jobs in all workflows")
    memory: str
    most_memory_used: str
    suggested_memory: str
    runtime: str
    longest_run: str
    suggested_runtime: str
    cpus: int
    most_cpus_busy: float | None = None


class ResourceSuggestions(Reply):
    """Suggested requests."""

    classes: list[ClassSuggestion]
    note: str
    next: str


@tool("Suggest resources")
def suggest_resources(
    workflow_id: WorkflowId,
    factor: Annotated[float, Field(ge=1.0, le=10.0, description="margin above the highest use")] = 1.5,
) -> ResourceSuggestions:
    """Suggest what requirement classes should request, based on all earlier jobs with the same commands (ignoring numbers) in all
    workflows, so it works even for a workflow that never ran. Changes nothing. Next: update_job_resources for a stored workflow, or
    write it into the spec."""
    number = find_workflow(workflow_id).id
    used = {use.requirement: use for use in context().torc.send(CheckUtilization(workflow_id=number, limit=0)).classes}
    learnt = _learnt(number, factor)
    requirements = [
        item
        for item in context().torc.send(ListRequirements(workflow_id=number, limit=10_000)).items
        if item.name in {*used, *learnt}
    ]
    if not requirements:
        raise Invalid(
            "workflow_id: no job of this workflow has run, and fewer than three similar jobs have completed",
            hint="run it, or a part of it, first",
        )
    return ResourceSuggestions(
        classes=[_suggestion(item, used.get(item.name), learnt.get(item.name), factor) for item in requirements[:20]],
        note=f"the highest use times {factor:g}; attempts that were cut off by a limit may have needed more",
        next="update_job_resources(workflow_id, requirement, memory, runtime) proposes the change",
    )


def _learnt(workflow_id: int, factor: float) -> dict[str, LearnedRequest]:
    """Return what the history of all workflows says about each class, for classes whose commands are all known."""
    asked: dict[str, dict[str, str]] = {}
    for kind in context().torc.send(ListCommandKinds(workflow_id=workflow_id)).kinds:
        asked.setdefault(kind.requirement, {})[shape_of(kind.command)] = kind.command
    every = sorted({command for shapes in asked.values() for command in shapes.values()})
    found = context().torc.send(SuggestResources(commands=every, margin=factor)).suggestions if every else []
    known = {item.command: LearnedRequest(**item.model_dump(include=set(LearnedRequest._fields))) for item in found}
    return {
        name: together([known[command] for command in shapes.values()])
        for name, shapes in asked.items()
        if all(command in known for command in shapes.values())
    }


def _suggestion(
    item: Requirement, use: ClassUse | None, learnt: LearnedRequest | None, factor: float
) -> ClassSuggestion:
    """Suggest from the history or, if it is unknown or jobs of this workflow reached their limits, from their own use."""
    own = None if use is None or not use.num_attempts else _by_own_use(use, factor)
    memory, runtime = [], []
    if learnt is not None:
        memory, runtime = [learnt.memory_bytes], [learnt.runtime_seconds]
    if own is not None and use is not None:
        if learnt is None or use.memory.most >= 0.95 * item.memory_bytes:
            memory.append(own.memory_bytes)
        if learnt is None or use.wall.most >= 0.95 * item.runtime_seconds:
            runtime.append(own.runtime_seconds)
    most = max(use.memory.most if use else 0, learnt.most_memory_bytes if learnt else 0)
    longest = max(use.wall.most if use else 0, learnt.longest_seconds if learnt else 0)
    return ClassSuggestion(
        requirement=plain(item.name, 80),
        attempts=use.num_attempts if use else 0,
        learnt_from=learnt.num_samples if learnt else 0,
        memory=human_bytes(item.memory_bytes),
        most_memory_used=human_bytes(most),
        suggested_memory=human_bytes(max(memory)),
        runtime=human_duration(item.runtime_seconds),
        longest_run=human_duration(longest),
        suggested_runtime=human_duration(max(runtime)),
        cpus=item.num_cpus,
        most_cpus_busy=round(math.ceil(use.cpus.most * 10) / 10, 1) if own is not None and use is not None else None,
    )


def _by_own_use(use: ClassUse, factor: float) -> ResourceRequest:
    asked = ResourceRequest(use.num_cpus, 0, 1, use.memory_bytes, use.runtime_seconds)
    new = fitted(asked, memory_bytes=use.memory.most, wall_seconds=use.wall.most, factor=factor)
    higher = raised(
        asked,
        memory_factor=factor if use.memory.most >= 0.95 * asked.memory_bytes else None,
        peak_memory=int(use.memory.most),
        runtime_factor=factor if use.wall.most >= 0.95 * asked.runtime_seconds else None,
        wall_seconds=use.wall.most,
    )
    return ResourceRequest(
        asked.num_cpus,
        0,
        1,
        higher.memory_bytes if higher.memory_bytes > asked.memory_bytes else new.memory_bytes,
        higher.runtime_seconds if higher.runtime_seconds > asked.runtime_seconds else new.runtime_seconds,
    )
