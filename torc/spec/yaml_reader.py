"""Read YAML: parsed by libyaml, built here from its events. No code is executed, duplicates are rejected, and depth is limited.

Nothing recurses, so no text can exhaust the stack. Positions come from a second pass, made only when there is something to report.

Plain scalars follow the core schema of YAML 1.2 (section 10.3.2): `on`, `yes` and dates are text, `1e3` is a number. Merge keys
(`<<`) of YAML 1.1 are supported because specs use them. Tags other than the standard ones are reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from torc.spec.diagnostics import Span
from torc.spec.document import MAX_DEPTH, Document, Lines, Path

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_ALIASED_NODES = 1_000_000
_STANDARD = "tag:yaml.org,2002:"

_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: a leading zero makes digits text: a code, such as 00501
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,3999})\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,4000}\Z|0o[0-7]{1,4000}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_INTEGER = re.compile(r"(?:0|-?[1-9][0-9]*)\Z")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_MERGE = object()


class _Hopeless(Exception):
    """The document cannot be read further; the problem has been reported."""


def read_yaml(text: str, name: str) -> Document:
    """Read one YAML document."""
    places = _YamlPlaces(text)
    document = Document(name, text, locate=places.locate)
    builder = _YamlBuilder(document)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except _Hopeless:
        return document
    except yaml.MarkedYAMLError as error:
        _report_syntax(document, error)
        return document
    except (yaml.YAMLError, UnicodeError) as error:
        found = _FORBIDDEN.search(text)
        span = document.lines.span(found.start()) if found else None
        what = f"the character U+{ord(found[0]):04X} is not allowed" if found else str(error).splitlines()[0]
        document.report("syntax", f"this is not YAML: {what}", span=span)
        return document
    document.data = builder.root
    return document


def _report_syntax(document: Document, error: yaml.MarkedYAMLError) -> None:
    mark = error.problem_mark or error.context_mark
    span = document.lines.span(mark.index) if mark else None
    what = ": ".join(part for part in (error.context, error.problem) if part)
    hint = "quote the text: '...'" if "mapping values" in what or "cannot start any token" in what else None
    if mark and "expected ',' or" in what and document.text[mark.index : mark.index + 1] in {"{", "["}:
        hint = 'quote text that has braces or brackets in it: "case_{i}"'
    if span is not None:
        start, end = document.lines.limits(span.line)
        if "\t" in document.text[start : min(end, start + span.column)]:
            hint = "indent with spaces: YAML allows no tabs"
    document.report("syntax", f"this is not YAML: {what}", span=span, suggestion=hint)


@dataclass(slots=True)
class _Open:
    """A mapping or sequence being read."""

    value: Any
    path: Path
    anchor: str | None
    size_before: int
    is_mapping: bool
    key: Any = None  # of a mapping: the key whose value follows
    has_key: bool = False
    merged: dict[str, Any] = field(default_factory=dict)


class _YamlBuilder:
    """Builds plain data from events."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.root: Any = None
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.size = 0
        self.num_documents = 0

    def take(self, event: Any) -> None:
        """Handle the next event."""
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self.size += 1
            self._add(self._scalar(event), event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            self._begin(event, is_mapping=kind is yaml.MappingStartEvent)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self._end(event)
        elif kind is yaml.AliasEvent:
            self._alias(event)
        elif kind is yaml.DocumentStartEvent:
            self.num_documents += 1
            if self.num_documents > 1:
                self._stop(event, "syntax", "a spec must be a single YAML document; this starts another one")

    def _begin(self, event: Any, *, is_mapping: bool) -> None:
        if len(self.open) >= MAX_DEPTH:
            self._stop(event, "too_deep", f"this is nested more than {MAX_DEPTH} deep")
        value: Any = {} if is_mapping else []
        if event.anchor is not None:
            self.anchors.pop(event.anchor, None)
        self.open.append(_Open(value, self._path(), event.anchor, self.size, is_mapping))
        self.size += 1

    def _end(self, event: Any) -> None:
        done = self.open.pop()
        value = done.value
        if done.merged:
            value = {**done.merged, **value}
        if done.anchor is not None:
            self.anchors[done.anchor] = (value, self.size - done.size_before)
        self._add(value, event)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            if any(part.anchor == event.anchor for part in self.open):
                self._stop(event, "too_deep", f"`*{event.anchor}` contains itself")
            self._stop(event, "syntax", f"this is not YAML: there is no anchor `&{event.anchor}` before this")
        value, size = self.anchors[event.anchor]
        self.size += size
        if self.size > _MAX_ALIASED_NODES:
            self._stop(event, "too_large", f"the aliases make this document more than {_MAX_ALIASED_NODES:,} values")
        self._add(value, event)

    def _add(self, value: Any, event: Any) -> None:
        if not self.open:
            self.root = value
            return
        parent = self.open[-1]
        if not parent.is_mapping:
            parent.value.append(value)
        elif not parent.has_key:
            parent.has_key, parent.key = True, self._key(parent, value, event)
        else:
            parent.has_key = False
            if parent.key is _MERGE:
                self._merge(parent, value, event)
            elif parent.key is not None:
                parent.value[parent.key] = value

    def _key(self, parent: _Open, value: Any, event: Any) -> Any:
        """Check a key. None: its value is read and dropped."""
        if isinstance(event, yaml.ScalarEvent):
            key = event.value
            if key == "<<" and event.implicit[0]:
                return _MERGE
        elif isinstance(value, str) and isinstance(event, yaml.AliasEvent):
            key = value
        else:
            self._note(event, "bad_key", "a key must be plain text", parent.path)
            return None
        if key in parent.value:
            self._note(event, "duplicate_key", f"`{key}` is given twice here", (*parent.path, key))
            return None
        parent.value[key] = None
        return key

    def _merge(self, parent: _Open, value: Any, event: Any) -> None:
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                parent.merged = {**part, **parent.merged}
            else:
                self._note(event, "bad_merge", "`<<` takes a mapping or a list of mappings", parent.path)

    def _scalar(self, event: Any) -> Any:
        value = self._plain_or_text(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, 1)
        return value

    def _plain_or_text(self, event: Any) -> Any:
        text: str = event.value
        if event.implicit[0]:
            value = _plain(text)
            if not isinstance(value, str) and value is not None and not _INTEGER.match(text):
                self.document.may_differ = True
            return value
        tag = event.tag
        if event.implicit[1] or tag in {None, "!", _STANDARD + "str"}:
            return text
        if tag in {_STANDARD + "int", _STANDARD + "float", _STANDARD + "bool", _STANDARD + "null"}:
            return _plain(text)
        self._note(event, "bad_tag", f"the tag {tag} is not supported", self._path())
        return text

    def _path(self) -> Path:
        """Return the path of the next value."""
        if not self.open:
            return ()
        parent = self.open[-1]
        if not parent.is_mapping:
            return (*parent.path, len(parent.value))
        return (*parent.path, parent.key) if isinstance(parent.key, str) else parent.path

    def _note(self, event: Any, code: str, message: str, path: Path) -> None:
        self.document.report(code, message, path, span=_span(self.document.lines, event))

    def _stop(self, event: Any, code: str, message: str) -> None:
        self._note(event, code, message, self._path())
        raise _Hopeless


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INT.match(text):
        return int(text)
    if _HEX.match(text):
        return int(text, 0)
    return float(text) if _FLOAT.match(text) else text


def _span(lines: Lines, node: Any) -> Span:
    return lines.span(node.start_mark.index, node.end_mark.index - node.start_mark.index)


class _YamlPlaces:
    """Finds positions in a composed document. Composing recurses, so it is only done for text that was read successfully."""

    def __init__(self, text: str) -> None:
        self.lines = Lines(text)
        self._root: Any = None
        self._is_composed = False

    def locate(self, path: Path, key: bool) -> Span | None:
        """Find a path."""
        if not self._is_composed:
            self._is_composed = True
            try:
                self._root = yaml.compose(self.lines.text, Loader=_Loader)
            except yaml.YAMLError:
                self._root = None
        found = self._root
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
        return None if found is None else _span(self.lines, found)


def _pair(node: yaml.MappingNode, key: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    merged: tuple[yaml.Node, yaml.Node] | None = None
    for key_node, value_node in node.value:
        if getattr(key_node, "value", None) == key:
            return key_node, value_node
        if getattr(key_node, "value", None) == "<<":
            for part in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                if isinstance(part, yaml.MappingNode):
                    merged = merged or _pair(part, key)
    return merged
