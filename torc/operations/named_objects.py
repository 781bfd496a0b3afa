"""What belongs to a workflow and has a name: look it up, list it, add it, change it, delete it. One way for all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import RowMapping

from torc.errors import Conflict, Invalid, NotFound
from torc.operations.dispatch import Tx
from torc.operations.row_mapping import encode_cursor, grow_version, id_range, workflow_row
from torc.spec import model
from torc.store import named_objects, rows
from torc.store.conditions import Conditions
from torc.store.id_blocks import take_ids
from torc.store.named_objects import ObjectTable, PageOfIds


class ObjectKind(NamedTuple):
    """A kind of object: its table, what people call it, the command that shows it, its part of a shared table."""

    table: str
    noun: str
    command: str
    kind: str | None = None

    @property
    def stored(self) -> ObjectTable:
        """Where it is kept."""
        return ObjectTable(self.table, self.kind)


def part_row(tx: Tx, kind: ObjectKind, number: int) -> RowMapping:
    """Return the row of an object. Raises NotFound."""
    row = named_objects.get(tx.db, kind.stored, number)
    if row is None:
        raise NotFound(f"there is no {kind.noun} {number}", hint=f"`torc {kind.command} list` shows what there is")
    return row


def page_of(
    tx: Tx, kind: ObjectKind, request: Any, also: Conditions | None = None
) -> tuple[Sequence[RowMapping], str | None]:
    """Return the rows of a list request, in order of id, and the cursor of the next page."""
    workflow_row(tx, request.workflow_id)
    after, last = id_range(tx, kind.table, request.workflow_id, request.cursor)
    wanted = PageOfIds(after, last, request.limit + 1)
    name = getattr(request, "name", None)
    found = named_objects.page(tx.db, tx.dialect, kind.stored, request.workflow_id, wanted, name=name, also=also)
    page = found[: request.limit]
    return page, encode_cursor(page[-1]["id"], last) if len(found) > request.limit else None


def insert_part(tx: Tx, kind: ObjectKind, workflow_id: int, name: str, values: Mapping[str, Any]) -> int:
    """Add an object and return its id. Raises Invalid for a name that no spec could have, Conflict for one that is taken."""
    workflow_row(tx, workflow_id, lock=True)
    checked(model.FileSpec, name=name, path="x")
    taken = rows.id_of(tx.db, kind.table, workflow_id, name, kind.kind)
    if taken is not None:
        raise Conflict(
            f"workflow {workflow_id} has a {kind.noun} `{name}` already",
            hint=f"choose another name, or change the one that is there: torc {kind.command} update {taken}",
        )
    number = take_ids(tx.db, kind.table)
    row = {"id": number, "workflow_id": workflow_id, "name": name, **values}
    rows.insert(tx.db, kind.table, row if kind.kind is None else {**row, "kind": kind.kind})
    _changed(tx, workflow_id, kind, "created", number, name)
    return number


def update_part(tx: Tx, kind: ObjectKind, row: RowMapping, values: Mapping[str, Any]) -> None:
    """Change fields of an object whose workflow the caller has locked."""
    if values:
        rows.update(tx.db, kind.table, row["id"], values)
        _changed(tx, row["workflow_id"], kind, "updated", row["id"], row["name"])


def delete_part(tx: Tx, kind: ObjectKind, number: int, *find_job: Callable[[RowMapping], str | None]) -> None:
    """Delete an object. Raises Conflict when one of the functions finds a job that uses it (its name)."""
    row = locked_part(tx, kind, number)
    for find in find_job:
        if (user := find(row)) is not None:
            raise Conflict(
                f"{kind.noun} `{row['name']}` is used by job `{user}`", hint="change or delete what uses it first"
            )
    rows.delete(tx.db, kind.table, number)
    _changed(tx, row["workflow_id"], kind, "deleted", number, row["name"])


def locked_part(tx: Tx, kind: ObjectKind, number: int) -> RowMapping:
    """Return the row of a thing after locking its workflow. Raises NotFound."""
    workflow_row(tx, part_row(tx, kind, number)["workflow_id"], lock=True)
    return part_row(tx, kind, number)


def _changed(tx: Tx, workflow_id: int, kind: ObjectKind, what: str, number: int, name: str) -> None:
    grow_version(tx, workflow_id)
    tx.event(workflow_id, f"{kind.kind or kind.table}_{what}", id=number, name=name)


def checked(kind: type[model.SpecPart], **fields: Any) -> None:
    """Check fields as those of a spec. Raises Invalid."""
    try:
        kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(
            f"`{place}`: {first['msg']}", hint="write the fields as in a spec: `torc schema` prints what is allowed"
        ) from None
