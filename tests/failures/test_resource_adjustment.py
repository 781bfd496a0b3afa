"""More memory and time for the next attempt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc.failures.resource_adjustment import alike, fitted, is_chosen, raised
from torc.workflow.resources import ResourceRequest

GIB = 1 << 30
ASKED = ResourceRequest(num_cpus=4, memory_bytes=2 * GIB, runtime_seconds=600)


def test_a_factor_times_what_was_asked_for_or_what_was_used_where_that_is_more() -> None:
    assert raised(ASKED, memory_factor=1.5).memory_bytes == 3 * GIB
    assert raised(ASKED, memory_factor=1.5, peak_memory=GIB).memory_bytes == 3 * GIB
    assert raised(ASKED, memory_factor=1.5, peak_memory=4 * GIB).memory_bytes == 6 * GIB
    assert raised(ASKED, runtime_factor=1.4).runtime_seconds == 840
    assert raised(ASKED, runtime_factor=2, wall_seconds=700.5).runtime_seconds == 1401
    assert raised(ASKED) == ASKED


@given(
    memory=st.integers(1, 1 << 50),
    runtime=st.integers(1, 10**8),
    factor=st.floats(0.01, 1e6),
    peak=st.none() | st.integers(0, 1 << 50),
    wall=st.none() | st.floats(0, 1e8),
)
def test_a_raised_request_is_one(
    memory: int, runtime: int, factor: float, peak: int | None, wall: float | None
) -> None:
    request = ResourceRequest(memory_bytes=memory, runtime_seconds=runtime)
    found = raised(request, memory_factor=factor, runtime_factor=factor, peak_memory=peak, wall_seconds=wall)
    assert found.memory_bytes % (1 << 20) == 0 and 0 < found.memory_bytes <= 1 << 60
    assert 0 < found.runtime_seconds < 2**31
    if factor >= 1 and memory >= 1 << 20:
        assert found.memory_bytes >= memory and found.runtime_seconds >= runtime
    assert found._replace(memory_bytes=memory, runtime_seconds=runtime) == request


@given(
    memory=st.integers(1, 1 << 50), runtime=st.integers(1, 10**8), peak=st.integers(0, 1 << 50), wall=st.floats(0, 1e8)
)
def test_what_is_fitted_is_lower_and_holds_what_was_used(memory: int, runtime: int, peak: int, wall: float) -> None:
    request = ResourceRequest(memory_bytes=memory, runtime_seconds=runtime)
    found = fitted(request, memory_bytes=peak, wall_seconds=wall, factor=1.5)
    assert found.memory_bytes <= memory and found.runtime_seconds <= runtime
    assert found.memory_bytes == memory or found.memory_bytes >= 1.5 * peak
    assert found.runtime_seconds == runtime or found.runtime_seconds >= 1.5 * wall
    assert found.memory_bytes > 0 and found.runtime_seconds > 0


def test_jobs_that_need_about_as_much_go_together_and_a_giant_alone() -> None:
    assert alike([10.0, 11.0, 400.0, 12.0]) == [[0, 1, 3], [2]]
    assert alike([]) == [] and alike([5.0]) == [[0]]


@given(amounts=st.lists(st.floats(1, 2**40), max_size=60))
def test_there_are_few_classes_and_everybody_is_in_one(amounts: list[float]) -> None:
    parts = alike(amounts)
    assert len(parts) <= 4 and sorted(at for part in parts for at in part) == list(range(len(amounts)))
    tops = [max(amounts[at] for at in part) for part in parts]
    assert all(min(amounts[at] for at in part) >= top for part, top in zip(parts[1:], tops, strict=False))


def test_groups_are_named_by_their_parts_or_a_pattern() -> None:
    assert is_chosen("small/timeout", [], []) and is_chosen("small/timeout", ["small"], [])
    assert is_chosen("small/timeout", ["*/timeout"], []) and not is_chosen("small/timeout", ["sm"], [])
    assert not is_chosen("small/timeout/2m", ["small"], ["small/timeout"])
