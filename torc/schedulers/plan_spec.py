"""A spec with a plan of allocations written into it: schedulers, actions, and which jobs they are for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from torc.planning.demand import jobs_in, parts
from torc.schedulers.allocation_planning import AllocationPlan, AllocationPlanOptions
from torc.schedulers.base import Scheduler
from torc.schedulers.partitions import Cluster
from torc.spec.model import WorkflowSpec
from torc.spec.plan import Plan as SpecPlan
from torc.workflow.graph import graph_of, stages

#: more actions than this for one kind of allocations make a spec that nobody reads
_MOST_PARTS = 4


def with_plan(
    spec: WorkflowSpec,
    expanded: SpecPlan,
    made: AllocationPlan,
    scheduler: Scheduler,
    cluster: Cluster,
    options: AllocationPlanOptions,
) -> tuple[WorkflowSpec, list[str]]:
    """Return the spec with schedulers and actions, and what the user should know. `expanded` is what the spec stands for.

    A job of the spec that stands for jobs of several schedulers names none: any allocation that has room may run those.
    """
    graph = graph_of(list(expanded.gates), [job.gate for job in expanded.jobs])
    stage = stages(graph)
    requirement_of = [job.requirement for job in expanded.jobs]
    schedulers, actions = [], []
    scheduler_of: dict[tuple[int, int], str] = {}
    for planned in made.allocations:
        schedulers.append({"name": planned.name, **scheduler.fields_of(planned, cluster, options)})
        scheduler_of |= {(cell.stage, cell.requirement): planned.name for cell in planned.cells}
        base = {"action_type": "schedule_nodes", "scheduler": planned.name, "scheduler_type": scheduler.type.name}
        more = {"start_one_worker_per_node": True}
        if planned.stage == 0:
            actions.append(
                {"trigger_type": "on_workflow_start", **base, "num_allocations": planned.num_allocations, **more}
            )
            continue
        jobs = jobs_in(planned.trigger, stage, requirement_of)
        for part in parts(graph, jobs, planned.num_allocations, _MOST_PARTS):
            names = [expanded.jobs[job].name for job in part.jobs]
            actions.append(
                {
                    "trigger_type": "on_jobs_ready",
                    **base,
                    "jobs": names,
                    "num_allocations": part.num_allocations,
                    **more,
                }
            )
    data = spec.model_dump(mode="json", exclude_unset=True)
    notes = _bind(data["jobs"], expanded, stage, scheduler_of) if made.binds else []
    data[scheduler.type.spec_field] = schedulers
    data["actions"] = [*data.get("actions", []), *actions]
    return WorkflowSpec.model_validate(data), notes


def _bind(
    jobs: list[dict[str, Any]], expanded: SpecPlan, stage: Sequence[int], scheduler_of: dict[tuple[int, int], str]
) -> list[str]:
    """Have each job of the spec name its scheduler; says which cannot."""
    notes = []
    ends = accumulate(expanded.job_counts)
    for job, end, count in zip(jobs, ends, expanded.job_counts, strict=True):
        found = {scheduler_of[stage[number], expanded.jobs[number].requirement] for number in range(end - count, end)}
        if len(found) == 1:
            job["scheduler"] = found.pop()
        else:
            notes.append(f"job `{job['name']}` stands for jobs of {', '.join(sorted(found))}: it names no scheduler")
    return notes
