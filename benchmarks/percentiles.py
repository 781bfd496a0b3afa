"""Percentiles of a measured list: values that occurred, never in between."""

from __future__ import annotations


def percentile(values: list[float], percent: int) -> float:
    """Return a percentile by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
