"""JSON and JSON5 into a document: read by compiled readers, positions scanned for only when one is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pyjson5

from torc.spec.diagnostics import Diagnostic, Span
from torc.spec.document import MAX_DEPTH, Document, Path, at

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\ufeff|//[^\n\r]*|/\*.*?\*/)+)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<mark>[\[\]{}:,])
      | (?P<word>[^\s\[\]{}:,"'/]+)
      | (?P<odd>.)""",
    re.VERBOSE | re.DOTALL,
)


class _Twice(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Twice(key)
            seen.add(key)
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def read_json(text: str, name: str) -> Document:
    """Read one JSON document."""
    index = _Index(text)
    try:
        data = json.loads(text, object_pairs_hook=_pairs, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        problem = at(name, text, span_at(text, error.pos, 1), "syntax", f"this is not JSON: {error.msg}")
        return Document(name, text, None, index.locate, [problem])
    except _Twice as error:
        return Document(name, text, None, index.locate, [_twice(index, name, error.key)])
    except (ValueError, RecursionError) as error:
        return Document(name, text, None, index.locate, [Diagnostic("syntax", f"this is not JSON: {error}", file=name)])
    return _bounded(Document(name, text, data, index.locate))


def read_json5(text: str, name: str) -> Document:
    """Read one JSON5 document."""
    index = _Index(text)
    try:
        data = pyjson5.decode(text, maxdepth=MAX_DEPTH * 2)
    except pyjson5.Json5Exception as error:
        found = re.search(r"near (\d+)", str(error))
        span = span_at(text, max(int(found[1]) - 1, 0), 1) if found else None
        message = str(error.args[0] if error.args else error).replace("b'", "'")
        problem = at(name, text, span, "syntax", f"this is not JSON5: {message}")
        return Document(name, text, None, index.locate, [problem])
    except (ValueError, RecursionError, UnicodeError) as error:
        return Document(
            name, text, None, index.locate, [Diagnostic("syntax", f"this is not JSON5: {error}", file=name)]
        )
    document = _bounded(Document(name, text, data, index.locate))
    document.problems += [_twice(index, name, key) for key in index.duplicates()[:1]]
    return document


def _bounded(document: Document) -> Document:
    level, depth = [document.data], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            problem = Diagnostic("too_deep", f"this is nested more than {MAX_DEPTH} deep", file=document.name)
            return Document(document.name, document.text, None, document.locate, [problem])
        level = (
            [
                child
                for node in level
                for child in (node.values() if isinstance(node, dict) else node)
                if isinstance(child, (dict, list))
            ]
            if depth > 1 or isinstance(document.data, (dict, list))
            else []
        )
    return document


def _twice(index: _Index, name: str, key: str) -> Diagnostic:
    span = next((span for path, span in index.second_keys() if path[-1] == key), None)
    return at(name, index.text, span, "duplicate_key", f"`{key}` is given twice here", (key,))


def span_at(text: str, position: int, width: int) -> Span:
    """Give the place of so many characters from an offset on."""
    position = min(position, len(text))
    start = text.rfind("\n", 0, position) + 1
    column = position - start + 1
    return Span(text.count("\n", 0, position) + 1, column, column + max(width, 1))


class _Index:
    """Where keys and values stand; made on first use."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._keys: dict[Path, tuple[int, int]] | None = None
        self._values: dict[Path, tuple[int, int]] = {}
        self._twice: list[tuple[Path, tuple[int, int]]] = []

    def locate(self, path: Path, key: bool) -> Span | None:
        """Find a path."""
        keys = self._made()
        found = keys.get(path) if key else None
        found = found or self._values.get(path)
        return None if found is None else span_at(self.text, found[0], found[1])

    def duplicates(self) -> list[str]:
        """Give keys that an object has twice."""
        self._made()
        return [str(path[-1]) for path, _ in self._twice]

    def second_keys(self) -> list[tuple[Path, Span]]:
        """Give the places of keys that an object has already."""
        self._made()
        return [(path, span_at(self.text, *place)) for path, place in self._twice]

    def _made(self) -> dict[Path, tuple[int, int]]:
        if self._keys is None:
            self._keys = {}
            self._scan(self._keys)
        return self._keys

    def _scan(self, keys: dict[Path, tuple[int, int]]) -> None:
        path: list[str | int] = []
        kinds: list[str] = []
        expect_key = False
        for kind, value, position in _tokens(self.text):
            if kind == "mark" and value in "[{":
                self._values.setdefault(tuple(path), (position, 1))
                kinds.append(value)
                path.append(0 if value == "[" else "")
                expect_key = value == "{"
            elif kind == "mark" and value in "]}":
                if not kinds:
                    return
                kinds.pop()
                path.pop()
                expect_key = False
            elif kind == "mark" and value == ",":
                if kinds and kinds[-1] == "[" and isinstance(path[-1], int):
                    path[-1] += 1
                expect_key = bool(kinds) and kinds[-1] == "{"
            elif kind == "mark":
                expect_key = False
            elif expect_key:
                path[-1] = _unquoted(value)
                place = (position, len(value))
                if tuple(path) in keys:
                    self._twice.append((tuple(path), place))
                keys[tuple(path)] = place
            else:
                self._values[tuple(path)] = (position, len(value.split("\n")[0]))


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "odd"
        if kind != "space":
            yield kind, match[0], match.start()


def _unquoted(token: str) -> str:
    if token[:1] not in "\"'":
        return token
    try:
        return str(pyjson5.decode(token))
    except (pyjson5.Json5Exception, ValueError):
        return token[1:-1]
