"""Conditions that are put together."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.support.stores import DATABASES
from torc.client.embedded import Embedded
from torc.operations.transaction import Tx
from torc.store.conditions import Conditions


def test_conditions_must_all_hold_and_without_any_all_rows_meet_them() -> None:
    conditions = Conditions()
    assert not conditions
    assert str(conditions) == "true"
    conditions.add("a > :a", a=1)
    conditions.add("b IS NULL")
    assert (bool(conditions), str(conditions), conditions.values) == (True, "a > :a AND b IS NULL", {"a": 1})


@pytest.mark.parametrize("torc", DATABASES, indirect=True)
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a", ["a"]),
        ("a*", ["a", "a%", "a[b]", "ab"]),
        ("a?", ["a%", "ab"]),
        ("a%", ["a%"]),
        ("a[b]", ["a[b]"]),
        ("a[*", ["a[b]"]),
        ("A*", ["A"]),
        ("?", ["A", "a"]),
    ],
)
def test_a_name_is_found_as_it_is_or_by_a_pattern(torc: Embedded, pattern: str, found: list[str]) -> None:
    def names(tx: Tx) -> list[str]:
        where = Conditions()
        where.add_name(tx.dialect, "t.name", pattern)
        rows = " UNION ALL ".join(f"SELECT '{name}' AS name" for name in ("a", "A", "a%", "a[b]", "ab"))
        query = text(f"SELECT t.name FROM ({rows}) t WHERE {where}")
        return sorted(tx.db.execute(query, where.values).scalars())

    assert torc.transact(names, None, writes=False) == found
