"""What attempts cost, in node-seconds: the time that they take of a node, by the share of it that they ask for."""

from __future__ import annotations

from dataclasses import replace

from torc.workflow.packing import how_many_fit
from torc.workflow.resources import Capacity, ResourceRequest

#: so many completed attempts tell how long others of their class will take
ENOUGH_ATTEMPTS = 3


def node_seconds(request: ResourceRequest, seconds: float, node: Capacity | None) -> float:
    """Return the node-seconds of an attempt: all of its nodes where it asks for several, else the share that it takes of one.

    Nobody else can use the rest of a node on which no second job like it fits. Where no node is known, it is one node.
    """
    if request.num_nodes > 1:
        return request.num_nodes * seconds
    fit = 0 if node is None else how_many_fit(request, replace(node, runtime_seconds=None))
    return seconds / max(1, fit)


def expected_seconds(request: ResourceRequest, num_completed: int, longest_seconds: float) -> float:
    """Return how long an attempt is expected to take at most: as its likes did, where enough have completed, else its limit."""
    if num_completed < ENOUGH_ATTEMPTS:
        return float(request.runtime_seconds)
    return min(longest_seconds, float(request.runtime_seconds))
