"""The whole graph of a workflow, by index: what drawing, planning and `reinitialize` work on."""

from __future__ import annotations

from sqlalchemy import text

from torc.api.workflows import GetGraph, Graph, GraphJob, GraphRequirement
from torc.core.states import State
from torc.operations.dispatch import Tx, answers
from torc.operations.rows import workflow_of, workflow_row


@answers(GetGraph)
def get_graph(tx: Tx, request: GetGraph) -> Graph:
    """Get the whole graph, by index."""
    workflow = workflow_of(tx, workflow_row(tx, request.workflow_id))
    key = {"id": request.workflow_id}
    requirements = tx.db.execute(
        text(
            "SELECT id, name, num_cpus, num_gpus, num_nodes, memory_bytes, runtime_seconds FROM requirement "
            "WHERE workflow_id = :id ORDER BY id"
        ),
        key,
    ).all()
    class_of = {row[0]: at for at, row in enumerate(requirements)}
    gate_ids = [row[0] for row in tx.db.execute(text("SELECT id FROM gate WHERE workflow_id = :id ORDER BY id"), key)]
    gate_at = {gate: at for at, gate in enumerate(gate_ids)}
    jobs = tx.db.execute(
        text(
            "SELECT id, name, state, gate_id, requirement_id, priority, cancel_on_blocking_job_failure FROM job "
            "WHERE workflow_id = :id ORDER BY id"
        ),
        key,
    ).all()
    job_at = {row[0]: at for at, row in enumerate(jobs)}
    gates: list[list[int]] = [[] for _ in gate_ids]
    for job_id, gate_id in tx.db.execute(
        text(
            "SELECT p.job_id, p.gate_id FROM gate_prerequisite p JOIN gate g ON g.id = p.gate_id "
            "WHERE g.workflow_id = :id ORDER BY p.gate_id, p.job_id"
        ),
        key,
    ):
        gates[gate_at[gate_id]].append(job_at[job_id])
    return Graph.model_construct(
        workflow=workflow,
        jobs=[
            GraphJob.model_construct(
                id=row[0],
                name=row[1],
                state=State(row[2]),
                gate=None if row[3] is None else gate_at[row[3]],
                requirement=class_of[row[4]],
                priority=row[5],
                cancel_on_blocking_job_failure=bool(row[6]),
            )
            for row in jobs
        ],
        gates=gates,
        requirements=[
            GraphRequirement(
                name=row[1],
                num_cpus=row[2],
                num_gpus=row[3],
                num_nodes=row[4],
                memory_bytes=row[5],
                runtime_seconds=row[6],
            )
            for row in requirements
        ],
    )
