"""Jobs: list, look at, add, change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, text

from torc.api.base import Page
from torc.api.jobs import CreateJob, GetJob, Job, ListJobs, UpdateJob
from torc.core.states import HELD, State
from torc.errors import Conflict, NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.rows import decode_cursor, encode_cursor, glob, loads, workflow_row
from torc.store.ids import take_ids
from torc.store.jobs import Moves

_SELECT = (
    "SELECT j.*, r.name AS requirement_name, h.name AS handler_name, s.name AS scheduler_name FROM job j "
    "JOIN requirement r ON r.id = j.requirement_id LEFT JOIN named h ON h.id = j.failure_handler_id "
    "LEFT JOIN named s ON s.id = j.scheduler_id "
)


def job_of(row: RowMapping, **relations: list[str]) -> Job:
    """Make the value of a job."""
    plain = {
        key: row[key]
        for key in (
            "id", "workflow_id", "name", "command", "state", "attempt", "priority", "requirement_id", "requirement_name",
            "invocation_script", "runner_id", "started_at", "return_code", "reason",
        )
    }  # fmt: skip
    return Job(
        **plain,
        env=loads(row["env"], {}),
        failure_handler=row["handler_name"],
        scheduler=row["scheduler_name"],
        cancel_on_blocking_job_failure=bool(row["cancel_on_blocking_job_failure"]),
        supports_termination=bool(row["supports_termination"]),
        **relations,  # type: ignore[arg-type]
    )


@answers(ListJobs)
def list_jobs(tx: Tx, request: ListJobs) -> Page[Job]:
    """List jobs in order of id."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    where = ["j.workflow_id = :workflow_id", "j.id > :after"]
    values: dict[str, Any] = {
        "workflow_id": request.workflow_id,
        "after": key[0] if key else 0,
        "n": request.limit + 1,
    }
    if request.state is not None:
        where.append("j.state = :state")
        values["state"] = request.state.value
    if request.name is not None:
        where.append("j.name LIKE :name ESCAPE '\\'" if any(c in request.name for c in "*?") else "j.name = :name")
        values["name"] = glob(request.name) if any(c in request.name for c in "*?") else request.name
    if request.runner_id is not None:
        where.append("j.runner_id = :runner_id")
        values["runner_id"] = request.runner_id
    query = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY j.id LIMIT :n"
    rows = tx.db.execute(text(query), values).mappings().all()
    items = [job_of(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


def job_row(tx: Tx, job_id: int) -> RowMapping:
    """Give the row of a job. Raises NotFound."""
    row = tx.db.execute(text(f"{_SELECT} WHERE j.id = :id"), {"id": job_id}).mappings().first()
    if row is None:
        raise NotFound(f"there is no job {job_id}", hint="`torc jobs list` shows the jobs of a workflow")
    return row


@answers(GetJob)
def get_job(tx: Tx, request: GetJob) -> Job:
    """Get one job with its relations."""
    row = job_row(tx, request.job_id)

    def names(query: str, key: Any) -> list[str]:
        return [found[0] for found in tx.db.execute(text(query), {"key": key})]

    return job_of(
        row,
        depends_on=names(
            "SELECT j.name FROM gate_prerequisite p JOIN job j ON j.id = p.job_id WHERE p.gate_id = :key ORDER BY j.id",
            row["gate_id"],
        ),
        input_files=names(
            "SELECT f.name FROM input_file i JOIN file f ON f.id = i.file_id WHERE i.input_set_id = :key ORDER BY f.id",
            row["input_set_id"],
        ),
        output_files=names("SELECT name FROM file WHERE producer_job_id = :key ORDER BY id", row["id"]),
        input_user_data=names(
            "SELECT u.name FROM input_user_data i JOIN user_data u ON u.id = i.user_data_id "
            "WHERE i.input_set_id = :key ORDER BY u.id",
            row["input_set_id"],
        ),
        output_user_data=names("SELECT name FROM user_data WHERE producer_job_id = :key ORDER BY id", row["id"]),
    )


def _named(tx: Tx, workflow_id: int, table: str, names: Sequence[str], what: str, kind: str | None = None) -> list[int]:
    found = []
    for name in dict.fromkeys(names):
        extra = " AND kind = :kind" if kind else ""
        row = tx.db.execute(
            text(f"SELECT id FROM {table} WHERE workflow_id = :id AND name = :name{extra}"),
            {"id": workflow_id, "name": name, "kind": kind} if kind else {"id": workflow_id, "name": name},
        ).first()
        if row is None:
            raise NotFound(
                f"workflow {workflow_id} has no {what} `{name}`",
                hint=f"`torc {what.replace(' ', '-')}s list` shows them",
            )
        found.append(int(row[0]))
    return found


def requirement_id(tx: Tx, workflow_id: int, name: str | None) -> int:
    """Find a requirement class by name; without one, the workflow's default class."""
    if name is not None:
        return _named(tx, workflow_id, "requirement", [name], "resource requirement")[0]
    row = tx.db.execute(
        text("SELECT id FROM requirement WHERE workflow_id = :id AND name = 'default'"), {"id": workflow_id}
    ).first()
    if row is not None:
        return int(row[0])
    number = take_ids(tx.db, "requirement")
    tx.db.execute(
        text(
            "INSERT INTO requirement (id, workflow_id, name, num_cpus, num_gpus, num_nodes, memory_bytes, runtime_seconds) "
            "VALUES (:id, :workflow_id, 'default', 1, 0, 1, 1048576, 3600)"
        ),
        {"id": number, "workflow_id": workflow_id},
    )
    return number


@answers(CreateJob)
def create_job(tx: Tx, request: CreateJob) -> Job:
    """Add a job to a stored workflow."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    taken = tx.db.execute(
        text("SELECT 1 FROM job WHERE workflow_id = :id AND name = :name"), {"id": workflow["id"], "name": request.name}
    ).first()
    if taken:
        raise Conflict(f"workflow {workflow['id']} has a job `{request.name}` already", hint="choose another name")
    inputs = _named(tx, workflow["id"], "file", request.input_files, "file")
    data = _named(tx, workflow["id"], "user_data", request.input_user_data, "user data")
    job_id = take_ids(tx.db, "job")
    for table, names, what in (
        ("file", request.output_files, "file"),
        ("user_data", request.output_user_data, "user data"),
    ):
        _produce(tx, workflow["id"], table, _named(tx, workflow["id"], table, names, what), job_id)
    prerequisites = set(_named(tx, workflow["id"], "job", request.depends_on, "job"))
    prerequisites |= _producers(tx, "file", inputs) | _producers(tx, "user_data", data)
    handler = (
        _named(tx, workflow["id"], "named", [request.failure_handler], "failure handler", "failure_handler")
        if request.failure_handler
        else [None]
    )
    scheduler = (
        _named(tx, workflow["id"], "named", [request.scheduler], "slurm scheduler", "slurm_scheduler")
        if request.scheduler
        else [None]
    )
    values = {
        "id": job_id, "workflow_id": workflow["id"], "name": request.name, "command": request.command,
        "invocation_script": request.invocation_script, "env": json.dumps(request.env) if request.env else None,
        "priority": request.priority, "order_key": -request.priority,
        "requirement_id": requirement_id(tx, workflow["id"], request.requirement),
        "gate_id": _gate(tx, workflow["id"], prerequisites), "input_set_id": _input_set(tx, workflow["id"], inputs, data),
        "failure_handler_id": handler[0], "scheduler_id": scheduler[0],
        "cancel_on_blocking_job_failure": request.cancel_on_blocking_job_failure,
        "supports_termination": request.supports_termination, "has_outputs": bool(request.output_files),
        "state": State.UNINITIALIZED.value, "counted": False, "attempt": 0,
    }  # fmt: skip
    tx.db.execute(
        text(f"INSERT INTO job ({', '.join(values)}) VALUES ({', '.join(':' + key for key in values)})"), values
    )
    moves = Moves(tx.db, tx.dialect, workflow["id"])
    moves.added([job_id])
    moves.initialize([job_id])
    moves.finish(tx.now, tx.actor)
    tx.db.execute(
        text("UPDATE workflow SET version = version + 1, ended_at = NULL, updated_at = :now WHERE id = :id"),
        {"now": tx.now, "id": workflow["id"]},
    )
    tx.event(workflow["id"], "job_created", job_id=job_id, name=request.name)
    return get_job(tx, GetJob(job_id=job_id))


def _produce(tx: Tx, workflow_id: int, table: str, ids: Sequence[int], job_id: int) -> None:
    column = "file_id" if table == "file" else "user_data_id"
    for number in ids:
        row = tx.db.execute(text(f"SELECT name, producer_job_id FROM {table} WHERE id = :id"), {"id": number}).one()
        read = tx.db.execute(text(f"SELECT 1 FROM input_{table} WHERE {column} = :id LIMIT 1"), {"id": number}).first()
        if row[1] is not None or read is not None:
            what = (
                "is written by another job"
                if row[1] is not None
                else "is read by jobs that would not wait for this one"
            )
            raise Conflict(
                f"`{row[0]}` {what}", hint="give the new job an output of its own, or bring in an edited spec with "
                f"`torc workflows reinitialize {workflow_id} --spec SPEC`",
            )  # fmt: skip
        tx.db.execute(text(f"UPDATE {table} SET producer_job_id = :job WHERE id = :id"), {"job": job_id, "id": number})


def _producers(tx: Tx, table: str, ids: Sequence[int]) -> set[int]:
    if not ids:
        return set()
    query = f"SELECT producer_job_id FROM {table} WHERE producer_job_id IS NOT NULL AND id IN {tx.dialect.id_list}"
    return {int(row[0]) for row in tx.db.execute(text(query), {"ids": tx.dialect.ids(ids)})}


def _gate(tx: Tx, workflow_id: int, prerequisites: set[int]) -> int | None:
    if not prerequisites:
        return None
    gate = take_ids(tx.db, "gate")
    open_ones = text(f"SELECT count(*) FROM job WHERE NOT counted AND id IN {tx.dialect.id_list}")
    remaining = tx.db.execute(open_ones, {"ids": tx.dialect.ids(prerequisites)}).scalar_one()
    tx.db.execute(
        text("INSERT INTO gate (id, workflow_id, total, remaining) VALUES (:id, :workflow_id, :total, :remaining)"),
        {"id": gate, "workflow_id": workflow_id, "total": len(prerequisites), "remaining": remaining},
    )
    tx.db.execute(
        text("INSERT INTO gate_prerequisite (job_id, gate_id) VALUES (:job, :gate)"),
        [{"job": job, "gate": gate} for job in sorted(prerequisites)],
    )
    return gate


def _input_set(tx: Tx, workflow_id: int, files: Sequence[int], data: Sequence[int]) -> int | None:
    if not files and not data:
        return None
    number = take_ids(tx.db, "input_set")
    tx.db.execute(
        text("INSERT INTO input_set (id, workflow_id) VALUES (:id, :workflow_id)"),
        {"id": number, "workflow_id": workflow_id},
    )
    for table, column, ids in (("input_file", "file_id", files), ("input_user_data", "user_data_id", data)):
        if ids:
            tx.db.execute(
                text(f"INSERT INTO {table} (input_set_id, {column}) VALUES (:set, :id)"),
                [{"set": number, "id": item} for item in sorted(set(ids))],
            )
    return number


@answers(UpdateJob)
def update_job(tx: Tx, request: UpdateJob) -> Job:
    """Change fields of a job that no runner holds."""
    row = job_row(tx, request.job_id)
    workflow = workflow_row(tx, row["workflow_id"], lock=True)
    if State(row["state"]) in HELD:
        raise Conflict(
            f"job {row['id']} ({row['name']}) is {row['state']}",
            hint="wait for it to end, or cancel it, then change it",
        )
    changes = request.model_dump(exclude={"job_id"}, exclude_none=True)
    values: dict[str, Any] = {
        key: value
        for key, value in changes.items()
        if key not in {"requirement", "failure_handler", "scheduler", "env"}
    }
    if "env" in changes:
        values["env"] = json.dumps(changes["env"]) if changes["env"] else None
    if "priority" in changes:
        values["order_key"] = -changes["priority"]
    if "requirement" in changes:
        values["requirement_id"] = requirement_id(tx, workflow["id"], changes["requirement"])
    for key, kind in (("failure_handler", "failure handler"), ("scheduler", "slurm scheduler")):
        if key in changes:
            values[f"{key}_id"] = _named(tx, workflow["id"], "named", [changes[key]], kind, kind.replace(" ", "_"))[0]
    if values:
        assignments = ", ".join(f"{key} = :{key}" for key in values)
        tx.db.execute(text(f"UPDATE job SET {assignments} WHERE id = :id"), {**values, "id": row["id"]})
        tx.db.execute(
            text("UPDATE workflow SET version = version + 1, updated_at = :now WHERE id = :id"),
            {"now": tx.now, "id": workflow["id"]},
        )
        tx.event(workflow["id"], "job_updated", job_id=row["id"], fields=sorted(changes))
    return get_job(tx, GetJob(job_id=row["id"]))
