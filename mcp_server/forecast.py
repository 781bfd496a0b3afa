"""What a workflow will take, before it runs: stages, the critical path, peaks, makespan, cost; and what its classes should ask
for, by what their jobs have used."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from mcp_server import texts
from mcp_server.desk import desk, find_workflow
from mcp_server.looking import WorkflowId
from mcp_server.present import Reply, plain
from mcp_server.registry import tool
from mcp_server.specs import commands
from mcp_server.texts import Spec, SpecPath
from torc.api.jobs import ListJobs
from torc.api.learning import SuggestResources
from torc.api.utilization import CheckUtilization, ClassUse
from torc.api.workflows import GetGraph, GraphRequirement
from torc.client.workloads import Described, of_plan, of_stored
from torc.core.analysis import Analysis, analyze
from torc.core.correction import fitted, raised
from torc.core.learning import Learnt, shape_of, together
from torc.core.quantities import human_bytes, human_duration
from torc.core.resources import ResourceRequest
from torc.core.simulate import Use
from torc.core.states import FINISHED
from torc.errors import Invalid
from torc.runner.hardware import node

_MOST_STAGES = 20
_MOST_PATH = 12


class Stage(Reply):
    """Jobs that are equally far from the beginning."""

    jobs: int
    classes: dict[str, int]
    at_once: str
    longest: str


class ExecutionPlan(Reply):
    """What a workflow will take. Runtimes are the limits that jobs ask for: real ones are often shorter."""

    name: str
    jobs_to_do: int
    jobs_finished: int
    stages: list[Stage]
    num_stages: int
    critical_path: list[str]
    critical_path_time: str
    peak: str
    cpu_hours: float
    gpu_hours: float
    makespan_here: str = Field(description="on the machine of this server")
    node_hours: float = Field(description="at most, by the limits that jobs ask for")
    cannot_run_here: list[str] | None = None
    commands: list[str] | None = None
    next: str


@tool("Plan of execution")
def get_execution_plan(
    workflow_id: Annotated[int | str | None, Field(description="a stored workflow, or give spec or path")] = None,
    spec: Spec = None,
    path: SpecPath = None,
) -> ExecutionPlan:
    """Show what a workflow or a spec will take before it runs: stages, critical path, peaks, expected makespan, node-hours.
    Costs a simulation, under a second for 10,000 jobs. Next: run_workflow here, or submit_workflow on Slurm."""
    if workflow_id is not None:
        if spec is not None or path is not None:
            raise Invalid(
                "workflow_id: give either workflow_id, or spec or path", hint="get_execution_plan(workflow_id=1)"
            )
        described = of_stored(desk().torc.send(GetGraph(workflow_id=find_workflow(workflow_id).id)))
        shown = None
    else:
        plan = texts.checked(texts.source_of(spec, path))
        described, shown = of_plan(plan), commands(plan)
    return _shown(described, shown)


def _shown(described: Described, commands_shown: list[str] | None) -> ExecutionPlan:
    here, _ = node()
    found = analyze(described.workload, [here], states=described.states)
    path = [plain(described.jobs[job], 60) for job in found.critical_path.jobs]
    if len(path) > _MOST_PATH:
        path = [*path[: _MOST_PATH - 1], f"... {len(path) - _MOST_PATH} more ...", path[-1]]
    misfits = [
        f"{misfit.num_jobs} jobs of {plain(described.classes[misfit.request], 60)}: {misfit.reason}"
        for misfit in found.misfits
    ]
    return ExecutionPlan(
        name=plain(described.name, 80), jobs_to_do=found.num_jobs, jobs_finished=found.num_finished,
        stages=[
            Stage(
                jobs=stage.num_jobs, at_once=_use(stage.use), longest=human_duration(stage.longest_seconds),
                classes={plain(described.classes[number], 60): count for number, count in stage.classes[:5]},
            )
            for stage in found.stages[:_MOST_STAGES]
        ],
        num_stages=len(found.stages), critical_path=path, critical_path_time=human_duration(found.critical_path.seconds),
        peak=_use(found.peak), cpu_hours=round(found.cpu_seconds / 3600, 2), gpu_hours=round(found.gpu_seconds / 3600, 2),
        makespan_here=_makespan(found), node_hours=round(hours_here(found), 2), cannot_run_here=misfits or None,
        commands=commands_shown,
        next="run_workflow runs it here, submit_workflow on Slurm; suggest_resources finds requests by what was used",
    )  # fmt: skip


def _use(use: Use) -> str:
    gpus = f", {use.num_gpus} GPUs" if use.num_gpus else ""
    return f"{use.num_jobs} jobs, {use.num_cpus} CPUs, {human_bytes(use.memory_bytes)}{gpus}"


def _makespan(found: Analysis) -> str:
    if found.makespan_seconds is not None:
        return f"at most about {human_duration(found.makespan_seconds)}"
    return f"at least {human_duration(found.lower_bound_seconds)}"


def hours_here(found: Analysis) -> float:
    """Give the node-hours that a workflow takes at most on this machine alone."""
    seconds = found.lower_bound_seconds if found.makespan_seconds is None else found.makespan_seconds
    return seconds / 3600


def expected_hours(workflow_id: int, job_ids: set[int] | None = None) -> float:
    """Estimate the node-hours of what is to run of a stored workflow on this machine.

    A class counts with the longest that its jobs took so far, and a half more; one that nothing is known of, with its limit.
    `job_ids`: of these jobs, whatever their states; else of all that are not finished.
    """
    torc = desk().torc
    stored = torc.send(GetGraph(workflow_id=workflow_id))
    known = {use.requirement: use for use in torc.send(CheckUtilization(workflow_id=workflow_id, limit=0)).classes}
    here, _ = node()
    seconds = 0.0
    longest = 0.0
    for job in stored.jobs:
        due = job.state not in FINISHED if job_ids is None else job.id in job_ids
        if not due:
            continue
        asked = stored.requirements[job.requirement]
        took = _expected_seconds(known.get(asked.name), asked.runtime_seconds)
        share = max(asked.num_cpus / max(1, here.num_cpus), asked.memory_bytes / max(1, here.memory_bytes))
        seconds += took * min(1.0, share) * asked.num_nodes
        longest = max(longest, took)
    return max(seconds, longest) / 3600


def _expected_seconds(use: ClassUse | None, limit: int) -> float:
    return float(limit) if use is None or not use.num_attempts else min(float(limit), 1.5 * use.wall.most)


class Suggestion(Reply):
    """A class: what it asks for, what its jobs used, what it should ask for."""

    requirement: str
    attempts: int = Field(description="of this workflow")
    learnt_from: int = Field(description="completed attempts of jobs like these, in all workflows")
    memory: str
    most_memory_used: str
    suggested_memory: str
    runtime: str
    longest_run: str
    suggested_runtime: str
    cpus: int
    most_cpus_busy: float | None = None


class Suggestions(Reply):
    """Suggested requests."""

    classes: list[Suggestion]
    note: str
    next: str


@tool("Suggest resources")
def suggest_resources(
    workflow_id: WorkflowId,
    factor: Annotated[float, Field(ge=1.0, le=10.0, description="room above the most that was used")] = 1.5,
) -> Suggestions:
    """Suggest what requirement classes should ask for, learnt from all earlier jobs with the same commands but for numbers,
    in all workflows; a workflow that never ran learns, too. Changes nothing. Next: update_job_resources for a stored
    workflow, or write it into the spec."""
    number = find_workflow(workflow_id).id
    used = {use.requirement: use for use in desk().torc.send(CheckUtilization(workflow_id=number, limit=0)).classes}
    learnt = _learnt(number, factor)
    requirements = [
        item for item in desk().torc.send(GetGraph(workflow_id=number)).requirements if item.name in {*used, *learnt}
    ]
    if not requirements:
        raise Invalid(
            "workflow_id: no job of this workflow has run, nor have three like any of its own completed: nothing to learn from",
            hint="run it, or a part of it, first",
        )
    return Suggestions(
        classes=[_suggestion(item, used.get(item.name), learnt.get(item.name), factor) for item in requirements[:20]],
        note=f"the most that was used, times {factor:g}; attempts that were cut off by a limit may have needed more",
        next="update_job_resources(workflow_id, requirement, memory, runtime) proposes the change",
    )


def _learnt(workflow_id: int, factor: float) -> dict[str, Learnt]:
    """Give what is known of each class from the history of all workflows: of those classes of which all commands are known."""
    jobs = desk().torc.send(ListJobs(workflow_id=workflow_id, limit=10_000)).items
    asked: dict[str, dict[str, str]] = {}
    for job in jobs:
        asked.setdefault(job.requirement_name, {})[shape_of(job.command)] = job.command
    every = sorted({command for shapes in asked.values() for command in shapes.values()})
    found = desk().torc.send(SuggestResources(commands=every, margin=factor)).suggestions if every else []
    known = {item.command: Learnt(**item.model_dump(include=set(Learnt._fields))) for item in found}
    return {
        name: together([known[command] for command in shapes.values()])
        for name, shapes in asked.items()
        if all(command in known for command in shapes.values())
    }


def _suggestion(item: GraphRequirement, use: ClassUse | None, learnt: Learnt | None, factor: float) -> Suggestion:
    """Suggest by the history and, where nothing else is known or jobs of this workflow came to their limits, by their own use."""
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
    return Suggestion(
        requirement=plain(item.name, 80), attempts=use.num_attempts if use else 0, learnt_from=learnt.num_samples if learnt else 0,
        memory=human_bytes(item.memory_bytes), most_memory_used=human_bytes(most), suggested_memory=human_bytes(max(memory)),
        runtime=human_duration(item.runtime_seconds), longest_run=human_duration(longest),
        suggested_runtime=human_duration(max(runtime)), cpus=item.num_cpus,
        most_cpus_busy=round(math.ceil(use.cpus.most * 10) / 10, 1) if own is not None and use is not None else None,
    )  # fmt: skip


def _by_own_use(use: ClassUse, factor: float) -> ResourceRequest:
    asked = ResourceRequest(use.num_cpus, 0, 1, use.memory_bytes, use.runtime_seconds)
    new = fitted(asked, memory_bytes=use.memory.most, wall_seconds=use.wall.most, factor=factor)
    higher = raised(
        asked, memory_factor=factor if use.memory.most >= 0.95 * asked.memory_bytes else None, peak_memory=int(use.memory.most),
        runtime_factor=factor if use.wall.most >= 0.95 * asked.runtime_seconds else None, wall_seconds=use.wall.most,
    )  # fmt: skip
    return ResourceRequest(
        asked.num_cpus, 0, 1, higher.memory_bytes if higher.memory_bytes > asked.memory_bytes else new.memory_bytes,
        higher.runtime_seconds if higher.runtime_seconds > asked.runtime_seconds else new.runtime_seconds,
    )  # fmt: skip
