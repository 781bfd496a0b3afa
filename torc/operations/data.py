"""What jobs read and write: files and user data."""

from __future__ import annotations

import json

from sqlalchemy import RowMapping, text

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
from torc.store.json_columns import loads
from torc.workflow.staleness import FileObservation, to_record

_PRODUCER = "(SELECT j.name FROM job j WHERE j.id = t.producer_job_id) AS producer"
FILE = ObjectKind("file", "file", "files", columns=f"t.*, {_PRODUCER}")
USER_DATA = ObjectKind("user_data", "user data", "user-data", columns=f"t.*, {_PRODUCER}")
_READ = "EXISTS (SELECT 1 FROM input_file i WHERE i.file_id = t.id)"


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
    where = ""
    if request.required_existing:
        where += " AND t.producer_job_id IS NULL"
    if request.required_existing or request.read:
        where += f" AND {_READ}"
    if request.written:
        where += " AND t.producer_job_id IS NOT NULL"
    rows, cursor = page_of(tx, FILE, request, where)
    return Page(items=[_file(row) for row in rows], cursor=cursor)


@answers(api.GetFile)
def get_file(tx: Tx, request: api.GetFile) -> api.File:
    """Get one file."""
    row = part_row(tx, FILE, request.file_id)
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
    checked(model.File, name=request.name, path=request.path)
    number = insert_part(tx, FILE, request.workflow_id, request.name, {"path": request.path})
    return get_file(tx, api.GetFile(file_id=number))


@answers(api.UpdateFile)
def update_file(tx: Tx, request: api.UpdateFile) -> api.File:
    """Change a file's path. What was known of the former one is forgotten."""
    row = locked_part(tx, FILE, request.file_id)
    checked(model.File, name=row["name"], path=request.path)
    if request.path != row["path"]:
        forget = {"size_bytes": None, "mtime_ns": None, "sha256": None}
        update_part(tx, FILE, row, {"path": request.path, **forget})
        check_places(tx, workflow_row(tx, row["workflow_id"]), [request.file_id])
    return get_file(tx, api.GetFile(file_id=request.file_id))


@answers(api.DeleteFile)
def delete_file(tx: Tx, request: api.DeleteFile) -> None:
    """Delete a file that nobody uses."""
    delete_part(
        tx,
        FILE,
        request.file_id,
        ("job", "SELECT name FROM job WHERE id = (SELECT producer_job_id FROM file WHERE id = :id) LIMIT 1"),
        (
            "job",
            "SELECT name FROM job WHERE input_set_id IN "
            "(SELECT input_set_id FROM input_file WHERE file_id = :id) LIMIT 1",
        ),
    )


_RECORDED = text(
    "SELECT f.id, f.path, f.size_bytes, f.mtime_ns, f.sha256, f.producer_job_id IS NULL OR p.state = 'completed' "
    "FROM file f LEFT JOIN job p ON p.id = f.producer_job_id WHERE f.workflow_id = :id"
)
#: files that jobs which completed before this session have read
_READ_BEFORE = text(
    "SELECT DISTINCT file_id FROM input_file WHERE input_set_id IN (SELECT input_set_id FROM job "
    "WHERE workflow_id = :id AND state = 'completed' AND input_set_id IS NOT NULL AND started_at < :since)"
)


@answers(RecordFiles)
def record_files(tx: Tx, request: RecordFiles) -> RecordFilesReply:
    """Record how files look, but keep what jobs that completed earlier have seen."""
    workflow_row(tx, request.workflow_id, lock=True)
    key = {"id": request.workflow_id}
    facts = {
        fact.path: FileObservation(True, fact.size_bytes, fact.mtime_ns, fact.sha256)
        for fact in request.files
        if fact.exists
    }
    read_before = {row[0] for row in tx.db.execute(_READ_BEFORE, {**key, "since": request.since})}
    rows = []
    needs_hash: dict[str, None] = {}
    for number, path, size, mtime, digest, is_written in tx.db.execute(_RECORDED, key):
        now = facts.get(path)
        if now is None or not is_written:
            continue
        recorded = None if size is None else FileObservation(True, size, mtime, digest)
        new, needs = to_record(recorded, now, in_use=number in read_before)
        if new is not None:
            rows.append({"id": number, "size": new.size_bytes, "mtime": new.mtime_ns, "digest": new.sha256})
        if needs:
            needs_hash[path] = None
    if rows:
        tx.db.execute(
            text("UPDATE file SET size_bytes = :size, mtime_ns = :mtime, sha256 = :digest WHERE id = :id"), rows
        )
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
    values = {"data": _json(request.data), "is_ephemeral": request.is_ephemeral}
    number = insert_part(tx, USER_DATA, request.workflow_id, request.name, values)
    return get_user_data(tx, api.GetUserData(user_data_id=number))


@answers(api.SetUserData)
def set_user_data(tx: Tx, request: api.SetUserData) -> api.UserData:
    """Write user data."""
    row = locked_part(tx, USER_DATA, request.user_data_id)
    if _json(loads(row["data"])) != _json(request.data):  # as texts: True == 1 to Python
        keep_fingerprints(
            tx,
            row["workflow_id"],
            "input_set_id IN (SELECT input_set_id FROM input_user_data WHERE user_data_id = :data)",
            data=row["id"],
        )
        update_part(tx, USER_DATA, row, {"data": _json(request.data)})
    return get_user_data(tx, api.GetUserData(user_data_id=request.user_data_id))


def _json(data: object) -> str | None:
    return None if data is None else json.dumps(data)


@answers(api.DeleteUserData)
def delete_user_data(tx: Tx, request: api.DeleteUserData) -> None:
    """Delete user data that nobody uses."""
    delete_part(
        tx,
        USER_DATA,
        request.user_data_id,
        ("job", "SELECT name FROM job WHERE id = (SELECT producer_job_id FROM user_data WHERE id = :id) LIMIT 1"),
        (
            "job",
            "SELECT name FROM job WHERE input_set_id IN "
            "(SELECT input_set_id FROM input_user_data WHERE user_data_id = :id) LIMIT 1",
        ),
    )
