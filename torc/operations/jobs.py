"""Jobs: list, look at, add, change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping

from torc.api.base import Page
from torc.api.jobs import CreateJob, GetJob, Job, ListJobs, UpdateJob
from torc.errors import Conflict, Invalid, NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.file_paths import check_places, writers_of
from torc.operations.input_hashes import keep_fingerprints
from torc.operations.named_objects import checked
from torc.operations.row_mapping import encode_cursor, grow_version, id_range, workflow_row
from torc.operations.sliced_storage import check_quota
from torc.planning.scheduler_types import DEFAULT_TYPE
from torc.spec import model
from torc.spec.expansion.references import find_misplaced
from torc.spec.plan import EXECUTED_FIELDS, JOB_FIELDS, JOB_TEXTS
from torc.store import gates, inputs, jobs, named, requirements, rows, workflows
from torc.store.id_blocks import take_ids
from torc.store.job_fields import fields_of, stored
from torc.store.transitions import Transitions
from torc.workflow.resources import DEFAULT_CLASS, ResourceRequest
from torc.workflow.states import HELD, State

_COMMANDS = {
    "file": "files",
    "user data": "user-data",
    "job": "jobs",
    "resource requirement": "resource-requirements",
    "failure handler": "failure-handlers",
}
_RELATIONS = ("depends_on", "input_files", "output_files", "input_user_data", "output_user_data")
#: what is checked as in a spec
_SPEC_FIELDS = {"name", "failure_handler", "scheduler", *_RELATIONS, *(field.name for field in JOB_FIELDS)}
_EDITABLE = {field.name: field for field in JOB_FIELDS if field.is_editable}
#: columns of a job that are shown as they are
_SHOWN = (
    "id",
    "workflow_id",
    "name",
    "state",
    "attempt",
    "requirement_id",
    "requirement_name",
    "runner_id",
    "started_at",
    "due_at",
    "return_code",
    "reason",
)


def job_of(row: RowMapping, **relations: list[str]) -> Job:
    """Make the value of a job."""
    return Job(
        **{column: row[column] for column in _SHOWN},
        **fields_of(row),
        failure_handler=row["handler_name"],
        scheduler=row["scheduler_name"],
        **relations,  # type: ignore[arg-type]
    )


@answers(ListJobs)
def list_jobs(tx: Tx, request: ListJobs) -> Page[Job]:
    """List jobs in order of id."""
    workflow_row(tx, request.workflow_id)
    after, last = id_range(tx, "job", request.workflow_id, request.cursor)
    which = jobs.JobFilter(request.state, request.name, request.requirement_id, request.runner_id)
    rows = jobs.page(tx.db, tx.dialect, request.workflow_id, (after, last), request.limit + 1, which)
    items = [job_of(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id, last) if len(rows) > request.limit else None)


def job_row(tx: Tx, job_id: int) -> RowMapping:
    """Return the row of a job. Raises NotFound."""
    row = jobs.get(tx.db, job_id)
    if row is None:
        raise NotFound(f"there is no job {job_id}", hint="`torc jobs list` shows the jobs of a workflow")
    return row


@answers(GetJob)
def get_job(tx: Tx, request: GetJob) -> Job:
    """Get one job with its relations."""
    row = job_row(tx, request.job_id)
    return job_of(row, **jobs.relations(tx.db, tx.dialect, row))


def _named(tx: Tx, workflow_id: int, table: str, names: Sequence[str], what: str, kind: str | None = None) -> list[int]:
    found = []
    for name in dict.fromkeys(names):
        number = rows.id_of(tx.db, table, workflow_id, name, kind)
        if number is None:
            raise NotFound(
                f"workflow {workflow_id} has no {what} `{name}`",
                hint=f"`torc {_COMMANDS[what]} list {workflow_id}` shows what there is",
            )
        found.append(number)
    return found


def requirement_id(tx: Tx, workflow_id: int, name: str | None) -> int:
    """Find a requirement class by name; without one, the workflow's default class."""
    if name is not None:
        return _named(tx, workflow_id, "requirement", [name], "resource requirement")[0]
    number = rows.id_of(tx.db, "requirement", workflow_id, DEFAULT_CLASS)
    if number is None:
        number = requirements.insert(tx.db, tx.dialect, workflow_id, DEFAULT_CLASS, ResourceRequest())
    return number


@answers(CreateJob)
def create_job(tx: Tx, request: CreateJob) -> Job:
    """Add a job to a stored workflow."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    workflow_id = workflow["id"]
    check_quota(tx, workflow["user"], 1)
    _check_fields(request)
    taken = rows.id_of(tx.db, "job", workflow_id, request.name)
    if taken is not None:
        raise Conflict(
            f"workflow {workflow_id} has a job `{request.name}` already",
            hint=f"choose another name, or change the job that is there: torc jobs update {taken}",
        )
    job_id = take_ids(tx.db, "job")
    jobs.insert(tx.db, _columns(tx, workflow, job_id, request))
    check_places(tx, workflow, _named(tx, workflow_id, "file", request.output_files, "file"))
    moves = Transitions(tx.db, tx.dialect, workflow_id)
    moves.added([job_id])
    moves.initialize([job_id])
    moves.finish(tx.now, tx.actor)
    created = get_job(tx, GetJob(job_id=job_id))
    if created.state in {State.READY, State.BLOCKED}:
        workflows.update(tx.db, workflow_id, {"ended_at": None})
    grow_version(tx, workflow_id)
    tx.event(workflow_id, "job_created", job_id=job_id, name=request.name)
    return created


def _check_fields(request: CreateJob | UpdateJob, name: str = "x") -> None:
    """Check what a job of a spec must be, too. Raises Invalid."""
    given = request.model_dump(include=_SPEC_FIELDS & request.model_fields_set, exclude_none=True)
    given = {key: value for key, value in given.items() if value != "" or key in {"name", "command"}}
    checked(model.JobSpec, **{"name": name, "command": "x", **given})
    texts = [given.get("command"), given.get("invocation_script"), *(given.get("env") or {}).values()]
    for found in (found for text_ in texts if text_ for found in find_misplaced(text_)):
        raise Invalid(
            f"`{found.text}` would not be replaced here",
            hint="references are replaced only in specs: write the path or the id, or reinitialize with an edited spec",
        )


def _columns(tx: Tx, workflow: RowMapping, job_id: int, request: CreateJob) -> dict[str, Any]:
    workflow_id = workflow["id"]
    files = _named(tx, workflow_id, "file", request.input_files, "file")
    data = _named(tx, workflow_id, "user_data", request.input_user_data, "user data")
    _produce(tx, workflow_id, "file", _named(tx, workflow_id, "file", request.output_files, "file"), job_id)
    _produce(
        tx,
        workflow_id,
        "user_data",
        _named(tx, workflow_id, "user_data", request.output_user_data, "user data"),
        job_id,
    )
    prerequisites = set(_named(tx, workflow_id, "job", request.depends_on, "job"))
    prerequisites |= writers_of(tx, workflow, files, job_id) | inputs.producers(tx.db, tx.dialect, "user_data", data)
    if job_id in prerequisites:
        raise Conflict(f"job `{request.name}` would wait for itself", hint="a job cannot read what it writes")
    return {
        "id": job_id,
        "workflow_id": workflow_id,
        "name": request.name,
        **{field.name: stored(field, getattr(request, field.name)) for field in JOB_FIELDS},
        "order_key": -request.priority,
        "requirement_id": requirement_id(tx, workflow_id, request.requirement),
        "gate_id": gates.add(tx.db, tx.dialect, workflow_id, prerequisites),
        "input_set_id": inputs.add_set(tx.db, workflow_id, files, data),
        "failure_handler_id": _handler_id(tx, workflow_id, request.failure_handler),
        "scheduler_id": _scheduler_id(tx, workflow_id, request.scheduler),
        "has_outputs": bool(request.output_files),
    }


def _handler_id(tx: Tx, workflow_id: int, name: str | None) -> int | None:
    return _named(tx, workflow_id, "named", [name], "failure handler", "failure_handler")[0] if name else None


def _scheduler_id(tx: Tx, workflow_id: int, name: str | None) -> int | None:
    """Find a scheduler of whatever type: their names are all different."""
    if not name:
        return None
    for found in named.schedulers(tx.db, tx.dialect, workflow_id):
        if found.name == name:
            return found.id
    raise NotFound(
        f"workflow {workflow_id} has no {DEFAULT_TYPE.noun.lower()} `{name}`",
        hint=f"`torc {DEFAULT_TYPE.commands} list {workflow_id}` shows what there is",
    )


def _produce(tx: Tx, workflow_id: int, table: inputs.Table, ids: Sequence[int], job_id: int) -> None:
    for number in ids:
        found = inputs.written(tx.db, table, number)
        if found.producer_job_id is not None or found.is_read:
            what = (
                "is written by another job"
                if found.producer_job_id is not None
                else "is read by jobs that would not wait for this one"
            )
            raise Conflict(
                f"`{found.name}` {what}",
                hint="give the new job an output of its own, or bring in an edited spec with "
                f"`torc workflows reinitialize {workflow_id} --spec SPEC`",
            )
        inputs.set_producer(tx.db, table, number, job_id)


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
    values = {name: stored(field, changes[name]) for name, field in _EDITABLE.items() if name in changes}
    if "priority" in changes:
        values["order_key"] = -changes["priority"]
    if "requirement" in changes:
        values["requirement_id"] = requirement_id(tx, workflow["id"], changes["requirement"])
    if "failure_handler" in changes:
        values["failure_handler_id"] = _handler_id(tx, workflow["id"], changes["failure_handler"])
    if "scheduler" in changes:
        values["scheduler_id"] = _scheduler_id(tx, workflow["id"], changes["scheduler"])
    if values:
        keep_fingerprints(tx, workflow["id"], job=row["id"])
        jobs.update(tx.db, row["id"], values)
        if any(field.name in values for field in EXECUTED_FIELDS):
            Transitions(tx.db, tx.dialect, workflow["id"]).close_lost([row["id"]])
        for field in JOB_TEXTS:
            if field.name in values:
                jobs.forget_mentions(tx.db, row["id"], field.name)
        grow_version(tx, workflow["id"])
        tx.event(workflow["id"], "job_updated", job_id=row["id"], fields=sorted(changes))
    return get_job(tx, GetJob(job_id=row["id"]))
