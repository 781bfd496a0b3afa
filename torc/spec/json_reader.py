"""Read JSON and JSON5: parsed by compiled readers; positions are scanned for only on request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pyjson5

from torc.spec.diagnostics import Span
from torc.spec.document import MAX_DEPTH, Document, Lines, Path

_TOKEN = re.compile(
    r"""(?P<space>(?:\s|\ufeff|//[^\n\r\u2028\u2029]*|/\*.*?(?:\*/|\Z))+)
      | (?P<string>"(?:[^"\\]|\\.)*(?:"|\\?\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z))
      | (?P<mark>[\[\]{}:,])
      | (?P<word>[^\s\[\]{}:,"'/]+)
      | (?P<odd>.)""",
    re.VERBOSE | re.DOTALL,
)
_COLON = re.compile(
    r"""[^:"'/]+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|//[^\n\r\u2028\u2029]*|/\*.*?\*/|(:)|.""", re.DOTALL
)
_NEAR = re.compile(r",? (?:starting )?near (\d+)")
_BYTES = re.compile(r"b'([^']*)'")


class _Twice(Exception):
    """An object has a duplicate key: the reader stops, and the scanner finds the position."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Twice
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def read_json(text: str, name: str) -> Document:
    """Read one JSON document."""
    places = _JsonPlaces(text)
    document = Document(name, text, locate=places.locate)

    def real(number: str) -> float:
        document.may_differ = True
        return float(number)

    try:
        document.data = json.loads(text, object_pairs_hook=_pairs, parse_constant=_no_constant, parse_float=real)
    except json.JSONDecodeError as error:
        document.report("syntax", f"this is not JSON: {error.msg}", span=document.lines.span(error.pos))
    except _Twice:
        _report_twice(document, places)
    except RecursionError:
        document.report("too_deep", f"this is nested more than {MAX_DEPTH} deep")
    except ValueError as error:
        document.report("syntax", f"this is not JSON: {str(error).partition(':')[0]}")
    return bounded(document)


def read_json5(text: str, name: str) -> Document:
    """Read one JSON5 document."""
    places = _JsonPlaces(text)
    document = Document(name, text, locate=places.locate)
    document.may_differ = True
    try:
        document.data = pyjson5.decode(text, maxdepth=MAX_DEPTH * 2)
    except pyjson5.Json5NestingTooDeep:
        document.report("too_deep", f"this is nested more than {MAX_DEPTH} deep")
    except pyjson5.Json5Exception as error:
        said = str(error.args[0] if error.args else error)
        near = _NEAR.search(said)
        span = document.lines.span(int(near[1]) - 1) if near else None
        said = _BYTES.sub(r"\1", _NEAR.sub("", said)).replace("JSON5Value", "a value")
        document.report("syntax", f"this is not JSON5: {said}", span=span)
    except (ValueError, RecursionError) as error:
        document.report("syntax", f"this is not JSON5: {str(error).partition(':')[0]}")
    bounded(document)
    if document.data is not None and _num_keys(document.data) != sum(map(bool, _COLON.findall(text))):
        _report_twice(document, places)  # the reader keeps only the last one
    return document


def _num_keys(data: Any) -> int:
    count, left = 0, [data]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            count += len(node)
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)
    return count


def _report_twice(document: Document, places: _JsonPlaces) -> None:
    for path, position, width in places.twice():
        span = document.lines.span(position, width)
        document.report("duplicate_key", f"`{path[-1]}` is given twice here", path, span=span)


def bounded(document: Document) -> Document:
    """Discard the data of a document that is nested too deeply."""
    level, depth = [document.data], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH + 1:
            document.data = None
            document.report("too_deep", f"this is nested more than {MAX_DEPTH} deep")
            break
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
    return document


class _JsonPlaces:
    """The positions of keys and values; found on first use by a tolerant scan of the tokens."""

    def __init__(self, text: str) -> None:
        self.lines = Lines(text)
        self._is_scanned = False
        self._keys: dict[Path, tuple[int, int]] = {}
        self._values: dict[Path, tuple[int, int]] = {}
        self._twice: list[tuple[Path, int, int]] = []

    def locate(self, path: Path, key: bool) -> Span | None:
        """Find a path."""
        self._scan()
        found = (self._keys.get(path) if key else None) or self._values.get(path)
        return None if found is None else self.lines.span(*found)

    def twice(self) -> list[tuple[Path, int, int]]:
        """Return duplicate keys with their positions."""
        self._scan()
        return self._twice

    def _scan(self) -> None:
        if self._is_scanned:
            return
        self._is_scanned = True
        path: list[str | int] = []
        kinds: list[str] = []
        expect_key = False
        for kind, value, position in _tokens(self.lines.text):
            if kind == "mark" and value in "[{":
                if len(kinds) > MAX_DEPTH:
                    return
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
                if kinds and isinstance(path[-1], int):
                    path[-1] += 1
                expect_key = bool(kinds) and kinds[-1] == "{"
            elif kind == "mark":
                expect_key = False
            elif expect_key:
                path[-1] = _unquoted(value)
                self._key(tuple(path), position, len(value))
            else:
                self._values[tuple(path)] = (position, len(value))

    def _key(self, path: Path, position: int, width: int) -> None:
        if path in self._keys:
            self._twice.append((path, position, width))
        self._keys[path] = (position, width)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "odd"
        if kind != "space":
            yield kind, match[0], match.start()


def _unquoted(token: str) -> str:
    if "\\" not in token:
        return token[1:-1] if token[:1] in {'"', "'"} else token
    try:
        if token[:1] in {'"', "'"}:
            return str(pyjson5.decode(token))
        return str(next(iter(pyjson5.decode("{" + token + ":0}"))))
    except (pyjson5.Json5Exception, ValueError):
        return token
