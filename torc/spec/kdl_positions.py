"""Where the nodes of a KDL text stand, their arguments and properties. Tolerant: for KDL 1 and 2, and for broken texts.

Not a parser: values are read by `read_kdl`. This finds places for diagnostics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r'''(?P<comment>//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)
      | (?P<continuation>\\[ \t]*(?://[^\n]*)?\n)
      | (?P<newline>[\n\r;])
      | (?P<space>[ \t\ufeff\u00a0]+)
      | (?P<slashdash>/-)
      | (?P<string>"""(?:[^\\]|\\.)*?"""|"(?:[^"\\]|\\.)*")
      | (?P<raw>r?(?P<hashes>\#+)"(?:(?!"(?P=hashes)).)*"(?P=hashes)|r"[^"]*")
      | (?P<open>\{)
      | (?P<close>\})
      | (?P<type>\([^)\n]*\))
      | (?P<equals>=)
      | (?P<word>(?:[^\s"{}()=;\\/]|/(?![/*-]))+)
      | (?P<odd>.)''',
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class Place:
    """A node: offsets and widths of its name, arguments and properties."""

    name: tuple[int, int]
    arguments: list[tuple[int, int]] = field(default_factory=list)
    properties: dict[str, tuple[int, int]] = field(default_factory=dict)
    children: list[Place] = field(default_factory=list)


def places(text: str) -> list[Place]:
    """Give the places of the top-level nodes, with all below them."""
    root = Place((0, 1))
    stack = [root]
    current: Place | None = None
    dropped: str | None = None  # what a slashdash takes away: "node", "children" or "value"
    tokens = list(_significant(text))
    for index, (kind, value, start) in enumerate(tokens):
        if kind == "newline":
            current, dropped = None, None
        elif kind == "slashdash":
            after = tokens[index + 1][0] if index + 1 < len(tokens) else "newline"
            dropped = "node" if current is None else "children" if after == "open" else "value"
        elif kind in {"open", "close"}:
            _nest(stack, kind, current or Place((start, 1)), is_dropped=dropped == "children")
            current, dropped = None, None
        elif kind in {"string", "raw", "word", "odd"}:
            place = (start, _width(value))
            if current is None:
                current = Place(place)
                if dropped != "node":
                    stack[-1].children.append(current)
                dropped = None
            elif index and tokens[index - 1][0] == "equals":
                continue
            elif index + 1 < len(tokens) and tokens[index + 1][0] == "equals":
                current.properties[value.strip('"')] = place
            elif dropped == "value":
                dropped = None
            else:
                current.arguments.append(place)
    return root.children


def _nest(stack: list[Place], kind: str, owner: Place, *, is_dropped: bool) -> None:
    if kind == "open":
        stack.append(Place(owner.name) if is_dropped else owner)
    elif len(stack) > 1:
        stack.pop()


def _significant(text: str) -> Iterator[tuple[str, str, int]]:
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "odd"
        if kind == "hashes":
            kind = "raw"
        if kind not in {"comment", "continuation", "space", "type"}:
            yield kind, match[0], match.start()


def _width(value: str) -> int:
    return len(value.split("\n", 1)[0])
