"""Find the known names that a wrong one may have meant. Bounded, so that it stays fast with a million names and many wrong ones."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable, Iterator
from itertools import islice

_MOST_SEARCHES = 50
_MOST_COMPARED = 2_000
_LONGEST = 200
_CLOSE = 0.6
#: limit for the sum of products of name lengths over all searches, which is what comparing hostile names costs
_MOST_PAIRS = 10_000_000


class Nearest:
    """Finds similar names for the first wrong ones; later ones get none."""

    def __init__(self) -> None:
        self._left = _MOST_SEARCHES
        self._pairs_left = _MOST_PAIRS

    def of(self, name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
        """Return up to `most` names similar to `name`, most similar first."""
        if self._left <= 0 or not name or len(name) > _LONGEST:
            return []
        self._left -= 1
        half = name[: max(1, len(name) // 2)].lower()
        alike = islice((other for other in known if other[: len(half)].lower() == half), _MOST_COMPARED)
        compared = dict.fromkeys(alike)
        compared.update(dict.fromkeys(islice(known, _MOST_COMPARED)))
        folded: dict[str, str] = {}
        for other in compared:
            folded.setdefault(other.lower(), other)
        likest = heapq.nlargest(most, self._scores(name.lower(), folded))
        return [folded[found] for _, found in likest]

    def _scores(self, name: str, known: Iterable[str]) -> Iterator[tuple[float, str]]:
        """Compare names like `difflib.get_close_matches`, until the limit is reached."""
        matcher = difflib.SequenceMatcher(b=name)
        for other in known:
            if len(other) > 2 * _LONGEST:
                continue
            self._pairs_left -= len(other) + len(name)
            matcher.set_seq1(other)
            if matcher.real_quick_ratio() < _CLOSE or matcher.quick_ratio() < _CLOSE:
                continue
            self._pairs_left -= len(other) * len(name)
            if self._pairs_left < 0:
                return
            if (score := matcher.ratio()) >= _CLOSE:
                yield score, other
