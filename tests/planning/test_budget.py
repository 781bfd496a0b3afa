"""How much retries may cost."""

from __future__ import annotations

import pytest

from torc.planning.budget import Budget


@pytest.mark.parametrize(
    ("limit", "used", "more", "allowed"),
    [(None, 1000, 1, True), (3, 2, 1, True), (3, 3, 1, False), (3, 1, 3, False), (0, 0, 1, False), (2, 2, 0, True)],
)
def test_a_budget_is_spent_to_the_last_retry(limit: int | None, used: int, more: int, allowed: bool) -> None:
    assert Budget(max_retries=limit).allows_retries(used, more) is allowed


def test_what_is_left_of_the_node_hours_may_be_less_than_nothing() -> None:
    assert Budget().node_hours_left(1e9) is None
    assert Budget(max_node_hours=2.0).node_hours_left(0.5) == 1.5
    assert Budget(max_node_hours=2.0).node_hours_left(2.5) == -0.5
