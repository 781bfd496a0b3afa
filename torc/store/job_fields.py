"""The fields of a job (`torc.spec.plan.JOB_FIELDS`) to and from their columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import RowMapping

from torc.spec.plan import JOB_FIELDS, JobField
from torc.store.json_columns import loads

#: what runners are given with a job
CLAIMED_FIELDS = tuple(field for field in JOB_FIELDS if field.is_claimed)


def stored(field: JobField, value: Any) -> Any:
    """Return what the column of a field holds for a value; an empty text stands for none."""
    if field.is_nullable and (value is None or value in ("", field.default)):
        return None
    return json.dumps(dict(value)) if field.kind == "object" else value


def loaded(field: JobField, value: Any) -> Any:
    """Return the value of a field from what its column holds."""
    if value is None:
        return field.default
    if field.kind == "object":
        return loads(value)
    return bool(value) if field.kind == "bool" else value


def fields_of(row: RowMapping | Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a job from a row with their columns."""
    return {field.name: loaded(field, row[field.name]) for field in JOB_FIELDS}


def claimed_fields(values: Sequence[Any]) -> dict[str, Any]:
    """Return the fields of a job from the columns of CLAIMED_FIELDS."""
    return {field.name: loaded(field, value) for field, value in zip(CLAIMED_FIELDS, values, strict=True)}
