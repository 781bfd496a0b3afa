"""A checked spec as text in any of the formats, without losing meaning. Only what the spec set is written."""

from __future__ import annotations

from torc.spec.formats import Format
from torc.spec.model import WorkflowSpec


def write_spec(spec: WorkflowSpec, format: Format | str) -> str:
    return Format(format).write(spec.model_dump(mode="json", exclude_unset=True))
