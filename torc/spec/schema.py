"""The JSON Schema of specs (draft 2020-12), generated from the model, so that editors accept what Torc accepts."""

from __future__ import annotations

import json
from typing import Any

from torc.spec.model import MANAGED, WorkflowSpec

SCHEMA_ID = "https://torc.dev/schemas/torc-workflow.schema.json"


def workflow_schema() -> dict[str, Any]:
    """Return the schema of a whole spec."""
    schema = WorkflowSpec.model_json_schema(mode="validation")
    for part in [schema, *schema["$defs"].values()]:
        _allow_nulls(part)
    _close_maps(schema)
    defaults = schema["properties"]["slurm_defaults"]
    _defaults_object(defaults)["propertyNames"] = {"not": {"enum": list(MANAGED)}}
    properties = {
        "$schema": {"type": "string", "description": "The URL of this schema, for editors."},
        **schema["properties"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
        "title": "Torc workflow",
        "properties": properties,
    }


def _defaults_object(field: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a field's schema that describes an object."""
    found: dict[str, Any] = next((choice for choice in field.get("anyOf", ()) if choice.get("type") == "object"), field)
    return found


def _close_maps(part: Any) -> None:
    """Forbid keys that do not match the pattern of a map: pydantic only describes the values of matching keys."""
    if isinstance(part, dict):
        if "patternProperties" in part:
            part["additionalProperties"] = False
        part = list(part.values())
    if isinstance(part, list):
        for child in part:
            _close_maps(child)


#: keywords that describe a field and stay outside of its alternatives
_NOTES = ("title", "description", "default", "examples", "deprecated")


def _allow_nulls(part: dict[str, Any]) -> None:
    """Allow null for optional fields, which means that they are omitted."""
    for name, field in part.get("properties", {}).items():
        if name in part.get("required", ()) or _takes_null(field):
            continue
        notes = {key: field.pop(key) for key in _NOTES if key in field}
        choices = field.pop("anyOf") if set(field) == {"anyOf"} else [dict(field)]
        field.clear()
        field.update(anyOf=[*choices, {"type": "null"}], **notes)


def _takes_null(field: dict[str, Any]) -> bool:
    is_anything = not set(field) - set(_NOTES)
    return is_anything or any(choice.get("type") == "null" for choice in field.get("anyOf", ()))


def schema_text() -> str:
    """Return the schema as stored in `schemas/`."""
    return json.dumps(workflow_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
