"""Write the data of a spec as KDL."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from torc.planning.scheduler_types import SCHEDULER_TYPES
from torc.spec.formats import SCHEMA_FILE

#: field -> KDL node of each of its items
_NODES = {
    "jobs": "job",
    "files": "file",
    "user_data": "user_data",
    "resource_requirements": "resource_requirements",
    "failure_handlers": "failure_handler",
    **{each.spec_field: each.row_kind for each in SCHEDULER_TYPES.values()},
    "actions": "action",
}
_IN_ACTION = {"commands": "command", "jobs": "job"}
_MAPS = {"parameters", "env", "metadata", *(each.defaults_field for each in SCHEDULER_TYPES.values())}
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_WORDS = {"true", "false", "null", "inf", "nan"}


def write_kdl(data: Mapping[str, Any]) -> str:
    lines = [f"// $schema: {SCHEMA_FILE}"]
    for field, value in data.items():
        if field in _NODES:
            for item in value:
                _kdl_object(lines, _NODES[field], item, 0, in_action=field == "actions")
        else:
            _kdl_field(lines, field, value, 0)
    return "\n".join(lines) + "\n"


def _kdl_object(lines: list[str], node: str, item: Mapping[str, Any], depth: int, *, in_action: bool = False) -> None:
    indent = "    " * depth
    name = f" {_kdl_value(item['name'])}" if "name" in item and node != "rule" else ""
    rest = {key: value for key, value in item.items() if not (key == "name" and name)}
    if not rest:
        lines.append(f"{indent}{node}{name}" + ("" if name else " {\n" + indent + "}"))
        return
    lines.append(f"{indent}{node}{name} {{")
    for key, value in rest.items():
        if key == "rules":
            for rule in value:
                _kdl_object(lines, "rule", rule, depth + 1)
        elif key == "data":
            lines.append(f"{indent}    data {_kdl_value(json.dumps(value, ensure_ascii=False))}")
        else:
            _kdl_field(lines, _IN_ACTION.get(key, key) if in_action else key, value, depth + 1)
    lines.append(f"{indent}}}")


def _kdl_field(lines: list[str], field: str, value: Any, depth: int) -> None:
    indent = "    " * depth
    if field == "metadata" and isinstance(value, dict):
        lines.append(f"{indent}metadata {_kdl_value(json.dumps(value, ensure_ascii=False))}")
    elif isinstance(value, dict) and field in _MAPS:
        lines.append(f"{indent}{field} {{")
        for key, item in value.items():
            if isinstance(item, list) and len(item) == 1:  # a single argument would be a single value
                lines.append(f"{indent}    {_kdl_name(key)} {{ - {_kdl_value(item[0])}; }}")
            else:
                lines.append(f"{indent}    {_kdl_name(key)} {_kdl_values(item)}")
        lines.append(f"{indent}}}")
    elif isinstance(value, dict):
        _kdl_object(lines, field, value, depth)
    elif isinstance(value, list):
        if value:
            lines.append(f"{indent}{field} {_kdl_values(value)}")
    else:
        lines.append(f"{indent}{field} {_kdl_value(value)}")


def _kdl_values(value: Any) -> str:
    return " ".join(_kdl_value(item) for item in value) if isinstance(value, list) else _kdl_value(value)


def _kdl_name(name: str) -> str:
    return name if _BARE.match(name) and name not in _WORDS else _kdl_value(name)


def _kdl_value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "#null", True: "#true", False: "#false"}[value]
    if isinstance(value, str):
        return '"' + "".join(_escaped(character) for character in value) + '"'
    return json.dumps(value)


def _escaped(character: str) -> str:
    known = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}
    if character in known:
        return known[character]
    is_plain = character.isprintable() or character == "\u00a0"
    return character if is_plain else f"\\u{{{ord(character):x}}}"
