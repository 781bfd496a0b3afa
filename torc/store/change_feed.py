"""Changes committed by other processes, detected through the event log, for workflows that somebody waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

from sqlalchemy import Connection, text

from torc.store import events
from torc.store.engine import Store


class ChangeScope(IntEnum):
    """Which waiting runners a change may concern. Followers of events are told about every change."""

    NOBODY = 0
    FIRST = 1  # there may be work, for the first in the queue that can take it
    ALL = 2  # each has to ask: there may be something to stop, or nothing may be left


_REACH = {
    "runner_registered": ChangeScope.NOBODY,
    "runner_ended": ChangeScope.FIRST,
    "jobs_started": ChangeScope.NOBODY,
    "jobs_completed": ChangeScope.FIRST,
    "jobs_failed": ChangeScope.FIRST,
    "jobs_released": ChangeScope.FIRST,
    "jobs_retried": ChangeScope.FIRST,
    "jobs_interrupted": ChangeScope.FIRST,
    "jobs_resumed": ChangeScope.FIRST,
    "job_created": ChangeScope.FIRST,
    "action_fired": ChangeScope.FIRST,
    "user_data_updated": ChangeScope.NOBODY,
    "file_updated": ChangeScope.NOBODY,
}
_TYPES = "SELECT DISTINCT type FROM event WHERE workflow_id = :id AND id > :last"


class ChangeFeed:
    """Polls the log of some workflows. Not thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: dict[int, int] = {}  # by workflow
        self._version: int | None = None
        self._connection: Connection | None = None

    def changes(self, watched: Iterable[int]) -> Mapping[int, ChangeScope]:
        """Return the workflows changed since the last call, and which runners that concerns."""
        if not self._may_have_changed():
            fresh = [number for number in watched if number not in self._last]
            if not fresh:
                return {}
            watched = fresh
        watched = list(watched)
        found: dict[int, ChangeScope] = {}
        with self._store.dialect.begin_read(self._store.engine) as db:
            for workflow_id in watched:
                last = events.last_id(db, self._store.dialect, workflow_id)
                before = self._last.get(workflow_id)
                self._last[workflow_id] = last
                if before is None:
                    found[workflow_id] = ChangeScope.FIRST  # what happened between the query and this call is unknown
                elif last > before:
                    types = self._store.dialect.fetch(db, _TYPES, {"id": workflow_id, "last": before})
                    found[workflow_id] = max(_REACH.get(row[0], ChangeScope.ALL) for row in types)
        for workflow_id in self._last.keys() - set(watched):
            if len(self._last) > 10_000:
                del self._last[workflow_id]
        return found

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _may_have_changed(self) -> bool:
        """Ask SQLite whether anything was committed at all, which takes some microseconds."""
        if self._store.dialect.name != "sqlite":
            return True
        if self._connection is None:
            self._connection = self._store.engine.connect()
        version = int(self._connection.execute(text("PRAGMA data_version")).scalar_one())
        self._connection.rollback()
        changed, self._version = version != self._version, version
        return changed
