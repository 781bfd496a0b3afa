"""What JSON may look like before it is read: how deep it is nested, and how many values it has.

Reading needs many times the memory of the text where that is all brackets and commas. What stands in strings costs
no more than its length.
"""

from __future__ import annotations

import re

from torc.errors import Invalid

DEEPEST = 64
MOST_VALUES = 2_000_000
_OPENING, _CLOSING = b"[{", b"]}"
#: so much is looked at in one go: a regular expression holds the interpreter
_PIECE = 1 << 18
_OUTSIDE = re.compile(rb"[^\"\[\]{},]*+(.)?", re.DOTALL)
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


def check_structure(text: bytes) -> None:
    """Refuse what is nested too deep or has too many values. Raises Invalid. Whether it is JSON, reading it tells."""
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
    """The place after the quote that ends a string."""
    while at < len(text):
        stop = min(at + _PIECE, len(text))
        found = _INSIDE.match(text, at, stop)
        assert found is not None
        at = found.end()
        if text[at : at + 1] == b'"':
            return at + 1
        if at == stop - 1 and stop == len(text):  # a lone backslash at the end of all
            return stop
    return at
