"""KDL 1 and KDL 2 into a document of the same shape as the other formats give.

Repeatable nodes (`job`, `file`, ...) become lists of objects; a list inside a node is written as several arguments, as
repeated singular nodes, or both; properties and child nodes mean the same. Values are read by ckdl; positions come from
`kdl_positions` when there is something to report.
"""

from __future__ import annotations

import json
from typing import Any

import ckdl

from torc.spec.diagnostics import Diagnostic, Span
from torc.spec.document import MAX_DEPTH, Document, Path, at
from torc.spec.kdl_positions import Place, places
from torc.spec.read_json import span_at

#: node -> (field, kind). named: the first argument is the name; list: values add up; map: children are entries;
#: objects: each node is one object of a list.
_TOP = {
    "job": ("jobs", "named"),
    "file": ("files", "named"),
    "user_data": ("user_data", "named"),
    "resource_requirements": ("resource_requirements", "named"),
    "failure_handler": ("failure_handlers", "named"),
    "slurm_scheduler": ("slurm_schedulers", "named"),
    "action": ("actions", "object"),
}
_SINGULAR = {
    "input_file": "input_files",
    "output_file": "output_files",
    "input_file_regex": "input_file_regexes",
    "output_file_regex": "output_file_regexes",
    "input_user_data_regex": "input_user_data_regexes",
    "output_user_data_regex": "output_user_data_regexes",
    "depends_on_job": "depends_on",
    "depends_on_regex": "depends_on_regexes",
    "use_parameter": "use_parameters",
    "exit_code": "exit_codes",
    "match_category": "match_categories",
    "job_name_regex": "job_name_regexes",
    "metric": "metrics",
}
_IN_ACTION = {"command": "commands", "job": "jobs"}
_LISTS = {
    *_SINGULAR.values(),
    "input_user_data",
    "output_user_data",
    "commands",
    "jobs",
}
_OBJECTS = {"resource_requirements", "resource_monitor"}
_MAPS = {"parameters", "env", "slurm_defaults", "resource_monitor", "metadata"}

#: data path -> where it was written: the node by child indexes, then an argument, a property, or the node itself
Origin = tuple[tuple[int, ...], int | str | None]


def read_kdl(text: str, name: str) -> Document:
    """Read one KDL document of either version."""
    locator = _Locator(text)
    try:
        parsed = ckdl.parse(text)
    except (ckdl.ParseError, ValueError, UnicodeError, RecursionError):
        return Document(name, text, None, locator.locate, [_broken(text, name)])
    if _too_deep(parsed.nodes):
        problem = Diagnostic("too_deep", f"this is nested more than {MAX_DEPTH} deep", file=name)
        return Document(name, text, None, locator.locate, [problem])
    builder = _Builder(None)
    data = builder.top(parsed.nodes)
    locator.nodes = parsed.nodes
    document = Document(name, text, data, locator.locate)
    for code, message, where in builder.problems:
        document.problems.append(at(name, text, locator.place((where, None)), code, message))
    return document


def _too_deep(nodes: list[Any]) -> bool:
    level, depth = nodes, 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return True
        level = [child for node in level for child in node.children]
    return False


def _broken(text: str, name: str) -> Diagnostic:
    """Find the first line after which the text stops being KDL: ckdl says only that it is not."""
    lines = text.split("\n")
    low, high = 0, len(lines)
    while low < high:  # the longest prefix that is, or could be the beginning of, a document
        middle = (low + high + 1) // 2
        if _could_begin("\n".join(lines[:middle])):
            low = middle
        else:
            high = middle - 1
    line = min(low, len(lines) - 1)
    column = len(lines[line]) - len(lines[line].lstrip()) + 1
    opened = low == len(lines)
    message = "a brace or a quote is not closed" if opened else "this line does not fit"
    span = Span(line + 1, column, max(len(lines[line].rstrip()), column) + 1)
    return at(name, text, span, "syntax", f"this is not KDL: {message}")


def _could_begin(text: str) -> bool:
    for closing in ("", '"', '"""', '"#'):
        depth = text.count("{") - text.count("}")
        try:
            ckdl.parse(text + closing + "\n" + "}\n" * max(depth, 0))
        except (ckdl.ParseError, ValueError, UnicodeError):
            continue
        return True
    return False


class _Builder:
    """Makes data of nodes; with `origins`, notes where each part came from."""

    def __init__(self, origins: dict[Path, Origin] | None) -> None:
        self.origins = origins
        self.problems: list[tuple[str, str, tuple[int, ...]]] = []

    def top(self, nodes: list[Any]) -> dict[str, Any]:
        """Build the whole document."""
        data: dict[str, Any] = {}
        for index, node in enumerate(nodes):
            where = (index,)
            field, kind = _TOP.get(node.name, (node.name, "field"))
            if kind == "field":
                self._field(data, node, (), where, in_action=False)
                continue
            items = data.setdefault(field, [])
            path: Path = (field, len(items))
            items.append(self._object(node, path, where, named=kind == "named", in_action=kind == "object"))
        return data

    def _object(self, node: Any, path: Path, where: tuple[int, ...], *, named: bool, in_action: bool) -> dict[str, Any]:
        data: dict[str, Any] = {}
        self._note(path, where, None)
        if named and node.args:
            data["name"] = _value(node.args[0])
            self._note((*path, "name"), where, 0)
        extra = node.args[1:] if named else node.args
        if extra:
            self.problems.append(("bad_argument", f"`{node.name}` does not take {_value(extra[0])!r} here", where))
        for key, value in node.properties.items():
            field = self._name(key, in_action)
            self._note((*path, field), where, key)
            data[field] = [_value(value)] if field in _LISTS else self._data(field, _value(value))
        for index, child in enumerate(node.children):
            self._field(data, child, path, (*where, index), in_action=in_action)
        return data

    def _field(self, data: dict[str, Any], node: Any, path: Path, where: tuple[int, ...], *, in_action: bool) -> None:
        field = self._name(node.name, in_action)
        here = (*path, field)
        if field == "rule":
            rules = data.setdefault("rules", [])
            rules.append(self._object(node, (*path, "rules", len(rules)), where, named=False, in_action=False))
        elif field in _LISTS:
            items = data.setdefault(field, [])
            self._note(here, where, None)
            for index, value in enumerate(node.args):
                self._note((*here, len(items)), where, index)
                items.append(_value(value))
        elif field in data:
            self.problems.append(("duplicate_key", f"`{node.name}` is given twice here", where))
        elif field in _MAPS and not node.args:
            self._note(here, where, None)
            data[field] = self._map(node, here, where)
        elif node.children or node.properties:
            data[field] = self._object(node, here, where, named=bool(node.args), in_action=False)
        elif field in _OBJECTS and not node.args:
            self._note(here, where, None)
            data[field] = {}
        else:
            self._note(here, where, 0 if node.args else None)
            values = [_value(value) for value in node.args]
            data[field] = self._data(field, values[0]) if len(values) == 1 else values or None

    def _map(self, node: Any, path: Path, where: tuple[int, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.properties.items():
            data[key] = _value(value)
            self._note((*path, key), where, key)
        for index, child in enumerate(node.children):
            inner = (*where, index)
            if child.name in data:
                self.problems.append(("duplicate_key", f"`{child.name}` is given twice here", inner))
            self._note((*path, child.name), inner, 0 if child.args else None)
            values = [_value(value) for value in child.args]
            if child.children or child.properties:
                data[child.name] = self._map(child, (*path, child.name), inner)
            else:
                data[child.name] = values[0] if len(values) == 1 else values
        return data

    @staticmethod
    def _name(name: str, in_action: bool) -> str:
        return _IN_ACTION.get(name, name) if in_action else _SINGULAR.get(name, name)

    @staticmethod
    def _data(field: str, value: Any) -> Any:
        """User data is JSON in a string; text that is no JSON stays text."""
        if field == "data" and isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value

    def _note(self, path: Path, where: tuple[int, ...], what: int | str | None) -> None:
        if self.origins is not None:
            self.origins[path] = (where, what)


def _value(value: Any) -> Any:
    return value.value if isinstance(value, ckdl.Value) else value


class _Locator:
    """Finds places; scans the text and builds the origins on first use."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.nodes: list[Any] = []
        self._origins: dict[Path, Origin] | None = None
        self._places: list[Place] | None = None

    def locate(self, path: Path, key: bool) -> Span | None:
        """Find a path."""
        if self._origins is None:
            self._origins = {}
            _Builder(self._origins).top(self.nodes)
        origin = self._origins.get(path)
        if origin is None:
            return None
        return self.place((origin[0], None if key and not isinstance(origin[1], str) else origin[1]))

    def place(self, origin: Origin) -> Span | None:
        """Give the place of an origin."""
        if self._places is None:
            self._places = places(self.text)
        level, found = self._places, None
        for index in origin[0]:
            if index >= len(level):
                return None
            found = level[index]
            level = found.children
        if found is None:
            return None
        what = origin[1]
        offset = found.name
        if isinstance(what, int) and what < len(found.arguments):
            offset = found.arguments[what]
        elif isinstance(what, str):
            offset = found.properties.get(what, found.name)
        return span_at(self.text, *offset)
