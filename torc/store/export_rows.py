"""Rows of a workflow in the order of the portable file, page by page."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection

from torc.api.export_format import NESTED, TABLES
from torc.store.dialect import Dialect

#: tables whose rows belong to a workflow by what they refer to: the columns of their key, and the table that says whose they are
BY_REFERENCE: dict[str, tuple[tuple[str, ...], str]] = {
    "gate_prerequisite": (("job_id", "gate_id"), "gate"),
    "input_file": (("input_set_id", "file_id"), "input_set"),
    "input_user_data": (("input_set_id", "user_data_id"), "input_set"),
    "mention": (("job_id", "field", "at"), "job"),
    "action_job": (("job_id", "action_id"), "action"),
}
#: machines for workers belong to the place that a workflow is at, as keys do
_BUT = {"named": " AND t.kind <> 'remote_worker'"}


def rows_after(
    db: Connection, dialect: Dialect, workflow_id: int, table: str, after: list[Any], limit: int
) -> tuple[list[list[Any]], list[Any]]:
    """Return the next rows of a table, and the key of the last one (`after` for the next call; empty at first)."""
    columns = TABLES[table]
    names = ", ".join(f"t.{column.name}" for column in columns)
    keys, owner = BY_REFERENCE.get(table, (("id",), None))
    key = ", ".join(f"t.{name}" for name in keys)
    source = f"{table} t WHERE t.workflow_id = :workflow_id{_BUT.get(table, '')}"
    if owner is not None:
        source = f"{table} t JOIN {owner} o ON o.id = t.{owner}_id WHERE o.workflow_id = :workflow_id"
    values: dict[str, Any] = {"workflow_id": workflow_id, "n": limit}
    if after:
        source += f" AND ({key}) > ({', '.join(f':after_{name}' for name in keys)})"
        values |= {f"after_{name}": value for name, value in zip(keys, after, strict=True)}
    found = dialect.fetch(db, f"SELECT {key}, {names} FROM {source} ORDER BY {key} LIMIT :n", values)
    width = len(keys)
    made = [[_plain(value, column.kind) for value, column in zip(row[width:], columns, strict=True)] for row in found]
    return made, list(found[-1][:width]) if found else after


def key_types(table: str) -> list[type]:
    """Return what the key of a table is made of."""
    kinds = {column.name: str if column.kind == "text" else int for column in TABLES[table]}
    return [kinds.get(name, int) for name in BY_REFERENCE.get(table, (("id",), None))[0]]


def _plain(value: Any, kind: str) -> Any:
    """Return a value as it stands in the file, however the database keeps it."""
    if value is None:
        return None
    if kind in NESTED:
        return json.loads(value) if isinstance(value, str) else value
    return bool(value) if kind == "bool" else value


def kept(value: Any, kind: str) -> Any:
    """Return a value of the file as databases take it."""
    return json.dumps(value) if kind in NESTED and value is not None else value
