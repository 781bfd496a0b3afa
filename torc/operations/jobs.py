"""Jobs: list, look at, add, change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, text

from torc.api.base import Page
from torc.api.jobs import CreateJob, GetJob, Job, ListJobs, UpdateJob
from torc.errors import Conflict, Invalid, NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.file_paths import check_places, writers_of
from torc.operations.input_hashes import keep_fingerprints
from torc.operations.named_objects import checked
from torc.operations.row_mapping import encode_cursor, grow_version, id_range, name_condition, workflow_row
from torc.operations.sliced_storage import check_quota
from torc.spec import model
from torc.spec.expansion.references import find_misplaced
from torc.store.id_blocks import take_ids
from torc.store.json_columns import loads
from torc.store.plan_rows import JOB_COLUMNS
from torc.store.transitions import Transitions
from torc.store.workflows import IN_WORKFLOW
from torc.workflow.states import HELD, State

_SELECT = (
    "SELECT j.*, r.name AS requirement_name, h.name AS handler_name, s.name AS scheduler_name FROM job j "
    "JOIN requirement r ON r.id = j.requirement_id LEFT JOIN named h ON h.id = j.failure_handler_id "
    "LEFT JOIN named s ON s.id = j.scheduler_id "
)

_COMMANDS = {
    "file": "files",
    "user data": "user-data",
    "job": "jobs",
    "resource requirement": "resource-requirements",
    "failure handler": "failure-handlers",
    "slurm scheduler": "slurm-schedulers",
}
_SPEC_FIELDS = {
    "name",
    "command",
    "invocation_script",
    "env",
    "priority",
    "failure_handler",
    "scheduler",
    "depends_on",
    "input_files",
    "output_files",
    "input_user_data",
    "output_user_data",
}
_INSERT = text(
    f"INSERT INTO job ({', '.join(JOB_COLUMNS)}) VALUES ({', '.join(':' + column for column in JOB_COLUMNS)})"
)


def job_of(row: RowMapping, **relations: list[str]) -> Job:
    """Make the value of a job."""
    plain = {
        key: row[key]
        for key in (
            "id",
            "workflow_id",
            "name",
            "command",
            "state",
            "attempt",
            "priority",
            "requirement_id",
            "requirement_name",
            "invocation_script",
            "runner_id",
            "started_at",
            "due_at",
            "return_code",
            "reason",
        )
    }
    return Job(
        **plain,
        env=loads(row["env"], {}),
        failure_handler=row["handler_name"],
        scheduler=row["scheduler_name"],
        cancel_on_blocking_job_failure=bool(row["cancel_on_blocking_job_failure"]),
        supports_termination=bool(row["supports_termination"]),
        keep_background_processes=bool(row["keep_background_processes"]),
        **relations,  # type: ignore[arg-type]
    )


@answers(ListJobs)
def list_jobs(tx: Tx, request: ListJobs) -> Page[Job]:
    """List jobs in order of id."""
    workflow_row(tx, request.workflow_id)
    after, last = id_range(tx, "job", request.workflow_id, request.cursor)
    # by range of ids unless it is about one name: the plus keeps databases from finding all jobs and sorting them
    where = ["+j.workflow_id = :workflow_id", "j.id > :after", "j.id <= :last"]
    values: dict[str, Any] = {"workflow_id": request.workflow_id, "after": after, "last": last, "n": request.limit + 1}
    if request.state is not None:
        where.append("j.state = :state")
        values["state"] = request.state.value
    if request.name is not None:
        condition, named = name_condition(tx, "j.name", request.name)
        where += [condition, "j.workflow_id = :workflow_id"]
        values |= named
    if request.requirement_id is not None:
        where.append("j.requirement_id = :requirement_id")
        values["requirement_id"] = request.requirement_id
    if request.runner_id is not None:
        where.append("j.runner_id = :runner_id")
        values["runner_id"] = request.runner_id
    query = f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY j.id LIMIT :n"
    rows = tx.db.execute(text(query), values).mappings().all()
    items = [job_of(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id, last) if len(rows) > request.limit else None)


def job_row(tx: Tx, job_id: int) -> RowMapping:
    """Return the row of a job. Raises NotFound."""
    row = (
        tx.db.execute(text(f"{_SELECT} WHERE j.id = :id AND {IN_WORKFLOW.format('j')}"), {"id": job_id})
        .mappings()
        .first()
    )
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
                hint=f"`torc {_COMMANDS[what]} list {workflow_id}` shows what there is",
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
    workflow_id = workflow["id"]
    check_quota(tx, workflow["user"], 1)
    _check_fields(request)
    taken = tx.db.execute(
        text("SELECT id FROM job WHERE workflow_id = :id AND name = :name"), {"id": workflow_id, "name": request.name}
    ).first()
    if taken:
        raise Conflict(
            f"workflow {workflow_id} has a job `{request.name}` already",
            hint=f"choose another name, or change the job that is there: torc jobs update {taken[0]}",
        )
    job_id = take_ids(tx.db, "job")
    tx.db.execute(_INSERT, _columns(tx, workflow, job_id, request))
    check_places(tx, workflow, _named(tx, workflow_id, "file", request.output_files, "file"))
    moves = Transitions(tx.db, tx.dialect, workflow_id)
    moves.added([job_id])
    moves.initialize([job_id])
    moves.finish(tx.now, tx.actor)
    created = get_job(tx, GetJob(job_id=job_id))
    if created.state in {State.READY, State.BLOCKED}:
        tx.db.execute(text("UPDATE workflow SET ended_at = NULL WHERE id = :id"), {"id": workflow_id})
    grow_version(tx, workflow_id)
    tx.event(workflow_id, "job_created", job_id=job_id, name=request.name)
    return created


def _check_fields(request: CreateJob | UpdateJob, name: str = "x") -> None:
    """Check what a job of a spec must be, too. Raises Invalid."""
    given = request.model_dump(include=_SPEC_FIELDS & request.model_fields_set, exclude_none=True)
    given = {key: value for key, value in given.items() if value != "" or key in {"name", "command"}}
    checked(model.Job, **{"name": name, "command": "x", **given})
    texts = [given.get("command"), given.get("invocation_script"), *(given.get("env") or {}).values()]
    for found in (found for text_ in texts if text_ for found in find_misplaced(text_)):
        raise Invalid(
            f"`{found.text}` would not be replaced here",
            hint="references are replaced only in specs: write the path or the id, or reinitialize with an edited spec",
        )


def _columns(tx: Tx, workflow: RowMapping, job_id: int, request: CreateJob) -> dict[str, Any]:
    workflow_id = workflow["id"]
    inputs = _named(tx, workflow_id, "file", request.input_files, "file")
    data = _named(tx, workflow_id, "user_data", request.input_user_data, "user data")
    for table, names, what in (
        ("file", request.output_files, "file"),
        ("user_data", request.output_user_data, "user data"),
    ):
        _produce(tx, workflow_id, table, _named(tx, workflow_id, table, names, what), job_id)
    prerequisites = set(_named(tx, workflow_id, "job", request.depends_on, "job"))
    prerequisites |= writers_of(tx, workflow, inputs, job_id) | _data_producers(tx, data)
    if job_id in prerequisites:
        raise Conflict(f"job `{request.name}` would wait for itself", hint="a job cannot read what it writes")
    return {
        "id": job_id,
        "workflow_id": workflow_id,
        "name": request.name,
        "command": request.command,
        "invocation_script": request.invocation_script or None,
        "env": json.dumps(request.env) if request.env else None,
        "priority": request.priority,
        "order_key": -request.priority,
        "requirement_id": requirement_id(tx, workflow_id, request.requirement),
        "gate_id": _gate(tx, workflow_id, prerequisites),
        "input_set_id": _input_set(tx, workflow_id, inputs, data),
        "failure_handler_id": _handler_or_scheduler(tx, workflow_id, "failure handler", request.failure_handler),
        "scheduler_id": _handler_or_scheduler(tx, workflow_id, "slurm scheduler", request.scheduler),
        "cancel_on_blocking_job_failure": request.cancel_on_blocking_job_failure,
        "supports_termination": request.supports_termination,
        "keep_background_processes": request.keep_background_processes or None,
        "has_outputs": bool(request.output_files),
        "state": State.UNINITIALIZED.value,
        "counted": False,
        "attempt": 0,
    }


def _handler_or_scheduler(tx: Tx, workflow_id: int, what: str, name: str | None) -> int | None:
    return _named(tx, workflow_id, "named", [name], what, what.replace(" ", "_"))[0] if name else None


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
                f"`{row[0]}` {what}",
                hint="give the new job an output of its own, or bring in an edited spec with "
                f"`torc workflows reinitialize {workflow_id} --spec SPEC`",
            )
        tx.db.execute(text(f"UPDATE {table} SET producer_job_id = :job WHERE id = :id"), {"job": job_id, "id": number})


def _data_producers(tx: Tx, ids: Sequence[int]) -> set[int]:
    if not ids:
        return set()
    query = f"SELECT producer_job_id FROM user_data WHERE producer_job_id IS NOT NULL AND id IN {tx.dialect.id_list}"
    return {int(row[0]) for row in tx.db.execute(text(query), {"ids": tx.dialect.ids(ids)})}


def _gate(tx: Tx, workflow_id: int, prerequisites: set[int]) -> int | None:
    if not prerequisites:
        return None
    gate = take_ids(tx.db, "gate")
    open_ones = text(f"SELECT count(*) FROM job WHERE NOT counted AND id IN {tx.dialect.id_list}")
    remaining = tx.db.execute(open_ones, {"ids": tx.dialect.ids(prerequisites)}).scalar_one()
    before = text(
        "SELECT max(CASE WHEN j.gate_id IS NULL THEN 0 ELSE g.stage END), sum(CASE WHEN j.gate_id IS NULL OR g.stage IS NOT NULL "
        f"THEN 0 ELSE 1 END) FROM job j LEFT JOIN gate g ON g.id = j.gate_id WHERE j.id IN {tx.dialect.id_list}"
    )
    last, unknown = tx.db.execute(before, {"ids": tx.dialect.ids(prerequisites)}).one()
    tx.db.execute(
        text(
            "INSERT INTO gate (id, workflow_id, total, remaining, stage) "
            "VALUES (:id, :workflow_id, :total, :remaining, :stage)"
        ),
        {
            "id": gate,
            "workflow_id": workflow_id,
            "total": len(prerequisites),
            "remaining": remaining,
            "stage": None if unknown else last + 1,
        },
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


#: what makes up what a job runs
_EXECUTED = {"command", "invocation_script", "env"}


@answers(UpdateJob)
def update_job(tx: Tx, request: UpdateJob) -> Job:
    """Change fields of a job that no runner holds."""
    workflow = workflow_row(tx, job_row(tx, request.job_id)["workflow_id"], lock=True)
    row = job_row(tx, request.job_id)
    if State(row["state"]) in HELD:
        raise Conflict(
            f"job {row['id']} ({row['name']}) is {row['state']}",
            hint="wait for it to end, or cancel it, then change it",
        )
    _check_fields(request)
    changes = request.model_dump(exclude={"job_id"}, exclude_none=True)
    values: dict[str, Any] = {
        key: value
        for key, value in changes.items()
        if key not in {"requirement", "failure_handler", "scheduler", "env"}
    }
    if "env" in changes:
        values["env"] = json.dumps(changes["env"]) if changes["env"] else None
    if "invocation_script" in changes:
        values["invocation_script"] = changes["invocation_script"] or None
    if "keep_background_processes" in changes:
        values["keep_background_processes"] = changes["keep_background_processes"] or None
    if "priority" in changes:
        values["order_key"] = -changes["priority"]
    if "requirement" in changes:
        values["requirement_id"] = requirement_id(tx, workflow["id"], changes["requirement"])
    for key, what in (("failure_handler", "failure handler"), ("scheduler", "slurm scheduler")):
        if key in changes:
            values[f"{key}_id"] = _handler_or_scheduler(tx, workflow["id"], what, changes[key])
    if values:
        keep_fingerprints(tx, workflow["id"], "id = :job_id", job_id=row["id"])
        assignments = ", ".join(f"{key} = :{key}" for key in values)
        tx.db.execute(text(f"UPDATE job SET {assignments} WHERE id = :id"), {**values, "id": row["id"]})
        if _EXECUTED & values.keys():
            Transitions(tx.db, tx.dialect, workflow["id"]).close_lost([row["id"]])
        for field in {"command", "invocation_script"} & values.keys():  # ids in what was typed are just numbers
            forget = text("DELETE FROM mention WHERE job_id = :id AND field = :field")
            tx.db.execute(forget, {"id": row["id"], "field": field})
        grow_version(tx, workflow["id"])
        tx.event(workflow["id"], "job_updated", job_id=row["id"], fields=sorted(changes))
    return get_job(tx, GetJob(job_id=row["id"]))
