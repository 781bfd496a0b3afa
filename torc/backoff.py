"""Pauses between tries of something that may work later."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff(first: float, longest: float) -> Iterator[float]:
    """Yield the seconds to wait before each next try: twice as long each time, and jittered."""
    pause = first
    while True:
        yield jittered(pause)
        pause = longer(pause, longest)


def longer(pause: float, longest: float) -> float:
    return min(2.0 * pause, longest)


def jittered(pause: float) -> float:
    """Return a part of a pause, so that many that were cut off at one moment do not come back at one moment."""
    return pause * random.uniform(0.5, 1.0)
