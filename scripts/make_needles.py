"""Write the needles of `torc/failures/log_patterns.py`: for each pattern, texts one of which occurs in everything it matches.

The parser of regular expressions that this asks is Python's own and no public part of it; what it makes is kept, and tested.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FILE = ROOT / "torc/failures/log_patterns.py"
_LINE = re.compile(r"""(\s*_S\(_C\.[A-Z_]+, [0-9.]+, )"(?:[^"\\\\]|\\\\.)*"(, r"(.*?)"(?:, "[^"]*")?\),?(?:  #.*)?)""")
_PARSER: Any = importlib.import_module("re._parser")
_CODES: Any = importlib.import_module("re._constants")
Texts = frozenset[str]


def needles(pattern: str) -> str:
    """Return the needles of a pattern, separated by |."""
    found = _required(list(_PARSER.parse(pattern)))
    if not found:
        raise SystemExit(f"nothing stands in all that matches {pattern!r}")
    shortest = [text for text in found if not any(other != text and other in text for other in found)]
    return "|".join(sorted(shortest))


def _required(parts: list[Any]) -> Texts | None:
    """Return the best of the sets of texts of which one must stand in a match: few and long ones."""
    sets: list[Texts] = []
    run = ""
    for code, value in [*parts, (None, None)]:
        letters = _letters(code, value)
        if letters is not None:
            run += letters
            continue
        if run:
            sets.append(frozenset([run]))
        run = ""
        inner = _inner(code, value)
        if inner:
            sets.append(inner)
    return max(sets, key=lambda texts: min(map(len, texts)) - 0.6 * len(texts), default=None)


def _letters(code: Any, value: Any) -> str | None:
    """Return the text that a part matches and nothing else; None: it may match several."""
    if code is _CODES.LITERAL:
        return chr(value).lower()
    if code is _CODES.SUBPATTERN:
        texts = [_letters(*part) for part in value[-1]]
        return None if None in texts else "".join(filter(None, texts))
    return None


def _inner(code: Any, value: Any) -> Texts | None:
    if code is _CODES.SUBPATTERN:
        return _required(list(value[-1]))
    if code is _CODES.BRANCH:
        sets = [_required(list(branch)) for branch in value[1]]
        return None if None in sets else frozenset[str]().union(*filter(None, sets))
    if code in {_CODES.MAX_REPEAT, _CODES.MIN_REPEAT} and value[0] >= 1:
        return _required(list(value[2]))
    return None


def main() -> None:
    """Write the file anew."""
    made = []
    for line in FILE.read_text(encoding="utf-8").splitlines(keepends=True):
        found = _LINE.match(line)
        if found is None:
            made.append(line)
            continue
        quoted = json.dumps(needles(found[3]), ensure_ascii=False)
        made.append(f"{found[1]}{quoted}{found[2]}{line[found.end() :]}")
    FILE.write_text("".join(made), encoding="utf-8")


if __name__ == "__main__":
    main()
