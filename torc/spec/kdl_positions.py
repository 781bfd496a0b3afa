"""The positions of nodes, arguments and properties in KDL text. Tolerant: for KDL 1 and 2, and for invalid text.

This is not a parser: values are read by `kdl_reader`. It finds positions for diagnostics in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

# Unclosed tokens extend to the end, so that no token is scanned twice.
_TOKEN = re.compile(
    r'''(?P<comment>//[^\n\r]*|/\*)
      | (?P<continuation>\\[ \t]*(?://[^\n\r]*)?(?:\r\n|\r|\n))
      | (?P<newline>[\n\r\x0b\x0c\x85\u2028\u2029;])
      | (?P<space>[ \t\ufeff\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+)
      | (?P<slashdash>/-)
      | (?P<string>"""(?:[^\\"]|\\.|"(?!""))*(?:"""|\\?\Z)|"(?:[^"\\]|\\.)*(?:"|\\?\Z))
      | (?P<raw>r?(?P<hashes>\#+)"(?:(?!"(?P=hashes)).)*(?:"(?P=hashes)|\Z)|r"[^"]*(?:"|\Z))
      | (?P<open>\{)
      | (?P<close>\})
      | (?P<type>\([^()\n\r]*\))
      | (?P<equals>=)
      | (?P<word>(?:[^\s"{}()=;\\/\ufeff]|/(?![/*-]))+)
      | (?P<odd>.)''',
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"\(?[-+]?[0-9]")
_COMMENT_EDGE = re.compile(r"/\*|\*/")

Extent = tuple[int, int]  # offset, width


@dataclass(slots=True)
class KdlNode:
    """A node: extents of its name, arguments and properties (key, value)."""

    name: Extent
    arguments: list[Extent] = field(default_factory=list)
    properties: dict[str, tuple[Extent, Extent]] = field(default_factory=dict)
    children: list[KdlNode] = field(default_factory=list)


class _KdlToken(NamedTuple):
    kind: str
    text: str
    start: int

    @property
    def extent(self) -> Extent:
        return self.start, len(self.text)


def places(text: str) -> list[KdlNode]:
    """Return the positions of the top-level nodes with their children."""
    root = KdlNode((0, 1))
    stack = [root]
    current: KdlNode | None = None
    dropped = ""  # what a slashdash comments out: "node", "children" or "value"
    key: _KdlToken | None = None  # of a property whose value follows
    tokens = [token for token in _tokens(text) if token.kind not in {"space", "continuation", "type", "comment"}]
    tokens.append(_KdlToken("newline", "", len(text)))
    for token, after in pairwise(tokens):
        if token.kind == "newline":
            current, dropped, key = None, "" if current else dropped, None
        elif token.kind == "slashdash":
            dropped = "node" if current is None else "children" if after.kind == "open" else "value"
        elif token.kind in {"open", "close"}:
            _nest(stack, token.kind, current or KdlNode(token.extent), is_dropped=dropped == "children")
            current, dropped = None, ""
        elif token.kind == "equals":
            continue
        elif current is None:
            current = KdlNode(token.extent)
            if dropped != "node":
                stack[-1].children.append(current)
            dropped = ""
        elif after.kind == "equals" and key is None:
            key = token
        else:
            _value(current, key, token, is_dropped=dropped == "value")
            dropped, key = "" if dropped == "value" else dropped, None
    return root.children


def _value(node: KdlNode, key: _KdlToken | None, token: _KdlToken, *, is_dropped: bool) -> None:
    if is_dropped:
        return
    if key is None:
        node.arguments.append(token.extent)
    else:
        node.properties[key.text.strip('"')] = (key.extent, token.extent)


def _nest(stack: list[KdlNode], kind: str, owner: KdlNode, *, is_dropped: bool) -> None:
    if kind == "open":
        stack.append(KdlNode(owner.name) if is_dropped else owner)
    elif len(stack) > 1:
        stack.pop()


def imbalance(text: str) -> tuple[int, str] | None:
    """Return where a brace, quote or comment is unclosed, or a brace closes nothing, with a message."""
    opened: list[int] = []
    for token in _tokens(text):
        if token.kind == "open":
            opened.append(token.start)
        elif token.kind == "close":
            if not opened:
                return token.start, "this brace closes nothing"
            opened.pop()
        elif not _is_closed(token):
            return token.start, "this comment is not closed" if token.kind == "comment" else "this quote is not closed"
    return (opened[-1], "this brace is not closed") if opened else None


def long_number(text: str, most: int) -> int | None:
    """Return the position of a number longer than `most` characters, outside strings and comments; None if there is none."""
    return next(
        (
            token.start
            for token in _tokens(text)
            if token.kind in {"word", "type"} and len(token.text) > most and _NUMBER.match(token.text)
        ),
        None,
    )


def open_braces(text: str) -> int:
    """Return the number of open braces at the end of a text."""
    depth = 0
    for token in _tokens(text):
        depth += 1 if token.kind == "open" else -1 if token.kind == "close" and depth else 0
    return depth


def _is_closed(token: _KdlToken) -> bool:
    text = token.text
    if token.kind == "string":
        quote = '"""' if text.startswith('"""') else '"'
        return len(text) >= 2 * len(quote) and re.search(rf"(?<!\\)(?:\\\\)*{quote}\Z", text) is not None
    if token.kind == "raw":
        closing = '"' + "#" * (len(text) - len(text.lstrip("r#")) - text.startswith("r"))
        return text.endswith(closing) and len(text) > text.index('"') + len(closing)
    return not text.startswith("/*") or token.kind != "comment" or text.endswith("*/")


def _tokens(text: str) -> Iterator[_KdlToken]:
    at = 0
    while (match := _TOKEN.match(text, at)) is not None:
        kind, token = match.lastgroup or "odd", match[0]
        if token == "/*" and kind == "comment":
            token = text[at : _comment_end(text, at)]
        yield _KdlToken("raw" if kind == "hashes" else kind, token, at)
        at += len(token)


def _comment_end(text: str, start: int) -> int:
    """Return the end of a block comment; block comments nest."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)
