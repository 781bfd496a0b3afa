"""Limits on JSON before it is parsed: nesting depth and number of values.

Parsing needs many times the memory of a text that consists of brackets and commas. The content of strings costs no more than its
length.
"""

from __future__ import annotations

import re

from torc.errors import Invalid

DEEPEST = 64
MOST_VALUES = 2_000_000
_OPENING, _CLOSING = b"[{", b"]}"
#: size of the pieces scanned at once: a regular expression holds the interpreter lock
_PIECE = 1 << 18
_OUTSIDE = re.compile(rb"[^\"\[\]{},]*+(.)?", re.DOTALL)
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


def check_structure(text: bytes) -> None:
    """Reject text that is nested too deeply or has too many values. Raises Invalid. It need not be valid JSON."""
    at, end, depth, values = 0, len(text), 0, 0
    while at < end:
        found = _OUTSIDE.match(text, at)
        assert found is not None
        at, mark = found.end(), found[1]
        if mark == b'"':
            at = _string_end(text, at)
        elif mark and mark in _OPENING:
            depth, values = depth + 1, values + 1
        elif mark and mark in _CLOSING:
            depth -= 1
        else:
            values += 1
        if depth > DEEPEST:
            raise Invalid(f"the body is nested more than {DEEPEST} levels deep", hint="nest it less")
        if values > MOST_VALUES:
            raise Invalid(f"the body has more than {MOST_VALUES} values", hint="send less at once")


def _string_end(text: bytes, at: int) -> int:
    """Return the position after the closing quote of a string."""
    while at < len(text):
        stop = min(at + _PIECE, len(text))
        found = _INSIDE.match(text, at, stop)
        assert found is not None
        at = found.end()
        if text[at : at + 1] == b'"':
            return at + 1
        if at == stop - 1 and stop == len(text):  # a lone backslash at the very end
            return stop
    return at
