"""What belongs to a workflow and has a name, in any table: one row, or a page of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, text

from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.store.workflows import IN_WORKFLOW

_PRODUCER = "(SELECT j.name FROM job j WHERE j.id = t.producer_job_id) AS producer"


class ObjectTable(NamedTuple):
    """Where objects are kept: a table, and the kind of those that share it with others."""

    name: str
    kind: str | None = None

    @property
    def columns(self) -> str:
        """What is read of a row `t`: its columns, and `producer`, the name of the job that writes it."""
        return f"t.*, {_PRODUCER}" if self.name in {"file", "user_data"} else "t.*"


class PageOfIds(NamedTuple):
    """Ids above the first and up to the last, and how many of them at most."""

    after: int
    last: int
    limit: int


def get(db: Connection, table: ObjectTable, number: int) -> RowMapping | None:
    """Return the row of an object."""
    where = Conditions("t.id = :id", IN_WORKFLOW.format("t"), id=number)
    if table.kind is not None:
        where.add("t.kind = :kind", kind=table.kind)
    query = text(f"SELECT {table.columns} FROM {table.name} t WHERE {where}")
    return db.execute(query, where.values).mappings().first()


def page(
    db: Connection,
    dialect: Dialect,
    table: ObjectTable,
    workflow_id: int,
    wanted: PageOfIds,
    *,
    name: str | None = None,
    also: Conditions | None = None,
) -> Sequence[RowMapping]:
    """Return rows of objects of a workflow in order of id. `name` may hold `*` and `?`; `also` is about the row `t`."""
    # the plus keeps databases from finding all of the workflow and sorting them
    where = Conditions("+t.workflow_id = :workflow_id", "t.id > :after", "t.id <= :last")
    if name is not None:
        where.add_name(dialect, "t.name", name)
    if table.kind is not None:
        where.add("t.kind = :kind", kind=table.kind)
    if also:
        where.add(str(also), **also.values)
    query = text(f"SELECT {table.columns} FROM {table.name} t WHERE {where} ORDER BY t.id LIMIT :n")
    values = {"workflow_id": workflow_id, "after": wanted.after, "last": wanted.last, "n": wanted.limit}
    return db.execute(query, {**where.values, **values}).mappings().all()
