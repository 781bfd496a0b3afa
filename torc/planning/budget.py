"""How much retries may cost: the one rule for recoveries of a workflow and for what assistants begin in a store.

Not for what was spent (`torc.operations.budget`, `spending`) or what an attempt costs (`torc.planning.cost`).
"""

from __future__ import annotations

from typing import NamedTuple


class Budget(NamedTuple):
    """At most so many retries and node-hours in all. None: no limit."""

    max_retries: int | None = None
    max_node_hours: float | None = None

    def allows_retries(self, used: int, more: int = 1) -> bool:
        """Return whether there is room for more retries beside those that were used."""
        return self.max_retries is None or used + more <= self.max_retries

    def node_hours_left(self, used: float) -> float | None:
        """Return how many node-hours may still be spent; below 0 when more was spent already."""
        return None if self.max_node_hours is None else self.max_node_hours - used
