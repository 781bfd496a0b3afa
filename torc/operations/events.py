"""The log: list it, follow it, look at one entry."""

from __future__ import annotations

from sqlalchemy import RowMapping

from torc.api.base import Page
from torc.api.events import Event, GetEvent, ListEvents
from torc.errors import NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import decode_cursor, encode_cursor, workflow_row
from torc.store import events
from torc.store.events import EventFilter
from torc.store.json_columns import loads


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


@answers(ListEvents)
def list_events(tx: Tx, request: ListEvents) -> Page[Event]:
    """List events, oldest first unless asked otherwise."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    after, before = request.after or 0, None
    if key and request.newest_first:
        before = key[0]
    elif key:
        after = max(key[0], after)
    wanted = EventFilter(request.type, request.job_id, after, before, request.newest_first)
    rows = events.page(tx.db, tx.dialect, request.workflow_id, wanted, request.limit + 1)
    items = [_event(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(GetEvent)
def get_event(tx: Tx, request: GetEvent) -> Event:
    """Get one event."""
    row = events.get(tx.db, request.event_id)
    if row is None:
        raise NotFound(f"there is no event {request.event_id}", hint="`torc events list` shows what there is")
    return _event(row)
