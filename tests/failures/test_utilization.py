"""What was used against what was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.failures.utilization import AttemptUsage, UsageSpread, advice, exceeded, spread
from torc.workflow.resources import ResourceRequest

GIB = 1 << 30
ASKED = ResourceRequest(num_cpus=4, memory_bytes=64 * GIB, runtime_seconds=3600)


def test_who_asked_64_gb_and_used_2_is_told_so() -> None:
    memory, wall, cpus = UsageSpread(GIB, GIB, 2 * GIB), UsageSpread(60, 80, 100), UsageSpread(0.5, 1.0, 1.0)
    assert advice(ASKED, memory, wall, cpus) == [
        "requests 64 GiB, used at most 2 GiB",
        "requests 1h 00m, ran at most 1m 40s",
        "requests 4 CPUs, kept 1.0 busy",
    ]
    full = UsageSpread(60 * GIB, 60 * GIB, 60 * GIB), UsageSpread(3000, 3000, 3000), UsageSpread(4, 4, 4)
    assert advice(ASKED, *full) == []
    small = ResourceRequest(memory_bytes=128 << 20, runtime_seconds=300)
    assert advice(small, UsageSpread(1, 1, 1), UsageSpread(1, 1, 1), UsageSpread(0, 0, 0)) == [], (
        "there is little to be had"
    )


@pytest.mark.parametrize(
    ("used", "resources"),
    [
        (AttemptUsage(64 * GIB, 3600.0, 4 * 3600.0), []),
        (AttemptUsage(65 * GIB, 3600.0, 10.0), ["memory"]),
        (AttemptUsage(GIB, 3601.0, 10.0), ["runtime"]),
        (AttemptUsage(GIB, 100.0, 800.0), ["cpus"]),
        (AttemptUsage(GIB, 0.01, 0.9), []),
        (AttemptUsage(GIB, 0.0, 0.0), []),
        (AttemptUsage(64 * GIB, 1.0, 0.0, ran_out_of_memory=True), ["memory"]),
        (AttemptUsage(GIB, 1.0, 0.0, ran_out_of_memory=True), []),
    ],
)
def test_what_is_above_what_was_asked_for(used: AttemptUsage, resources: list[str]) -> None:
    assert [name for name, _, _ in exceeded(ASKED, used)] == resources


def test_memory_that_nobody_asked_for_is_not_exceeded() -> None:
    assert exceeded(ResourceRequest(), AttemptUsage(GIB, 1.0, 0.0)) == []


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=200))
def test_quantiles_are_values_that_occurred(values: list[float]) -> None:
    found = spread(values)
    assert {found.median, found.p95, found.most} <= set(values)
    assert found.median <= found.p95 <= found.most == max(values)
    assert sum(value <= found.p95 for value in values) >= 0.95 * len(values)
    assert sum(value <= found.median for value in values) >= 0.5 * len(values)
