"""Pauses between tries."""

from __future__ import annotations

from itertools import islice

from torc.backoff import backoff


def test_pauses_grow_to_the_longest_and_differ_between_callers() -> None:
    bounds = [1.0, 2.0, 4.0, 5.0, 5.0]
    runs = [list(islice(backoff(1.0, 5.0), 5)) for _ in range(20)]
    assert all(bound / 2 <= pause <= bound for run in runs for pause, bound in zip(run, bounds, strict=True))
    assert len({tuple(run) for run in runs}) > 1
