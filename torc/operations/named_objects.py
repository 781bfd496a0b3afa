"""What belongs to a workflow and has a name: look it up, list it, add it, change it, delete it. One way for all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import RowMapping, text

from torc.errors import Conflict, Invalid, NotFound
from torc.operations.dispatch import Tx
from torc.operations.row_mapping import encode_cursor, grow_version, id_range, name_condition, workflow_row
from torc.spec import model
from torc.store.id_blocks import take_ids
from torc.store.workflows import IN_WORKFLOW


class ObjectKind(NamedTuple):
    """A kind of thing: its table, what people call it, the command that shows it, its part of a shared table."""

    table: str
    noun: str
    command: str
    kind: str | None = None
    columns: str = "t.*"


def part_row(tx: Tx, kind: ObjectKind, number: int) -> RowMapping:
    """Return the row of a thing. Raises NotFound."""
    query = text(f"SELECT {kind.columns} FROM {kind.table} t WHERE t.id = :id AND {IN_WORKFLOW.format('t')}")
    row = tx.db.execute(query, {"id": number}).mappings().first()
    if row is None or (kind.kind is not None and row["kind"] != kind.kind):
        raise NotFound(f"there is no {kind.noun} {number}", hint=f"`torc {kind.command} list` shows what there is")
    return row


def page_of(tx: Tx, kind: ObjectKind, request: Any, where: str = "") -> tuple[list[RowMapping], str | None]:
    """Return the rows of a list request, in order of id, and the cursor of the next page."""
    workflow_row(tx, request.workflow_id)
    after, last = id_range(tx, kind.table, request.workflow_id, request.cursor)
    values: dict[str, Any] = {"workflow_id": request.workflow_id, "after": after, "last": last, "n": request.limit + 1}
    # the plus keeps databases from finding all of the workflow and sorting them
    conditions = "+t.workflow_id = :workflow_id AND t.id > :after AND t.id <= :last" + where
    name = getattr(request, "name", None)
    if name is not None:
        condition, named = name_condition(tx, "t.name", name)
        conditions += f" AND {condition}"
        values |= named
    if kind.kind is not None:
        conditions += " AND t.kind = :kind"
        values["kind"] = kind.kind
    query = f"SELECT {kind.columns} FROM {kind.table} t WHERE {conditions} ORDER BY t.id LIMIT :n"
    rows = list(tx.db.execute(text(query), values).mappings())
    more = len(rows) > request.limit
    rows = rows[: request.limit]
    return rows, encode_cursor(rows[-1]["id"], last) if more else None


def insert_part(tx: Tx, kind: ObjectKind, workflow_id: int, name: str, values: Mapping[str, Any]) -> int:
    """Add a thing and give its id. Raises Invalid for a name that no spec could have, Conflict for one that is taken."""
    workflow_row(tx, workflow_id, lock=True)
    checked(model.File, name=name, path="x")
    of_kind = " AND kind = :kind" if kind.kind else ""
    taken = tx.db.execute(
        text(f"SELECT id FROM {kind.table} WHERE workflow_id = :id AND name = :name{of_kind}"),
        {"id": workflow_id, "name": name, **({"kind": kind.kind} if kind.kind else {})},
    ).first()
    if taken:
        raise Conflict(
            f"workflow {workflow_id} has a {kind.noun} `{name}` already",
            hint=f"choose another name, or change the one that is there: torc {kind.command} update {taken[0]}",
        )
    number = take_ids(tx.db, kind.table)
    row = {"id": number, "workflow_id": workflow_id, "name": name, **values}
    if kind.kind:
        row["kind"] = kind.kind
    tx.db.execute(text(f"INSERT INTO {kind.table} ({', '.join(row)}) VALUES ({', '.join(':' + k for k in row)})"), row)
    _changed(tx, workflow_id, kind, "created", number, name)
    return number


def update_part(tx: Tx, kind: ObjectKind, row: RowMapping, values: Mapping[str, Any]) -> None:
    """Change fields of a thing whose workflow the caller has locked."""
    if values:
        assignments = ", ".join(f"{key} = :{key}" for key in values)
        tx.db.execute(text(f"UPDATE {kind.table} SET {assignments} WHERE id = :id"), {**values, "id": row["id"]})
        _changed(tx, row["workflow_id"], kind, "updated", row["id"], row["name"])


def delete_part(tx: Tx, kind: ObjectKind, number: int, *used_by: tuple[str, str]) -> None:
    """Delete a thing. Raises Conflict when one of the queries (what it finds, query by :id) finds a user of it."""
    row = locked_part(tx, kind, number)
    for what, query in used_by:
        used = tx.db.execute(
            text(query), {"id": number, "name": row["name"], "workflow_id": row["workflow_id"]}
        ).first()
        if used:
            raise Conflict(
                f"{kind.noun} `{row['name']}` is used by {what} `{used[0]}`", hint="change or delete what uses it first"
            )
    tx.db.execute(text(f"DELETE FROM {kind.table} WHERE id = :id"), {"id": number})
    _changed(tx, row["workflow_id"], kind, "deleted", number, row["name"])


def locked_part(tx: Tx, kind: ObjectKind, number: int) -> RowMapping:
    """Return the row of a thing after locking its workflow. Raises NotFound."""
    workflow_row(tx, part_row(tx, kind, number)["workflow_id"], lock=True)
    return part_row(tx, kind, number)


def _changed(tx: Tx, workflow_id: int, kind: ObjectKind, what: str, number: int, name: str) -> None:
    grow_version(tx, workflow_id)
    tx.event(workflow_id, f"{kind.kind or kind.table}_{what}", id=number, name=name)


def checked(kind: type[model.Part], **fields: Any) -> None:
    """Check fields as those of a spec. Raises Invalid."""
    try:
        kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(
            f"`{place}`: {first['msg']}", hint="write the fields as in a spec: `torc schema` prints what is allowed"
        ) from None
