"""Files, user data, requirement classes, failure handlers and Slurm schedulers: what jobs read, write and ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import RowMapping, text

from torc.api import data as api
from torc.api.base import Page
from torc.errors import Conflict, Invalid, NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.rows import decode_cursor, encode_cursor, glob, is_glob, loads, workflow_row
from torc.spec import model
from torc.store.ids import take_ids


class _Kind(NamedTuple):
    """A kind of thing that belongs to a workflow and has a name."""

    table: str
    noun: str
    command: str
    kind: str | None = None


_FILE = _Kind("file", "file", "files")
_USER_DATA = _Kind("user_data", "user data", "user-data")
_REQUIREMENT = _Kind("requirement", "resource requirement", "resource-requirements")
_HANDLER = _Kind("named", "failure handler", "failure-handlers", "failure_handler")
_SCHEDULER = _Kind("named", "Slurm scheduler", "slurm-schedulers", "slurm_scheduler")
_WITH_PRODUCER = ", (SELECT j.name FROM job j WHERE j.id = t.producer_job_id) AS producer"


def _row(tx: Tx, kind: _Kind, number: int) -> RowMapping:
    producer = _WITH_PRODUCER if kind.table in {"file", "user_data"} else ""
    row = (
        tx.db.execute(text(f"SELECT t.*{producer} FROM {kind.table} t WHERE t.id = :id"), {"id": number})
        .mappings()
        .first()
    )
    if row is None or (kind.kind is not None and row["kind"] != kind.kind):
        raise NotFound(f"there is no {kind.noun} {number}", hint=f"`torc {kind.command} list` shows what there is")
    return row


def _page(tx: Tx, kind: _Kind, request: Any, where: str = "") -> tuple[list[RowMapping], str | None]:
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    values: dict[str, Any] = {"workflow_id": request.workflow_id, "after": key[0] if key else 0, "n": request.limit + 1}
    conditions = "t.workflow_id = :workflow_id AND t.id > :after" + where
    name = getattr(request, "name", None)
    if name is not None:
        conditions += " AND t.name LIKE :name ESCAPE '\\'" if is_glob(name) else " AND t.name = :name"
        values["name"] = glob(name) if is_glob(name) else name
    if kind.kind is not None:
        conditions += " AND t.kind = :kind"
        values["kind"] = kind.kind
    producer = _WITH_PRODUCER if kind.table in {"file", "user_data"} else ""
    query = f"SELECT t.*{producer} FROM {kind.table} t WHERE {conditions} ORDER BY t.id LIMIT :n"
    rows = list(tx.db.execute(text(query), values).mappings())
    more = len(rows) > request.limit
    rows = rows[: request.limit]
    return rows, encode_cursor(rows[-1]["id"]) if more else None


def _insert(tx: Tx, kind: _Kind, workflow_id: int, name: str, values: Mapping[str, Any]) -> int:
    workflow_row(tx, workflow_id, lock=True)
    of_kind = " AND kind = :kind" if kind.kind else ""
    taken = tx.db.execute(
        text(f"SELECT 1 FROM {kind.table} WHERE workflow_id = :id AND name = :name{of_kind}"),
        {"id": workflow_id, "name": name, **({"kind": kind.kind} if kind.kind else {})},
    ).first()
    if taken:
        raise Conflict(f"workflow {workflow_id} has a {kind.noun} `{name}` already", hint="choose another name")
    number = take_ids(tx.db, kind.table)
    row = {"id": number, "workflow_id": workflow_id, "name": name, **values}
    if kind.kind:
        row["kind"] = kind.kind
    tx.db.execute(text(f"INSERT INTO {kind.table} ({', '.join(row)}) VALUES ({', '.join(':' + k for k in row)})"), row)
    _changed(tx, workflow_id, kind, "created", number)
    return number


def _update(tx: Tx, kind: _Kind, number: int, values: Mapping[str, Any]) -> None:
    row = _row(tx, kind, number)
    workflow_row(tx, row["workflow_id"], lock=True)
    if values:
        assignments = ", ".join(f"{key} = :{key}" for key in values)
        tx.db.execute(text(f"UPDATE {kind.table} SET {assignments} WHERE id = :id"), {**values, "id": number})
        _changed(tx, row["workflow_id"], kind, "updated", number)


def _delete(tx: Tx, kind: _Kind, number: int, used_by: str) -> None:
    row = _row(tx, kind, number)
    workflow_row(tx, row["workflow_id"], lock=True)
    used = tx.db.execute(text(used_by), {"id": number}).first()
    if used:
        raise Conflict(
            f"{kind.noun} `{row['name']}` is used by job `{used[0]}`", hint="change or delete what uses it first"
        )
    tx.db.execute(text(f"DELETE FROM {kind.table} WHERE id = :id"), {"id": number})
    _changed(tx, row["workflow_id"], kind, "deleted", number)


def _changed(tx: Tx, workflow_id: int, kind: _Kind, what: str, number: int) -> None:
    tx.db.execute(
        text("UPDATE workflow SET version = version + 1, updated_at = :now WHERE id = :id"),
        {"now": tx.now, "id": workflow_id},
    )
    tx.event(workflow_id, f"{kind.kind or kind.table}_{what}", id=number)


# -- files ------------------------------------------------------------------------------------------------------


def _file(row: RowMapping, num_consumers: int | None = None) -> api.File:
    return api.File(
        id=row["id"], workflow_id=row["workflow_id"], name=row["name"], path=row["path"], producer=row["producer"],
        num_consumers=num_consumers,
    )  # fmt: skip


@answers(api.ListFiles)
def list_files(tx: Tx, request: api.ListFiles) -> Page[api.File]:
    """List files."""
    where = ""
    if request.required_existing:
        where += " AND t.producer_job_id IS NULL AND EXISTS (SELECT 1 FROM input_file i WHERE i.file_id = t.id)"
    if request.written:
        where += " AND t.producer_job_id IS NOT NULL"
    rows, cursor = _page(tx, _FILE, request, where)
    return Page(items=[_file(row) for row in rows], cursor=cursor)


@answers(api.GetFile)
def get_file(tx: Tx, request: api.GetFile) -> api.File:
    """Get one file."""
    row = _row(tx, _FILE, request.file_id)
    count = tx.db.execute(
        text(
            "SELECT count(*) FROM job WHERE input_set_id IN (SELECT input_set_id FROM input_file WHERE file_id = :id)"
        ),
        {"id": request.file_id},
    ).scalar_one()
    return _file(row, count)


@answers(api.CreateFile)
def create_file(tx: Tx, request: api.CreateFile) -> api.File:
    """Add a file."""
    number = _insert(tx, _FILE, request.workflow_id, request.name, {"path": request.path})
    return get_file(tx, api.GetFile(file_id=number))


@answers(api.UpdateFile)
def update_file(tx: Tx, request: api.UpdateFile) -> api.File:
    """Change a file's path."""
    _update(tx, _FILE, request.file_id, {"path": request.path, "size_bytes": None, "mtime_ns": None, "sha256": None})
    return get_file(tx, api.GetFile(file_id=request.file_id))


@answers(api.DeleteFile)
def delete_file(tx: Tx, request: api.DeleteFile) -> None:
    """Delete a file that nobody uses."""
    _delete(
        tx, _FILE, request.file_id,
        "SELECT name FROM job WHERE id = (SELECT producer_job_id FROM file WHERE id = :id) OR input_set_id IN "
        "(SELECT input_set_id FROM input_file WHERE file_id = :id) LIMIT 1",
    )  # fmt: skip


# -- user data --------------------------------------------------------------------------------------------------


def _data(row: RowMapping) -> api.UserData:
    value = row["data"]
    return api.UserData(
        id=row["id"], workflow_id=row["workflow_id"], name=row["name"], data=loads(value),
        is_ephemeral=bool(row["is_ephemeral"]), producer=row["producer"],
    )  # fmt: skip


@answers(api.ListUserData)
def list_user_data(tx: Tx, request: api.ListUserData) -> Page[api.UserData]:
    """List user data."""
    rows, cursor = _page(tx, _USER_DATA, request)
    return Page(items=[_data(row) for row in rows], cursor=cursor)


@answers(api.GetUserData)
def get_user_data(tx: Tx, request: api.GetUserData) -> api.UserData:
    """Get one piece of user data."""
    return _data(_row(tx, _USER_DATA, request.user_data_id))


@answers(api.CreateUserData)
def create_user_data(tx: Tx, request: api.CreateUserData) -> api.UserData:
    """Add user data."""
    values = {"data": json.dumps(request.data), "is_ephemeral": request.is_ephemeral}
    number = _insert(tx, _USER_DATA, request.workflow_id, request.name, values)
    return get_user_data(tx, api.GetUserData(user_data_id=number))


@answers(api.SetUserData)
def set_user_data(tx: Tx, request: api.SetUserData) -> api.UserData:
    """Write user data."""
    _update(tx, _USER_DATA, request.user_data_id, {"data": json.dumps(request.data)})
    return get_user_data(tx, api.GetUserData(user_data_id=request.user_data_id))


@answers(api.DeleteUserData)
def delete_user_data(tx: Tx, request: api.DeleteUserData) -> None:
    """Delete user data that nobody uses."""
    _delete(
        tx, _USER_DATA, request.user_data_id,
        "SELECT name FROM job WHERE id = (SELECT producer_job_id FROM user_data WHERE id = :id) OR input_set_id IN "
        "(SELECT input_set_id FROM input_user_data WHERE user_data_id = :id) LIMIT 1",
    )  # fmt: skip


# -- requirement classes ----------------------------------------------------------------------------------------


def _requirement(row: RowMapping, num_jobs: int | None = None) -> api.Requirement:
    return api.Requirement(**{key: row[key] for key in row}, num_jobs=num_jobs)


@answers(api.ListRequirements)
def list_requirements(tx: Tx, request: api.ListRequirements) -> Page[api.Requirement]:
    """List requirement classes."""
    rows, cursor = _page(tx, _REQUIREMENT, request)
    return Page(items=[_requirement(row) for row in rows], cursor=cursor)


@answers(api.GetRequirement)
def get_requirement(tx: Tx, request: api.GetRequirement) -> api.Requirement:
    """Get one requirement class."""
    row = _row(tx, _REQUIREMENT, request.requirement_id)
    jobs = tx.db.execute(text("SELECT count(*) FROM job WHERE requirement_id = :id"), {"id": row["id"]}).scalar_one()
    return _requirement(row, jobs)


@answers(api.CreateRequirement)
def create_requirement(tx: Tx, request: api.CreateRequirement) -> api.Requirement:
    """Add a requirement class."""
    values = request.model_dump(exclude={"workflow_id", "name"})
    number = _insert(tx, _REQUIREMENT, request.workflow_id, request.name, values)
    return get_requirement(tx, api.GetRequirement(requirement_id=number))


@answers(api.UpdateRequirement)
def update_requirement(tx: Tx, request: api.UpdateRequirement) -> api.Requirement:
    """Change a requirement class."""
    values = request.model_dump(exclude={"requirement_id"}, exclude_none=True)
    _update(tx, _REQUIREMENT, request.requirement_id, values)
    return get_requirement(tx, api.GetRequirement(requirement_id=request.requirement_id))


@answers(api.DeleteRequirement)
def delete_requirement(tx: Tx, request: api.DeleteRequirement) -> None:
    """Delete a requirement class that no job uses."""
    _delete(tx, _REQUIREMENT, request.requirement_id, "SELECT name FROM job WHERE requirement_id = :id LIMIT 1")


# -- failure handlers and Slurm schedulers ----------------------------------------------------------------------


def _checked(kind: type[model.Part], name: str, fields: Mapping[str, Any]) -> str:
    """Check fields as those of a spec and give them as JSON."""
    try:
        kind.model_validate({"name": name, **fields})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(
            f"`{place}`: {first['msg']}", hint="write the fields as in a spec: `torc schema` prints them"
        ) from None
    return json.dumps(dict(fields))


def _handler(row: RowMapping) -> api.FailureHandler:
    return api.FailureHandler(
        id=row["id"], workflow_id=row["workflow_id"], name=row["name"], fields=loads(row["fields"], {})
    )


def _scheduler(row: RowMapping) -> api.SlurmScheduler:
    return api.SlurmScheduler(
        id=row["id"], workflow_id=row["workflow_id"], name=row["name"], fields=loads(row["fields"], {})
    )


@answers(api.ListFailureHandlers)
def list_failure_handlers(tx: Tx, request: api.ListFailureHandlers) -> Page[api.FailureHandler]:
    """List failure handlers."""
    rows, cursor = _page(tx, _HANDLER, request)
    return Page(items=[_handler(row) for row in rows], cursor=cursor)


@answers(api.GetFailureHandler)
def get_failure_handler(tx: Tx, request: api.GetFailureHandler) -> api.FailureHandler:
    """Get one failure handler."""
    return _handler(_row(tx, _HANDLER, request.failure_handler_id))


@answers(api.CreateFailureHandler)
def create_failure_handler(tx: Tx, request: api.CreateFailureHandler) -> api.FailureHandler:
    """Add a failure handler."""
    fields = _checked(model.FailureHandler, request.name, request.fields)
    number = _insert(tx, _HANDLER, request.workflow_id, request.name, {"fields": fields})
    return get_failure_handler(tx, api.GetFailureHandler(failure_handler_id=number))


@answers(api.UpdateFailureHandler)
def update_failure_handler(tx: Tx, request: api.UpdateFailureHandler) -> api.FailureHandler:
    """Replace the fields of a failure handler."""
    row = _row(tx, _HANDLER, request.failure_handler_id)
    _update(tx, _HANDLER, row["id"], {"fields": _checked(model.FailureHandler, row["name"], request.fields)})
    return get_failure_handler(tx, api.GetFailureHandler(failure_handler_id=row["id"]))


@answers(api.DeleteFailureHandler)
def delete_failure_handler(tx: Tx, request: api.DeleteFailureHandler) -> None:
    """Delete a failure handler that no job uses."""
    _delete(tx, _HANDLER, request.failure_handler_id, "SELECT name FROM job WHERE failure_handler_id = :id LIMIT 1")


@answers(api.ListSlurmSchedulers)
def list_slurm_schedulers(tx: Tx, request: api.ListSlurmSchedulers) -> Page[api.SlurmScheduler]:
    """List Slurm schedulers."""
    rows, cursor = _page(tx, _SCHEDULER, request)
    return Page(items=[_scheduler(row) for row in rows], cursor=cursor)


@answers(api.GetSlurmScheduler)
def get_slurm_scheduler(tx: Tx, request: api.GetSlurmScheduler) -> api.SlurmScheduler:
    """Get one Slurm scheduler."""
    return _scheduler(_row(tx, _SCHEDULER, request.slurm_scheduler_id))


@answers(api.CreateSlurmScheduler)
def create_slurm_scheduler(tx: Tx, request: api.CreateSlurmScheduler) -> api.SlurmScheduler:
    """Add a Slurm scheduler."""
    fields = _checked(model.SlurmScheduler, request.name, request.fields)
    number = _insert(tx, _SCHEDULER, request.workflow_id, request.name, {"fields": fields})
    return get_slurm_scheduler(tx, api.GetSlurmScheduler(slurm_scheduler_id=number))


@answers(api.UpdateSlurmScheduler)
def update_slurm_scheduler(tx: Tx, request: api.UpdateSlurmScheduler) -> api.SlurmScheduler:
    """Replace the fields of a Slurm scheduler."""
    row = _row(tx, _SCHEDULER, request.slurm_scheduler_id)
    _update(tx, _SCHEDULER, row["id"], {"fields": _checked(model.SlurmScheduler, row["name"], request.fields)})
    return get_slurm_scheduler(tx, api.GetSlurmScheduler(slurm_scheduler_id=row["id"]))


@answers(api.DeleteSlurmScheduler)
def delete_slurm_scheduler(tx: Tx, request: api.DeleteSlurmScheduler) -> None:
    """Delete a Slurm scheduler that no job uses."""
    _delete(tx, _SCHEDULER, request.slurm_scheduler_id, "SELECT name FROM job WHERE scheduler_id = :id LIMIT 1")
