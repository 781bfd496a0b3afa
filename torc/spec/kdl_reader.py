"""Read KDL 1 and KDL 2 into the same document structure as the other formats.

Repeatable nodes (`job`, `file`, ...) become lists of objects; a list inside a node is written as several arguments, as repeated
singular nodes, or both; properties and child nodes are equivalent. Values are parsed by ckdl; positions come from `kdl_positions`
when there is something to report.
"""

from __future__ import annotations

import json
import re
from typing import Any

import ckdl

from torc.planning.scheduler_types import SCHEDULER_TYPES
from torc.spec.diagnostics import Span
from torc.spec.document import MAX_DEPTH, Document, Lines, Path
from torc.spec.kdl_positions import KdlNode, imbalance, long_number, open_braces, places

#: node -> (field, kind). named: the first argument is the name; list: values accumulate; map: children are entries;
#: objects: each node is one object of a list.
_TOP = {
    "job": ("jobs", "named"),
    "file": ("files", "named"),
    "user_data": ("user_data", "named"),
    "resource_requirements": ("resource_requirements", "named"),
    "failure_handler": ("failure_handlers", "named"),
    **{each.row_kind: (each.spec_field, "named") for each in SCHEDULER_TYPES.values()},
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
_MAPS = {"parameters", "env", "metadata", *(each.defaults_field for each in SCHEDULER_TYPES.values())}

#: ckdl parses a number in time quadratic in its digits, without releasing the interpreter lock
_MOST_DIGITS = 4000
_LONG_DIGITS = re.compile(f"(?<![0-9A-Fa-f_])[0-9A-Fa-f_]{{{_MOST_DIGITS}}}")

#: data path -> its origin: the node by child indexes, then an argument, a property, or the node itself
Origin = tuple[tuple[int, ...], int | str | None]


def read_kdl(text: str, name: str) -> Document:
    """Read one KDL document of either version."""
    locator = _Locator(text)
    document = Document(name, text, locate=locator.locate)
    document.may_differ = True
    if _LONG_DIGITS.search(text) and (at := long_number(text, _MOST_DIGITS)) is not None:
        document.report(
            "syntax", f"a number has more than {_MOST_DIGITS} digits: put it in quotes", span=document.lines.span(at)
        )
        return document
    try:
        nodes = ckdl.parse(text).nodes
    except (ckdl.ParseError, ValueError, RecursionError):
        _report_syntax(document)
        return document
    if _too_deep(nodes):
        document.report("too_deep", f"this is nested more than {MAX_DEPTH} deep")
        return document
    builder = _KdlBuilder(None)
    data = builder.top(nodes)
    locator.nodes = nodes
    for code, message, where in builder.problems:
        document.report(code, message, span=locator.place((where, None)))
    document.data = data
    return document


def _too_deep(nodes: list[Any]) -> bool:
    level, depth = nodes, 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return True
        level = [child for node in level for child in node.children]
    return False


def _report_syntax(document: Document) -> None:
    """Report a specific error: ckdl only says that there is one."""
    text, lines = document.text, document.lines
    unclosed = imbalance(text)
    if unclosed is not None:
        document.report("syntax", f"this is not KDL: {unclosed[1]}", span=lines.span(unclosed[0]))
        return
    starts = [0, *(at + 1 for at, character in enumerate(text) if character == "\n"), len(text)]
    low, high = 0, len(starts) - 1
    while low < high:  # the longest prefix of lines that is, or could start, a document
        middle = (low + high + 1) // 2
        if _could_begin(text[: starts[middle]]):
            low = middle
        else:
            high = middle - 1
    line = text[starts[low] :].split("\n", 1)[0]
    start = starts[low] + len(line) - len(line.lstrip())
    span = lines.span(start, max(len(line.strip()), 1))
    document.report("syntax", "this is not KDL: unexpected line", span=span)


def _could_begin(text: str) -> bool:
    for closing in ("", '"', '"""', '"#', "*/"):
        try:
            ckdl.parse(text + closing + "\n" + "}\n" * open_braces(text))
        except (ckdl.ParseError, ValueError):
            continue
        return True
    return False


class _KdlBuilder:
    """Builds data from nodes; with `origins`, records where each part comes from."""

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
            if field in _LISTS:
                self._note((*path, field), where, key)
                self._note((*path, field, 0), where, key)
                data[field] = [_value(value)]
            elif self._is_new(data, field, key, where):
                self._note((*path, field), where, key)
                data[field] = self._data(field, _value(value))
        for index, child in enumerate(node.children):
            self._field(data, child, path, (*where, index), in_action=in_action)
        return data

    def _field(self, data: dict[str, Any], node: Any, path: Path, where: tuple[int, ...], *, in_action: bool) -> None:
        field = self._name(node.name, in_action)
        here = (*path, field)
        if field == "rule" and isinstance(data.setdefault("rules", []), list):
            rules = data["rules"]
            rules.append(self._object(node, (*path, "rules", len(rules)), where, named=False, in_action=False))
        elif field in _LISTS and isinstance(data.setdefault(field, []), list) and not node.children:
            items = data[field]
            self._note(here, where, None)
            for index, value in enumerate(node.args):
                self._note((*here, len(items)), where, index)
                items.append(_value(value))
        elif not self._is_new(data, field, node.name, where):
            return
        elif field in _MAPS and not node.args:
            self._note(here, where, None)
            data[field] = self._map(node, here, where)
        elif node.children or node.properties or (field in _OBJECTS and not node.args):
            data[field] = self._object(node, here, where, named=bool(node.args), in_action=False)
        else:
            self._note(here, where, 0 if node.args else None)
            values = [_value(value) for value in node.args]
            data[field] = self._data(field, values[0]) if len(values) == 1 else values or None

    def _is_new(self, data: dict[str, Any], field: str, written: str, where: tuple[int, ...]) -> bool:
        if field in data:
            self.problems.append(("duplicate_key", f"`{written}` is given twice here", where))
        return field not in data

    def _map(self, node: Any, path: Path, where: tuple[int, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.properties.items():
            data[key] = _value(value)
            self._note((*path, key), where, key)
        for index, child in enumerate(node.children):
            inner = (*where, index)
            if self._is_new(data, child.name, child.name, inner):
                data[child.name] = self._entry(child, (*path, child.name), inner)
        return data

    def _entry(self, node: Any, path: Path, where: tuple[int, ...]) -> Any:
        """Return an entry of a map: a value, several values, `-` children for a list of any length, or a nested map."""
        self._note(path, where, 0 if node.args else None)
        if node.children and not node.args and not node.properties and all(c.name == "-" for c in node.children):
            return [self._entry(child, (*path, at), (*where, at)) for at, child in enumerate(node.children)]
        if node.children or node.properties:
            return self._map(node, path, where)
        for at in range(len(node.args)):
            self._note((*path, at), where, at)
        values = [_value(value) for value in node.args]
        return values[0] if len(values) == 1 else values

    @staticmethod
    def _name(name: str, in_action: bool) -> str:
        return _IN_ACTION.get(name, name) if in_action else _SINGULAR.get(name, name)

    @staticmethod
    def _data(field: str, value: Any) -> Any:
        """Parse user data, which is JSON in a string; other text stays text."""
        if field == "data" and isinstance(value, str):
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return value
        return value

    def _note(self, path: Path, where: tuple[int, ...], what: int | str | None) -> None:
        if self.origins is not None:
            self.origins[path] = (where, what)


def _value(value: Any) -> Any:
    return value.value if isinstance(value, ckdl.Value) else value


class _Locator:
    """Finds positions; scans the text and computes the origins on first use."""

    def __init__(self, text: str) -> None:
        self.lines = Lines(text)
        self.nodes: list[Any] = []
        self._origins: dict[Path, Origin] | None = None
        self._places: list[KdlNode] | None = None

    def locate(self, path: Path, key: bool) -> Span | None:
        """Find a path."""
        if self._origins is None:
            self._origins = {}
            _KdlBuilder(self._origins).top(self.nodes)
        origin = self._origins.get(path)
        return None if origin is None else self.place(origin, key=key)

    def place(self, origin: Origin, *, key: bool = False) -> Span | None:
        """Return the position of an origin, or of its name."""
        if self._places is None:
            self._places = places(self.lines.text)
        level, found = self._places, None
        for index in origin[0]:
            if index >= len(level):
                return None
            found = level[index]
            level = found.children
        if found is None:
            return None
        extent, what = found.name, origin[1]
        if isinstance(what, str) and what in found.properties:
            extent = found.properties[what][0 if key else 1]
        elif isinstance(what, int) and what < len(found.arguments) and not key:
            extent = found.arguments[what]
        return self.lines.span(*extent)
