"""Composable conditions of a WHERE clause, with their parameters."""

from __future__ import annotations

from typing import Any

from torc.store.dialect import Dialect


class Conditions:
    """Conditions that must all hold. As text they follow WHERE; without any, all rows match."""

    def __init__(self, *conditions: str, **values: Any) -> None:
        self._conditions = list(conditions)
        self.values: dict[str, Any] = values

    def add(self, condition: str, **values: Any) -> None:
        """Add a condition and the values of its parameters."""
        self._conditions.append(condition)
        self.values |= values

    def add_name(self, dialect: Dialect, column: str, name: str) -> None:
        """Add the condition that a column has a name, or matches one with `*` or `?`."""
        parameter = column.replace(".", "_")
        if "*" in name or "?" in name:
            self.add(dialect.matches(column, parameter), **{parameter: dialect.pattern(name)})
        else:
            self.add(f"{column} = :{parameter}", **{parameter: name})

    def __bool__(self) -> bool:
        return bool(self._conditions)

    def __str__(self) -> str:
        return " AND ".join(self._conditions) or "true"
