"""What a runner keeps for itself: what is asked for holds what was planned."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc.planning.reserve import (
    LEAST_MEMORY_BYTES,
    memory_for_jobs,
    memory_headroom,
    memory_with_headroom,
    time_for_jobs,
)


@given(st.integers(1, 1 << 44))
def test_what_is_asked_for_holds_the_jobs_and_not_a_byte_too_much(jobs_bytes: int) -> None:
    total = memory_with_headroom(jobs_bytes)
    assert memory_for_jobs(total) >= jobs_bytes
    assert memory_for_jobs(total - 1) < jobs_bytes


def test_a_small_node_and_a_short_allocation_leave_nothing_below_zero() -> None:
    assert memory_for_jobs(LEAST_MEMORY_BYTES // 2) == 0
    assert memory_headroom(1 << 40) == 512 << 20
    assert time_for_jobs(30) == 0
