"""Requirement classes of workflows."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from torc.store.dialect import Dialect
from torc.workflow.resources import ResourceRequest

#: of the columns of a requirement class, those of what its jobs ask for
REQUEST_COLUMNS = ", ".join(ResourceRequest._fields)
_OF_WORKFLOW = f"SELECT id, name, {REQUEST_COLUMNS} FROM requirement WHERE workflow_id = :id ORDER BY id"


class StoredClass(NamedTuple):
    """A requirement class of a workflow."""

    id: int
    name: str
    request: ResourceRequest


def classes_of(db: Connection, dialect: Dialect, workflow_id: int) -> dict[int, StoredClass]:
    """Return the requirement classes of a workflow by id, in order."""
    rows = dialect.fetch(db, _OF_WORKFLOW, {"id": workflow_id})
    return {number: StoredClass(number, name, ResourceRequest(*asked)) for number, name, *asked in rows}
