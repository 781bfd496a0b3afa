"""What jobs that ran out of memory or time are given: enough, no more than there is, and with a reason that is true of all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc.failures.shortage import MEMORY, TIME, ScarceResource, beyond, raises

MIB = 1 << 20


@pytest.mark.parametrize(
    ("peaks", "reason"),
    [
        ([300, 200], "they used up to 300 MiB of 100 MiB"),
        ([100, 95], "they used up to 100 MiB of 100 MiB, where they were cut off"),
        ([40, 20], "they used 40 MiB of 100 MiB when last measured"),
        ([0], "they ended before their use of 100 MiB was measured"),
        (
            [100, 99, 30, 0],
            "2 used up to 100 MiB of 100 MiB, where they were cut off; 1 used 30 MiB of 100 MiB when last measured; "
            "1 ended before their use of 100 MiB was measured",
        ),
    ],
)
def test_the_reason_is_true_of_every_job_of_a_group(peaks: list[int], reason: str) -> None:
    (only,), helpless = raises(MEMORY, 100 * MIB, [peak * MIB for peak in peaks], factor=1.5, most=None)
    assert (only.reason, helpless) == (reason, [])


def test_what_is_capped_says_so_and_what_nothing_helps_is_told_apart() -> None:
    (only,), helpless = raises(TIME, 600, [600.0, 650.0, 900.0], factor=2, most=800)
    assert only == ([0, 1], 800, "they ran up to 10m 50s of 10m 00s; 13m 20s is the longest that there is")
    assert helpless == [2] and beyond(TIME, 800).startswith("no partition lets them run longer (13m 20s)")


@given(
    scarce=st.sampled_from([MEMORY, TIME]),
    asked=st.integers(1, 1 << 30),
    used=st.lists(st.integers(0, 1 << 30), max_size=40),
    factor=st.floats(1.0, 10),
    most=st.none() | st.integers(1, 1 << 31),
)
def test_everybody_is_raised_within_bounds_or_told_that_it_is_in_vain(
    scarce: ScarceResource, asked: int, used: list[int], factor: float, most: int | None
) -> None:
    groups, helpless = raises(scarce, asked, used, factor=factor, most=most)
    assert sorted([*helpless, *(at for group in groups for at in group.members)]) == list(range(len(used)))
    for group in groups:
        assert group.reason and (most is None or group.amount <= most)
        assert all(group.amount >= max(asked, used[at]) for at in group.members)
    assert all(most is not None and most <= max(asked, used[at]) for at in helpless)
