"""What jobs read and write: files and user data."""

from __future__ import annotations

from sqlalchemy import RowMapping

from torc.api import data as api
from torc.api.base import Page
from torc.api.workflows import RecordFiles, RecordFilesReply
from torc.operations.dispatch import Tx, answers
from torc.operations.file_paths import check_places
from torc.operations.input_hashes import keep_fingerprints
from torc.operations.named_objects import (
    ObjectKind,
    checked,
    delete_part,
    insert_part,
    locked_part,
    page_of,
    part_row,
    update_part,
)
from torc.operations.row_mapping import workflow_row
from torc.spec import model
from torc.store import files, inputs
from torc.store.json_columns import dumps, loads
from torc.workflow.staleness import FileObservation, to_record

FILE = ObjectKind("file", "file", "files")
USER_DATA = ObjectKind("user_data", "user data", "user-data")


# -- files ------------------------------------------------------------------------------------------------------


def _file(row: RowMapping, num_consumers: int | None = None) -> api.File:
    return api.File(
        id=row["id"],
        workflow_id=row["workflow_id"],
        name=row["name"],
        path=row["path"],
        producer=row["producer"],
        num_consumers=num_consumers,
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
    )


@answers(api.ListFiles)
def list_files(tx: Tx, request: api.ListFiles) -> Page[api.File]:
    """List files."""
    also = files.conditions(required_existing=request.required_existing, read=request.read, written=request.written)
    rows, cursor = page_of(tx, FILE, request, also)
    return Page(items=[_file(row) for row in rows], cursor=cursor)


@answers(api.GetFile)
def get_file(tx: Tx, request: api.GetFile) -> api.File:
    """Get one file."""
    row = part_row(tx, FILE, request.file_id)
    return _file(row, inputs.num_readers(tx.db, tx.dialect, "file", request.file_id))


@answers(api.CreateFile)
def create_file(tx: Tx, request: api.CreateFile) -> api.File:
    """Add a file."""
    checked(model.FileSpec, name=request.name, path=request.path)
    number = insert_part(tx, FILE, request.workflow_id, request.name, {"path": request.path})
    return get_file(tx, api.GetFile(file_id=number))


@answers(api.UpdateFile)
def update_file(tx: Tx, request: api.UpdateFile) -> api.File:
    """Change a file's path. What was known of the former one is forgotten."""
    row = locked_part(tx, FILE, request.file_id)
    checked(model.FileSpec, name=row["name"], path=request.path)
    if request.path != row["path"]:
        forget = {"size_bytes": None, "mtime_ns": None, "sha256": None}
        update_part(tx, FILE, row, {"path": request.path, **forget})
        check_places(tx, workflow_row(tx, row["workflow_id"]), [request.file_id])
    return get_file(tx, api.GetFile(file_id=request.file_id))


@answers(api.DeleteFile)
def delete_file(tx: Tx, request: api.DeleteFile) -> None:
    """Delete a file that nobody uses."""
    delete_part(tx, FILE, request.file_id, lambda row: inputs.first_user(tx.db, tx.dialect, "file", row["id"]))


@answers(RecordFiles)
def record_files(tx: Tx, request: RecordFiles) -> RecordFilesReply:
    """Record how files look, but keep what jobs that completed earlier have seen."""
    workflow_row(tx, request.workflow_id, lock=True)
    facts = {
        fact.path: FileObservation(True, fact.size_bytes, fact.mtime_ns, fact.sha256)
        for fact in request.files
        if fact.exists
    }
    read_before = files.read_before(tx.db, tx.dialect, request.workflow_id, request.since)
    rows: dict[int, FileObservation] = {}
    needs_hash: dict[str, None] = {}
    for file in files.observed(tx.db, tx.dialect, request.workflow_id):
        now = facts.get(file.path)
        if now is None or not file.is_written:
            continue
        new, needs = to_record(file.observation, now, in_use=file.id in read_before)
        if new is not None:
            rows[file.id] = new
        if needs:
            needs_hash[file.path] = None
    files.record(tx.db, tx.dialect, rows)
    return RecordFilesReply(recorded=len(rows), needs_hash=list(needs_hash))


# -- user data --------------------------------------------------------------------------------------------------


def _data(row: RowMapping) -> api.UserData:
    return api.UserData(
        id=row["id"],
        workflow_id=row["workflow_id"],
        name=row["name"],
        data=loads(row["data"]),
        is_ephemeral=bool(row["is_ephemeral"]),
        producer=row["producer"],
    )


@answers(api.ListUserData)
def list_user_data(tx: Tx, request: api.ListUserData) -> Page[api.UserData]:
    """List user data."""
    rows, cursor = page_of(tx, USER_DATA, request)
    return Page(items=[_data(row) for row in rows], cursor=cursor)


@answers(api.GetUserData)
def get_user_data(tx: Tx, request: api.GetUserData) -> api.UserData:
    """Get one piece of user data."""
    return _data(part_row(tx, USER_DATA, request.user_data_id))


@answers(api.CreateUserData)
def create_user_data(tx: Tx, request: api.CreateUserData) -> api.UserData:
    """Add user data."""
    values = {"data": dumps(request.data), "is_ephemeral": request.is_ephemeral}
    number = insert_part(tx, USER_DATA, request.workflow_id, request.name, values)
    return get_user_data(tx, api.GetUserData(user_data_id=number))


@answers(api.SetUserData)
def set_user_data(tx: Tx, request: api.SetUserData) -> api.UserData:
    """Write user data."""
    row = locked_part(tx, USER_DATA, request.user_data_id)
    if dumps(loads(row["data"])) != dumps(request.data):  # as texts: True == 1 to Python
        keep_fingerprints(tx, row["workflow_id"], reading=[row["id"]])
        update_part(tx, USER_DATA, row, {"data": dumps(request.data)})
    return get_user_data(tx, api.GetUserData(user_data_id=request.user_data_id))


@answers(api.DeleteUserData)
def delete_user_data(tx: Tx, request: api.DeleteUserData) -> None:
    """Delete user data that nobody uses."""
    delete_part(
        tx, USER_DATA, request.user_data_id, lambda row: inputs.first_user(tx.db, tx.dialect, "user_data", row["id"])
    )
