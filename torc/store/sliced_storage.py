"""Store large workflows in slices where the database has a single writer, and remove what was left of incomplete ones.

The workflow's own row is written last: until then no query for workflows finds it or anything that belongs to it. When a workflow is
deleted, its row goes first. Rows of `loading` record what is in progress or was left: a killed process no longer renews its row, and
another one removes what it has stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from torc.api.export_format import TABLES
from torc.errors import Conflict
from torc.store.dialect import Dialect
from torc.store.export_rows import BY_REFERENCE

#: rows that are written in one transaction: some tenths of a second
SLICE = 10_000
#: without renewal for this long, the process has ended
_LEASE_SECONDS = 120.0
_BEGIN = text(
    'INSERT INTO loading (workflow_id, "user", num_jobs, renewed_at) VALUES (:workflow_id, :user, :num_jobs, :now)'
)
_RENEW = text("UPDATE loading SET renewed_at = :now WHERE workflow_id = :workflow_id")
_END = text("DELETE FROM loading WHERE workflow_id = :workflow_id")
_LEFT = text("SELECT workflow_id FROM loading WHERE renewed_at < :before ORDER BY workflow_id")
#: what belongs to a workflow and is in no portable file
_ONLY_HERE = ("allocation", "intervention")
_COUNT = text('SELECT coalesce(sum(num_jobs), 0) FROM loading WHERE "user" = :user')


class Batch(NamedTuple):
    """Rows of one table."""

    table: str
    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


def begin(db: Connection, workflow_id: int, user: str, num_jobs: int, now: float) -> None:
    """Record that a workflow is being stored."""
    db.execute(_BEGIN, {"workflow_id": workflow_id, "user": user, "num_jobs": num_jobs, "now": now})


def write(db: Connection, dialect: Dialect, workflow_id: int, batches: Sequence[Batch], now: float) -> None:
    """Write some of its rows. Raises Conflict if somebody has removed it."""
    renew(db, workflow_id, now)
    insert(db, dialect, batches)


def insert(db: Connection, dialect: Dialect, batches: Iterable[Batch]) -> None:
    """Write rows."""
    for batch in batches:
        dialect.insert_many(db, batch.table, batch.columns, batch.rows)


def renew(db: Connection, workflow_id: int, now: float) -> None:
    """Renew the record that it is in progress. Raises Conflict if somebody has removed it."""
    if db.execute(_RENEW, {"workflow_id": workflow_id, "now": now}).rowcount == 0:
        raise Conflict(
            "storing the workflow was interrupted for too long and was abandoned",
            hint="nothing of it was kept; try again",
        )


def abandon(db: Connection, workflow_id: int, user: str) -> None:
    """Leave what belongs to a workflow that is deleted to whoever removes what is left over."""
    begin(db, workflow_id, user, 0, 0.0)


def end(db: Connection, workflow_id: int) -> None:
    """Forget about it: it is stored, or nothing is left of it."""
    db.execute(_END, {"workflow_id": workflow_id})


def left_over(db: Connection, now: float) -> list[int]:
    """Return the workflows that nothing is storing any more."""
    return list(db.execute(_LEFT, {"before": now - _LEASE_SECONDS}).scalars())


def num_jobs(db: Connection, user: str) -> int:
    """Return the number of jobs of a user that are being stored."""
    return int(db.execute(_COUNT, {"user": user}).scalar_one())


def sliced(batches: Iterable[Batch], size: int = SLICE) -> Iterator[list[Batch]]:
    """Divide rows into slices of one transaction each."""
    piece: list[Batch] = []
    room = size
    for table, columns, rows in batches:
        left = iter(rows)
        while taken := list(islice(left, room)):
            piece.append(Batch(table, columns, taken))
            room -= len(taken)
            if room == 0:
                yield piece
                piece, room = [], size
    if piece:
        yield piece


def remove(db: Connection, dialect: Dialect, workflow_id: int, size: int = SLICE) -> bool:
    """Remove some rows of a workflow without a row of its own; return whether there may be more. References are not checked."""
    left = size
    for table in (*_ONLY_HERE, *reversed(TABLES), "job_count"):
        if table in BY_REFERENCE:
            continue
        key = "state" if table == "job_count" else "id"
        found = dialect.fetch(
            db, f"SELECT {key} FROM {table} WHERE workflow_id = :id LIMIT :n", {"id": workflow_id, "n": left}
        )
        if not found:
            continue
        if table == "job_count":
            db.execute(text("DELETE FROM job_count WHERE workflow_id = :id"), {"id": workflow_id})
        else:
            ids = {"ids": dialect.ids(row[0] for row in found)}
            for other, ((column, *_), _) in BY_REFERENCE.items():
                if column == f"{table}_id":
                    db.execute(text(f"DELETE FROM {other} WHERE {column} IN {dialect.id_list}"), ids)
            db.execute(text(f"DELETE FROM {table} WHERE id IN {dialect.id_list}"), ids)
        left -= len(found)
        if left <= 0:
            return True
    end(db, workflow_id)
    return False
