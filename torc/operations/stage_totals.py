"""A workflow in sums of stages and classes, from what is kept with its gates: no graph is read, however many jobs there are.

Stages are those of the whole workflow (`torc.workflow.graph.stages`); for what is left from now on see `planning`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence

from torc.api.planning import DemandClass, GetStages, PathJob, StageCell, WorkflowStages
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import classes_of, workflow_of, workflow_row
from torc.store import graph
from torc.store.gates import prerequisites
from torc.store.graph import JobOnPath, StageSum
from torc.workflow.graph import gate_stages

#: of more stages no chain is followed: each step is a query
_MOST_STEPS = 200


@answers(GetStages)
def get_stages(tx: Tx, request: GetStages) -> WorkflowStages:
    """Get what has not finished, in sums."""
    workflow = workflow_of(tx, workflow_row(tx, request.workflow_id))
    sums = graph.stage_sums(tx.db, tx.dialect, workflow.id)
    by_class = Counter[int]()
    for found in sums:
        by_class[found.requirement_id] += found.num_jobs
    classes = {found.requirement_id: found for found in demand_classes(tx, workflow.id, by_class)}
    is_known = all(found.stage >= 0 for found in sums)
    cells = [
        StageCell(stage=found.stage, requirement_id=found.requirement_id, num_jobs=found.num_jobs) for found in sums
    ]
    return WorkflowStages(
        workflow_id=workflow.id,
        workflow_name=workflow.name,
        num_finished=workflow.counts.total - by_class.total(),
        classes=list(classes.values()),
        by_class=dict(by_class),
        cells=cells if is_known else None,
        path=_path(tx, sums, classes) if is_known and sums else [],
    )


def demand_classes(tx: Tx, workflow_id: int, wanted: Container[int]) -> list[DemandClass]:
    """Return those of the classes of a workflow that are wanted, in order."""
    return [
        DemandClass(requirement_id=found.id, name=found.name, **found.request._asdict())
        for found in classes_of(tx, workflow_id).values()
        if found.id in wanted
    ]


def keep_stages(tx: Tx, workflow_id: int) -> None:
    """Work out the stages of all gates and keep them with those: of a workflow whose rows were brought in."""
    gate_of = graph.gate_of_jobs(tx.db, tx.dialect, workflow_id)
    waits: dict[int, list[int]] = {gate: [] for gate in gate_of.values() if gate is not None}
    for gate, job in prerequisites(tx.db, tx.dialect, workflow_id):
        waits.setdefault(gate, []).append(job)
    job_at = {job: at for at, job in enumerate(gate_of)}
    gate_at = {gate: at for at, gate in enumerate(waits)}
    members = [[job_at[job] for job in jobs] for jobs in waits.values()]
    found = gate_stages(members, [None if gate is None else gate_at[gate] for gate in gate_of.values()])
    graph.set_stages(tx.db, tx.dialect, dict(zip(waits, found, strict=True)))


def _path(tx: Tx, sums: Sequence[StageSum], classes: Mapping[int, DemandClass]) -> list[PathJob]:
    """Follow jobs back from one in the last stage, by what is furthest from the beginning."""
    last = max(found.stage for found in sums)
    if last >= _MOST_STEPS:
        return []
    ends = [found for found in sums if found.stage == last]
    end = max(ends, key=lambda found: classes[found.requirement_id].runtime_seconds)
    job: JobOnPath | None = graph.job_on_path(tx.db, tx.dialect, end.first_job_id)
    path: list[PathJob] = []
    while job is not None:
        path.append(PathJob(job_id=job.id, job_name=job.name, runtime_seconds=job.runtime_seconds))
        job = None if job.gate_id is None else graph.before_gate(tx.db, tx.dialect, job.gate_id)
    return path[::-1]
