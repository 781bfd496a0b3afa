"""The whole graph of a workflow, by index: what drawing, planning and `reinitialization` work on."""

from __future__ import annotations

from sqlalchemy import text

from torc.api.workflows import GetGraph, Graph, GraphJob, GraphRequirement
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import classes_of, workflow_of, workflow_row
from torc.workflow.states import State

_JOBS = (
    "SELECT id, name, state, gate_id, requirement_id, priority, cancel_on_blocking_job_failure FROM job "
    "WHERE workflow_id = :id ORDER BY id"
)
_GATES = (
    "SELECT p.job_id, p.gate_id FROM gate g JOIN gate_prerequisite p ON p.gate_id = g.id "
    "WHERE g.workflow_id = :id ORDER BY p.gate_id, p.job_id"
)


@answers(GetGraph)
def get_graph(tx: Tx, request: GetGraph) -> Graph:
    """Get the whole graph, by index."""
    workflow = workflow_of(tx, workflow_row(tx, request.workflow_id))
    key = {"id": request.workflow_id}
    classes = classes_of(tx, workflow.id)
    class_of = {number: at for at, number in enumerate(classes)}
    gate_ids = [row[0] for row in tx.db.execute(text("SELECT id FROM gate WHERE workflow_id = :id ORDER BY id"), key)]
    gate_at = {gate: at for at, gate in enumerate(gate_ids)}
    states = {state.value: state for state in State}
    rows = tx.dialect.fetch(tx.db, _JOBS, key)
    jobs = [
        GraphJob(number, name, states[state], gate and gate_at[gate], class_of[requirement], priority, bool(cancel))
        for number, name, state, gate, requirement, priority, cancel in rows
    ]
    job_at = {row[0]: at for at, row in enumerate(rows)}
    gates: list[list[int]] = [[] for _ in gate_ids]
    for job_id, gate_id in tx.dialect.fetch(tx.db, _GATES, key):
        gates[gate_at[gate_id]].append(job_at[job_id])
    return Graph.model_construct(
        workflow=workflow,
        jobs=jobs,
        gates=gates,
        requirements=[GraphRequirement(name=found.name, **found.request._asdict()) for found in classes.values()],
    )
