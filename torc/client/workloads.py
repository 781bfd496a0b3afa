"""The jobs of a plan or of a stored workflow, in the form used by analysis and simulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torc.api.workflows import Graph
from torc.spec.plan import Plan
from torc.workflow.graph import graph_of
from torc.workflow.resources import ResourceRequest
from torc.workflow.simulation import Workload
from torc.workflow.states import State


class NamedWorkload(NamedTuple):
    """A workload with the names of its jobs and classes. `states`: only for a stored workflow."""

    name: str
    workload: Workload
    jobs: Sequence[str]
    states: Sequence[State] | None
    classes: Sequence[str]


def of_plan(plan: Plan) -> NamedWorkload:
    """Describe a plan, in which no job has run."""
    workload = Workload(
        graph=graph_of(list(plan.gates), [job.gate for job in plan.jobs]),
        requests=[item.request for item in plan.requirements],
        request_of=[job.requirement for job in plan.jobs],
        priorities=[job.priority for job in plan.jobs],
        cancels=[job.cancel_on_blocking_job_failure for job in plan.jobs],
        method=plan.settings.get("jobs_sort_method", "none"),
    )
    return NamedWorkload(
        plan.name, workload, [job.name for job in plan.jobs], None, [item.name for item in plan.requirements]
    )


def of_stored(stored: Graph) -> NamedWorkload:
    """Describe a stored workflow in its current state."""
    workload = Workload(
        graph=graph_of([tuple(gate) for gate in stored.gates], [job.gate for job in stored.jobs]),
        requests=[ResourceRequest.of(item) for item in stored.requirements],
        request_of=[job.requirement for job in stored.jobs],
        priorities=[job.priority for job in stored.jobs],
        cancels=[job.cancel_on_blocking_job_failure for job in stored.jobs],
        method=stored.workflow.settings.get("jobs_sort_method", "none"),
    )
    states = [job.state for job in stored.jobs]
    return NamedWorkload(
        stored.workflow.name,
        workload,
        [job.name for job in stored.jobs],
        states,
        [item.name for item in stored.requirements],
    )
