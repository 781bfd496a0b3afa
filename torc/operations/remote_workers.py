"""The machines on which a workflow has workers: a list stored with the workflow."""

from __future__ import annotations

import json

from sqlalchemy import RowMapping

from torc.api import remote_workers as api
from torc.api.base import Page
from torc.errors import Conflict, NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.named_objects import ObjectKind, delete_part, insert_part, page_of, part_row, update_part
from torc.operations.row_mapping import workflow_row
from torc.store import named
from torc.store.json_columns import loads

WORKER = ObjectKind("named", "remote worker", "remote", "remote_worker")


def _worker(row: RowMapping) -> api.RemoteWorker:
    return api.RemoteWorker(id=row["id"], workflow_id=row["workflow_id"], host=row["name"], **loads(row["fields"], {}))


@answers(api.ListRemoteWorkers)
def list_remote_workers(tx: Tx, request: api.ListRemoteWorkers) -> Page[api.RemoteWorker]:
    """List machines."""
    rows, cursor = page_of(tx, WORKER, request)
    return Page(items=[_worker(row) for row in rows], cursor=cursor)


@answers(api.AddRemoteWorkers)
def add_remote_workers(tx: Tx, request: api.AddRemoteWorkers) -> list[api.RemoteWorker]:
    """Add machines, all or none."""
    workflow_row(tx, request.workflow_id, lock=True)
    known = {row["name"]: row for row in named.of_kind(tx.db, request.workflow_id, "remote_worker")}
    taken = [worker.host for worker in request.workers if worker.host in known]
    if taken and not request.replace:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise Conflict(
            f"workflow {request.workflow_id} has the remote worker `{taken[0]}`{more} already",
            hint="leave it out, or change what is there with --replace",
        )
    numbers = []
    for worker in request.workers:
        fields = {"fields": json.dumps(worker.model_dump(mode="json", exclude={"host"}, exclude_defaults=True))}
        if worker.host in known:
            update_part(tx, WORKER, known[worker.host], fields)
            numbers.append(known[worker.host]["id"])
        else:
            numbers.append(insert_part(tx, WORKER, request.workflow_id, worker.host, fields))
    return [_worker(part_row(tx, WORKER, number)) for number in numbers]


@answers(api.RemoveRemoteWorker)
def remove_remote_worker(tx: Tx, request: api.RemoveRemoteWorker) -> None:
    """Remove a machine from the list."""
    workflow_row(tx, request.workflow_id, lock=True)
    known = {row["id"] for row in named.of_kind(tx.db, request.workflow_id, "remote_worker")}
    if request.worker_id not in known:
        raise NotFound(
            f"workflow {request.workflow_id} has no remote worker {request.worker_id}",
            hint="`torc remote list-workers` shows what there is",
        )
    delete_part(tx, WORKER, request.worker_id)
