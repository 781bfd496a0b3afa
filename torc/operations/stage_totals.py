"""A workflow in sums of stages and classes, from what is kept with its gates: no graph is read, however many jobs there are.

Stages are those of the whole workflow (`torc.workflow.graph.stages`); for what is left from now on see `planning`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from typing import Any

from torc.api.planning import DemandClass, GetStages, PathJob, StageCell, WorkflowStages
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import classes_of, workflow_of, workflow_row
from torc.workflow.graph import gate_stages
from torc.workflow.states import FINISHED

#: of more stages no chain is followed: each step is a query
_MOST_STEPS = 200
_LEFT = f"j.state NOT IN ({', '.join(repr(state.value) for state in sorted(FINISHED))})"
_STAGE = "CASE WHEN j.gate_id IS NULL THEN 0 ELSE coalesce(g.stage, -1) END"
_CELLS = (
    f"SELECT {_STAGE} AS stage, j.requirement_id, count(*), min(j.id) FROM job j LEFT JOIN gate g ON g.id = j.gate_id "
    f"WHERE j.workflow_id = :id AND {_LEFT} GROUP BY 1, 2 ORDER BY 1, 2"
)
_GATES = "SELECT p.gate_id, p.job_id FROM gate g JOIN gate_prerequisite p ON p.gate_id = g.id WHERE g.workflow_id = :id"
_JOB = (
    "SELECT j.id, j.name, r.runtime_seconds, j.gate_id FROM job j JOIN requirement r ON r.id = j.requirement_id "
    "WHERE j.id = :id"
)
#: of what a gate waits for, the job that is furthest from the beginning
_BEFORE = (
    "SELECT j.id, j.name, r.runtime_seconds, j.gate_id FROM gate_prerequisite p JOIN job j ON j.id = p.job_id "
    "JOIN requirement r ON r.id = j.requirement_id LEFT JOIN gate g ON g.id = j.gate_id "
    f"WHERE p.gate_id = :gate AND {_LEFT} ORDER BY {_STAGE} DESC, r.runtime_seconds DESC, j.id LIMIT 1"
)


@answers(GetStages)
def get_stages(tx: Tx, request: GetStages) -> WorkflowStages:
    """Get what has not finished, in sums."""
    workflow = workflow_of(tx, workflow_row(tx, request.workflow_id))
    key = {"id": workflow.id}
    rows = tx.dialect.fetch(tx.db, _CELLS, key)
    by_class = Counter[int]()
    for _, requirement, count, _ in rows:
        by_class[requirement] += count
    classes = {found.requirement_id: found for found in demand_classes(tx, workflow.id, by_class)}
    is_known = all(stage >= 0 for stage, *_ in rows)
    return WorkflowStages(
        workflow_id=workflow.id,
        workflow_name=workflow.name,
        num_finished=workflow.counts.total - by_class.total(),
        classes=list(classes.values()),
        by_class=dict(by_class),
        cells=[StageCell(stage=row[0], requirement_id=row[1], num_jobs=row[2]) for row in rows] if is_known else None,
        path=_path(tx, rows, classes) if is_known and rows else [],
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
    key = {"id": workflow_id}
    gate_of = dict(tx.dialect.fetch(tx.db, "SELECT id, gate_id FROM job WHERE workflow_id = :id", key))
    waits: dict[int, list[int]] = {gate: [] for gate in gate_of.values() if gate is not None}
    for gate, job in tx.dialect.fetch(tx.db, _GATES, key):
        waits.setdefault(gate, []).append(job)
    job_at = {job: at for at, job in enumerate(gate_of)}
    gate_at = {gate: at for at, gate in enumerate(waits)}
    members = [[job_at[job] for job in jobs] for jobs in waits.values()]
    found = gate_stages(members, [None if gate is None else gate_at[gate] for gate in gate_of.values()])
    rows = [{"gate": gate, "stage": stage} for gate, stage in zip(waits, found, strict=True)]
    if rows:
        tx.dialect.run_many(tx.db, "UPDATE gate SET stage = :stage WHERE id = :gate", rows)


def _path(tx: Tx, rows: list[Any], classes: dict[int, DemandClass]) -> list[PathJob]:
    """Follow jobs back from one in the last stage, by what is furthest from the beginning."""
    last = max(row[0] for row in rows)
    if last >= _MOST_STEPS:
        return []
    end = max((row for row in rows if row[0] == last), key=lambda row: classes[row[1]].runtime_seconds)
    found = tx.dialect.fetch(tx.db, _JOB, {"id": end[3]})
    path: list[PathJob] = []
    while found:
        number, name, seconds, gate = found[0]
        path.append(PathJob(job_id=number, job_name=name, runtime_seconds=seconds))
        found = [] if gate is None else tx.dialect.fetch(tx.db, _BEFORE, {"gate": gate})
    return path[::-1]
