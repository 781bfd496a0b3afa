"""Slurm's reasons in words: each says what it means, and whether waiting helps."""

from __future__ import annotations

import pytest

from torc.planning.pending_reasons import explain


@pytest.mark.parametrize(
    ("reason", "expected", "never"),
    [
        ("(Priority)", "have priority (Priority)", False),
        (None, "has not looked", False),
        ("None", "has not looked", False),
        ("AssocGrpCPUMinutesLimit", "limit of your account is reached (AssocGrpCPUMinutesLimit)", False),
        ("QOSMaxWallDurationPerJobLimit", "more than is allowed (QOSMaxWallDurationPerJobLimit)", True),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", "down, drained or reserved", False),
        ("DependencyNeverSatisfied", "a job that failed", True),
        ("SomethingNew", "the cluster says SomethingNew", False),
    ],
)
def test_a_reason_is_put_into_words(reason: str | None, expected: str, never: bool) -> None:
    why = explain(reason)
    assert expected in why.what and why.never is never
    assert why.hint or not never
