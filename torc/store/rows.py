"""One row of any table by its id: read, added, changed, removed. Names of tables and columns come from this project alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, RowMapping, TextClause, text


def get(db: Connection, table: str, number: int) -> RowMapping | None:
    """Return the row with an id."""
    return db.execute(_select(table), {"id": number}).mappings().first()


def workflow_of(db: Connection, table: str, number: int) -> int | None:
    """Return the workflow of a row, if that is stored whole."""
    found = db.execute(_workflow(table), {"id": number}).scalar()
    return None if found is None else int(found)


def id_of(db: Connection, table: str, workflow_id: int, name: str, kind: str | None = None) -> int | None:
    """Return the id of what a workflow has of a name; of a kind, where a table holds several."""
    values = {"workflow_id": workflow_id, "name": name, **({} if kind is None else {"kind": kind})}
    found = db.execute(_find(table, tuple(values)), values).scalar()
    return None if found is None else int(found)


def insert(db: Connection, table: str, values: Mapping[str, Any]) -> None:
    """Add a row."""
    db.execute(_insert(table, tuple(values)), dict(values))


def update(db: Connection, table: str, number: int, values: Mapping[str, Any]) -> None:
    """Change columns of the row with an id."""
    if values:
        db.execute(_update(table, tuple(values)), {**values, "id": number})


def delete(db: Connection, table: str, number: int) -> None:
    """Remove the row with an id."""
    db.execute(_delete(table), {"id": number})


@cache
def _select(table: str) -> TextClause:
    return text(f'SELECT * FROM "{table}" WHERE id = :id')


@cache
def _insert(table: str, columns: tuple[str, ...]) -> TextClause:
    names = ", ".join(f'"{name}"' for name in columns)
    return text(f'INSERT INTO "{table}" ({names}) VALUES ({", ".join(f":{name}" for name in columns)})')


@cache
def _update(table: str, columns: tuple[str, ...]) -> TextClause:
    assignments = ", ".join(f'"{name}" = :{name}' for name in columns)
    return text(f'UPDATE "{table}" SET {assignments} WHERE id = :id')


@cache
def _delete(table: str) -> TextClause:
    return text(f'DELETE FROM "{table}" WHERE id = :id')


@cache
def _find(table: str, columns: tuple[str, ...]) -> TextClause:
    conditions = " AND ".join(f"{name} = :{name}" for name in columns)
    return text(f'SELECT id FROM "{table}" WHERE {conditions}')


@cache
def _workflow(table: str) -> TextClause:
    return text(f'SELECT w.id FROM "{table}" t JOIN workflow w ON w.id = t.workflow_id WHERE t.id = :id')
