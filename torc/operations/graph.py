"""The whole graph of a workflow, by index: what drawing, planning and `reinitialization` work on."""

from __future__ import annotations

from torc.api.workflows import GetGraph, Graph, GraphJob, GraphRequirement
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import classes_of, workflow_of, workflow_row
from torc.store import graph as stored
from torc.store.gates import prerequisites
from torc.workflow.states import State


@answers(GetGraph)
def get_graph(tx: Tx, request: GetGraph) -> Graph:
    """Get the whole graph, by index."""
    workflow = workflow_of(tx, workflow_row(tx, request.workflow_id))
    classes = classes_of(tx, workflow.id)
    class_of = {number: at for at, number in enumerate(classes)}
    gate_at = {gate: at for at, gate in enumerate(stored.gates(tx.db, tx.dialect, workflow.id))}
    states = {state.value: state for state in State}
    found = stored.jobs(tx.db, tx.dialect, workflow.id)
    jobs = [
        GraphJob(number, name, states[state], gate and gate_at[gate], class_of[requirement], priority, bool(cancel))
        for number, name, state, gate, requirement, priority, cancel in found
    ]
    job_at = {job.id: at for at, job in enumerate(found)}
    gates: list[list[int]] = [[] for _ in gate_at]
    for gate_id, job_id in prerequisites(tx.db, tx.dialect, workflow.id):
        gates[gate_at[gate_id]].append(job_at[job_id])
    return Graph.model_construct(
        workflow=workflow,
        jobs=jobs,
        gates=gates,
        requirements=[GraphRequirement(name=found.name, **found.request._asdict()) for found in classes.values()],
    )
