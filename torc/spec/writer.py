"""A checked spec as text in any of the formats, without losing meaning. Only what the spec set is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from torc.spec.model import WorkflowSpec

SCHEMA_FILE = "torc-workflow.schema.json"
#: field -> KDL node of each of its items
_NODES = {
    "jobs": "job",
    "files": "file",
    "user_data": "user_data",
    "resource_requirements": "resource_requirements",
    "failure_handlers": "failure_handler",
    "slurm_schedulers": "slurm_scheduler",
    "actions": "action",
}
_IN_ACTION = {"commands": "command", "jobs": "job"}
_MAPS = {"parameters", "env", "slurm_defaults", "metadata"}
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_WORDS = {"true", "false", "null", "inf", "nan"}


def write_spec(spec: WorkflowSpec, format: str) -> str:
    """Write a spec as `yaml`, `json`, `json5` or `kdl`."""
    data = spec.model_dump(mode="json", exclude_unset=True)
    if format == "yaml":
        header = f"# yaml-language-server: $schema={SCHEMA_FILE}\n"
        return header + yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    if format == "kdl":
        return f"// $schema: {SCHEMA_FILE}\n" + _kdl_document(data)
    return json.dumps({"$schema": SCHEMA_FILE, **data}, indent=2, ensure_ascii=False) + "\n"


class _Dumper(yaml.SafeDumper):
    """Keeps texts of several lines readable, and repeats nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # only what a block keeps to the letter: no trailing blanks, nothing but line feeds to end lines
    plain = "\n" in text and not re.search(r"[ \t]\n|[^\n -~\u00a1-\ud7ff]|\A\s|[ \t]\Z", text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if plain else _quotes(text))


def _quotes(text: str) -> str | None:
    """Quote what other readers of YAML may take for something else, and what only double quotes keep."""
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\xa0\u2028\u2029\ufeff]", text):
        return '"'
    return "'" if re.fullmatch(r"[-+.0-9][-+.:_0-9eExXoO]*|[yYnN]|on|off|yes|no|On|Off|Yes|No", text) else None


_Dumper.add_representer(str, _text)


def _kdl_document(data: Mapping[str, Any]) -> str:
    lines: list[str] = []
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
            if isinstance(item, list) and len(item) == 1:  # one argument alone would be a single value
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
