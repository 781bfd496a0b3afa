"""Workflows as rows: look at them, change them, put them away, check them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import text

from torc.api.base import Page
from torc.api.workflows import (
    ArchiveWorkflow,
    CheckWorkflow,
    DeleteWorkflow,
    GetGraph,
    GetWorkflow,
    Graph,
    GraphJob,
    GraphRequirement,
    ListWorkflows,
    Problem,
    RecordFiles,
    UpdateWorkflow,
    Workflow,
)
from torc.core.states import State
from torc.errors import Conflict
from torc.operations.dispatch import Tx, answers
from torc.operations.fingerprints import record_fingerprints
from torc.operations.rows import decode_cursor, encode_cursor, glob, loads, workflow_of, workflow_row
from torc.store.check import problems


@answers(GetWorkflow)
def get_workflow(tx: Tx, request: GetWorkflow) -> Workflow:
    """Get one workflow."""
    return workflow_of(tx, workflow_row(tx, request.workflow_id))


@answers(ListWorkflows)
def list_workflows(tx: Tx, request: ListWorkflows) -> Page[Workflow]:
    """List workflows, newest first."""
    key = decode_cursor(request.cursor)
    rows = (
        tx.db.execute(
            text(
                "SELECT * FROM workflow WHERE id < :before AND (:all OR NOT is_archived) "
                "AND (:name IS NULL OR name LIKE :name ESCAPE '\\') AND (:user IS NULL OR \"user\" = :user) "
                "ORDER BY id DESC LIMIT :n".replace(":name IS", "CAST(:name AS TEXT) IS").replace(
                    ":user IS", "CAST(:user AS TEXT) IS"
                )
            ),
            {
                "before": key[0] if key else 2**62,
                "all": request.include_archived,
                "name": None if request.name is None else glob(request.name),
                "user": request.user,
                "n": request.limit + 1,
            },
        )
        .mappings()
        .all()
    )
    items = [workflow_of(tx, row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(UpdateWorkflow)
def update_workflow(tx: Tx, request: UpdateWorkflow) -> Workflow:
    """Change fields of a workflow."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    changes: dict[str, Any] = request.model_dump(exclude={"workflow_id"}, exclude_none=True)
    if "settings" in changes:
        merged = {**loads(row["settings"], {}), **changes["settings"]}
        changes["settings"] = {key: value for key, value in merged.items() if value is not None}
    if "metadata" in changes:
        changes["meta"] = changes.pop("metadata")
    values = {key: json.dumps(value) if isinstance(value, dict) else value for key, value in changes.items()}
    assignments = "".join(f"{key} = :{key}, " for key in values)
    tx.db.execute(
        text(f"UPDATE workflow SET {assignments}version = version + 1, updated_at = :now WHERE id = :id"),
        {**values, "now": tx.now, "id": row["id"]},
    )
    tx.event(row["id"], "workflow_updated", fields=sorted(changes))
    return get_workflow(tx, GetWorkflow(workflow_id=row["id"]))


@answers(DeleteWorkflow)
def delete_workflow(tx: Tx, request: DeleteWorkflow) -> None:
    """Delete a workflow with everything stored about it."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    if not request.force:
        refuse_while_running(tx, row["id"], "deleted")
    for table in (
        "event", "firing", "attempt", "runner", "action_job WHERE action_id IN (SELECT id FROM action", "action",
        "gate_prerequisite WHERE gate_id IN (SELECT id FROM gate", "job", "job_count", "gate",
        "input_file WHERE input_set_id IN (SELECT id FROM input_set",
        "input_user_data WHERE input_set_id IN (SELECT id FROM input_set", "input_set", "file", "user_data",
        "requirement", "named",
    ):  # fmt: skip
        where = f"{table} WHERE workflow_id = :id" + (")" if "(" in table else "")
        tx.db.execute(text(f"DELETE FROM {where}"), {"id": row["id"]})
    tx.db.execute(text("DELETE FROM workflow WHERE id = :id"), {"id": row["id"]})


def refuse_while_running(tx: Tx, workflow_id: int, done: str) -> None:
    """Raise Conflict when runners work on a workflow."""
    active = tx.db.execute(
        text("SELECT count(*) FROM runner WHERE workflow_id = :id AND is_active"), {"id": workflow_id}
    ).scalar_one()
    if active:
        raise Conflict(
            f"workflow {workflow_id} cannot be {done}: {active} runner{'s work' if active > 1 else ' works'} on it",
            hint=f"stop them first (`torc workflows cancel {workflow_id}`), or use --force",
        )


@answers(ArchiveWorkflow)
def archive_workflow(tx: Tx, request: ArchiveWorkflow) -> Workflow:
    """Put a workflow away, or bring it back."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    if request.archived:
        refuse_while_running(tx, row["id"], "archived")
    tx.db.execute(
        text("UPDATE workflow SET is_archived = :archived, version = version + 1, updated_at = :now WHERE id = :id"),
        {"archived": request.archived, "now": tx.now, "id": row["id"]},
    )
    tx.event(row["id"], "workflow_archived" if request.archived else "workflow_unarchived")
    return get_workflow(tx, GetWorkflow(workflow_id=row["id"]))


@answers(CheckWorkflow)
def check_workflow(tx: Tx, request: CheckWorkflow) -> list[Problem]:
    """Check every invariant."""
    workflow_row(tx, request.workflow_id)
    return [Problem(invariant=name, detail=detail) for name, detail in problems(tx.db, request.workflow_id)]


@answers(RecordFiles)
def record_files(tx: Tx, request: RecordFiles) -> int:
    """Record how files look."""
    workflow_row(tx, request.workflow_id, lock=True)
    rows = [
        {"id": request.workflow_id, **fact.model_dump(include={"path", "size_bytes", "mtime_ns", "sha256"})}
        for fact in request.files
        if fact.exists
    ]
    if rows:
        tx.db.execute(
            text(
                "UPDATE file SET size_bytes = :size_bytes, mtime_ns = :mtime_ns, sha256 = :sha256 "
                "WHERE workflow_id = :id AND path = :path"
            ),
            rows,
        )
    record_fingerprints(tx, request.workflow_id)
    return len(rows)


@answers(GetGraph)
def get_graph(tx: Tx, request: GetGraph) -> Graph:
    """Get the whole graph, by index."""
    workflow = get_workflow(tx, GetWorkflow(workflow_id=request.workflow_id))
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
