"""Node lists in Slurm's syntax, `n[1-3,07],gpu1`. Pure.

Invalid parts are skipped: a site's names must never break the following of jobs, nor a runner.
"""

from __future__ import annotations

import re

_RANGE = re.compile(r"^(\d+)(?:-(\d+))?\Z")
#: far more than any cluster has, so that no text can expand to a million names
MOST_NODES = 100_000
_LONGEST_NUMBER = 9


def expand(text: str) -> tuple[str, ...]:
    """Expand a list into node names, in order."""
    found: list[str] = []
    for part in split(text):
        found += _written_out(part, MOST_NODES - len(found))
    return tuple(found[:MOST_NODES])


def split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth, begin = [], 0, 0
    for at, character in enumerate(text):
        if character in "[(":
            depth += 1
        elif character in "])":
            depth = max(depth - 1, 0)
        elif character == "," and not depth:
            parts.append(text[begin:at].strip())
            begin = at + 1
    return [part for part in [*parts, text[begin:].strip()] if part]


def _written_out(part: str, most: int) -> list[str]:
    before, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    inside, _, after = rest.partition("]")
    tails = _written_out(after, most) if after else [""]
    found: list[str] = []
    for piece in inside.split(","):
        match = _RANGE.match(piece.strip())
        if match is None or len(match[1]) > _LONGEST_NUMBER or len(match[2] or "") > _LONGEST_NUMBER:
            continue
        first, last, width = int(match[1]), int(match[2] or match[1]), len(match[1])
        for value in range(first, min(last, first + most - len(found) - 1) + 1):
            found += [f"{before}{value:0{width}d}{tail}" for tail in tails]
            if len(found) >= most:
                return found[:most]
    return found
