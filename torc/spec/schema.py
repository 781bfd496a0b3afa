"""The JSON Schema of specs (draft 2020-12), generated from the model: what an editor accepts is what Torc accepts."""

from __future__ import annotations

import json
from typing import Any

from torc.spec.model import WorkflowSpec

SCHEMA_ID = "https://torc.dev/schemas/torc-workflow.schema.json"


def workflow_schema() -> dict[str, Any]:
    """Give the schema of a whole spec."""
    schema = WorkflowSpec.model_json_schema(mode="validation")
    _close_maps(schema)
    properties = {
        "$schema": {"type": "string", "description": "Names this schema, for editors."},
        **schema["properties"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "Torc workflow",
        "properties": properties,
    }


def _close_maps(part: Any) -> None:
    """Forbid keys that do not match the pattern of a map: pydantic says only what those that match may hold."""
    if isinstance(part, dict):
        if "patternProperties" in part:
            part["additionalProperties"] = False
        part = list(part.values())
    if isinstance(part, list):
        for child in part:
            _close_maps(child)


def schema_text() -> str:
    """Give the schema as it is kept in `schemas/`."""
    return json.dumps(workflow_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
