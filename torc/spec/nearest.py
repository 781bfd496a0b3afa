"""Which known names a wrong one may have meant. Bounded: among a million names, for many wrong ones, it stays quick."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

_MOST_SEARCHES = 50
_MOST_COMPARED = 2_000
_CLOSE = 0.6


class Nearest:
    """Finds near names for the first wrong ones; later ones get none."""

    def __init__(self) -> None:
        self._left = _MOST_SEARCHES

    def of(self, name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
        """Give up to `most` names like `name`, the likest first."""
        if self._left <= 0 or not name or len(name) > 200:
            return []
        self._left -= 1
        half = name[: max(1, len(name) // 2)].lower()
        alike = islice((other for other in known if other[: len(half)].lower() == half), _MOST_COMPARED)
        compared = dict.fromkeys(alike)
        compared.update(dict.fromkeys(islice(known, _MOST_COMPARED)))
        folded: dict[str, str] = {}
        for other in compared:
            folded.setdefault(other.lower(), other)
        return [folded[found] for found in difflib.get_close_matches(name.lower(), folded, most, _CLOSE)]
