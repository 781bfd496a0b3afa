"""YAML into a document. Composed by libyaml, constructed here: safe by design, positions kept, duplicates refused.

Scalars are read as YAML 1.1's safe schema reads them, as the tools that users know do, but dates stay strings and the
yes/no/on/off words of 1.1 stay strings too (a job may well be called `on`).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from torc.spec.diagnostics import Diagnostic, Span
from torc.spec.document import MAX_DEPTH, Document, Path, at

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_ALIASED_NODES = 1_000_000

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z|0o[0-7]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", "+.inf"), float("inf")),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}


def read_yaml(text: str, name: str) -> Document:
    """Read one YAML document."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        return _broken(text, name, error)
    except (yaml.YAMLError, UnicodeError, RecursionError, ValueError) as error:
        problem = Diagnostic("syntax", f"this is not YAML: {str(error).splitlines()[0]}", file=name)
        return Document(name, text, None, lambda path, key: None, [problem])
    builder = _Builder(text, name)
    data = None if root is None else builder.build(root, (), 0)
    return Document(name, text, data, lambda path, key: _locate(root, path, key), builder.problems)


def _broken(text: str, name: str, error: yaml.MarkedYAMLError) -> Document:
    mark = error.problem_mark or error.context_mark
    span = Span(mark.line + 1, mark.column + 1, mark.column + 2) if mark else None
    what = ": ".join(part for part in (error.context, error.problem) if part)
    hint = "quote the text: '...'" if "mapping values" in what or "cannot start any token" in what else None
    if (
        "\t" in text.splitlines()[mark.line][: mark.column + 1]
        if mark and mark.line < len(text.splitlines())
        else False
    ):
        hint = "indent with spaces: YAML allows no tabs"
    problem = at(name, text, span, "syntax", f"this is not YAML: {what}", (), hint)
    return Document(name, text, None, lambda path, key: span, [problem])


class _Builder:
    """Makes plain data of composed nodes."""

    def __init__(self, text: str, name: str) -> None:
        self.text, self.name = text, name
        self.problems: list[Diagnostic] = []
        self.built: dict[int, Any] = {}
        self.sizes: dict[int, int] = {}
        self.total = 0
        self.open: set[int] = set()

    def build(self, node: yaml.Node, path: Path, depth: int) -> Any:
        """Give the data of a node; problems are noted."""
        if isinstance(node, yaml.ScalarNode):
            self.total += 1
            return self._scalar(node, path)
        known = id(node)
        if known in self.built:
            return self._again(known, node, path)
        if depth > MAX_DEPTH or known in self.open:
            what = "contains itself" if known in self.open else f"is nested more than {MAX_DEPTH} deep"
            self._note(node, "too_deep", f"this {what}", path)
            return None
        self.open.add(known)
        before = self.total
        value: Any
        if isinstance(node, yaml.SequenceNode):
            value = [self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        else:
            value = self._mapping(node, path, depth)
        self.open.discard(known)
        self.built[known], self.sizes[known] = value, self.total - before + 1
        return value

    def _again(self, known: int, node: yaml.Node, path: Path) -> Any:
        self.total += self.sizes[known]
        if self.total > _MAX_ALIASED_NODES and not any(p.code == "too_large" for p in self.problems):
            self._note(node, "too_large", f"the aliases expand to more than {_MAX_ALIASED_NODES:,} values", path)
        return self.built[known]

    def _mapping(self, node: yaml.Node, path: Path, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" and key_node.value == "<<":
                self._merge(value_node, merged, path, depth)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, "bad_key", "a key must be plain text", path)
                continue
            key = key_node.value
            if key in result:
                self._note(key_node, "duplicate_key", f"`{key}` is given twice here", (*path, key))
            result[key] = self.build(value_node, (*path, key), depth + 1)
        return {**merged, **result} if merged else result

    def _merge(self, node: yaml.Node, merged: dict[str, Any], path: Path, depth: int) -> None:
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            data = self.build(part, path, depth + 1)
            if isinstance(data, dict):
                merged.update({key: value for key, value in data.items() if key not in merged})
            else:
                self._note(part, "bad_merge", "`<<` takes a mapping or a list of mappings", path)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = node.value
        tag = node.tag
        if tag == "tag:yaml.org,2002:str" or (node.style and tag.startswith("tag:yaml.org,2002:")):
            return text
        if not tag.startswith("tag:yaml.org,2002:"):
            self._note(node, "bad_tag", f"the tag {tag} means nothing here", path)
            return text
        return _plain(text)

    def _note(self, node: yaml.Node, code: str, message: str, path: Path) -> None:
        self.problems.append(at(self.name, self.text, _span(node), code, message, path))


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text) and len(text) < 4000:
        return int(text)
    if _HEX.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text


def _span(node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    width = end.column if end.line == start.line else start.column + 1
    return Span(start.line + 1, start.column + 1, max(width, start.column + 1) + 1)


def _locate(node: yaml.Node | None, path: Path, key: bool) -> Span | None:
    found: yaml.Node | None = node
    for index, part in enumerate(path):
        if isinstance(found, yaml.SequenceNode) and isinstance(part, int) and part < len(found.value):
            found = found.value[part]
        elif isinstance(found, yaml.MappingNode):
            pair = _pair(found, part)
            if pair is None:
                return None
            found = pair[0] if key and index == len(path) - 1 else pair[1]
        else:
            return None
    return None if found is None else _span(found)


def _pair(node: yaml.MappingNode, key: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    merged: tuple[yaml.Node, yaml.Node] | None = None
    for key_node, value_node in node.value:
        if getattr(key_node, "value", None) == str(key):
            return key_node, value_node
        if getattr(key_node, "value", None) == "<<":
            for part in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                if isinstance(part, yaml.MappingNode):
                    merged = merged or _pair(part, key)
    return merged
