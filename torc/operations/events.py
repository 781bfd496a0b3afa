"""The log: list it, follow it, look at one entry."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, text

from torc.api.base import Page
from torc.api.events import Event, GetEvent, ListEvents
from torc.errors import NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import decode_cursor, encode_cursor, workflow_row
from torc.store.json_columns import loads
from torc.store.workflows import IN_WORKFLOW


def _event(row: RowMapping) -> Event:
    return Event(
        id=row["id"],
        workflow_id=row["workflow_id"],
        time=row["time"],
        type=row["type"],
        actor=row["actor"],
        job_id=row["job_id"],
        data=loads(row["data"], {}),
    )


_EVENT = text(f"SELECT * FROM event WHERE id = :id AND {IN_WORKFLOW.format('event')}")


@answers(ListEvents)
def list_events(tx: Tx, request: ListEvents) -> Page[Event]:
    """List events, oldest first unless asked otherwise."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    where = ["workflow_id = :workflow_id", "id > :after"]
    values: dict[str, Any] = {"workflow_id": request.workflow_id, "after": request.after or 0, "n": request.limit + 1}
    if request.newest_first:
        where.append("id < :before")
        values["before"] = key[0] if key else 2**62
    elif key:
        values["after"] = max(key[0], values["after"])
    if request.type is not None:
        where.append("type = :type")
        values["type"] = request.type
    if request.job_id is not None:
        where.append(f"(job_id = :job_id OR (job_id IS NULL AND {tx.dialect.names_job}))")
        values["job_id"] = request.job_id
    order = "DESC" if request.newest_first else "ASC"
    query = f"SELECT * FROM event WHERE {' AND '.join(where)} ORDER BY id {order} LIMIT :n"
    rows = tx.db.execute(text(query), values).mappings().all()
    items = [_event(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(GetEvent)
def get_event(tx: Tx, request: GetEvent) -> Event:
    """Get one event."""
    row = tx.db.execute(_EVENT, {"id": request.event_id}).mappings().first()
    if row is None:
        raise NotFound(f"there is no event {request.event_id}", hint="`torc events list` shows what there is")
    return _event(row)
