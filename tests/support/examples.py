"""How many examples property tests try: TORC_TEST_EXAMPLES is a factor, 1 by default, 0.1 in the fast run."""

from __future__ import annotations

import os

_FACTOR = float(os.environ.get("TORC_TEST_EXAMPLES", "1"))


def examples(number: int) -> int:
    """Return how many examples to try where `number` are tried by default."""
    return max(2, round(number * _FACTOR))
