"""Write a validated spec as text in any format, without losing meaning. Only fields set in the spec are written."""

from __future__ import annotations

from torc.spec.formats import Format
from torc.spec.model import WorkflowSpec


def write_spec(spec: WorkflowSpec, format: Format | str) -> str:
    return Format(format).write(spec.model_dump(mode="json", exclude_unset=True))
