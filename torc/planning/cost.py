"""The cost of attempts in node-seconds: their time multiplied by the share of a node that they request."""

from __future__ import annotations

from dataclasses import replace

from torc.workflow.packing import how_many_fit
from torc.workflow.resources import Capacity, ResourceRequest

#: this many completed attempts predict how long others of their class will take
ENOUGH_ATTEMPTS = 3


def node_seconds(request: ResourceRequest, seconds: float, node: Capacity | None) -> float:
    """Return the node-seconds of an attempt: all of its nodes if it requests several, otherwise its share of one.

    If no second such job fits next to it, nobody else can use the rest of the node. If the node is unknown, it counts as one node.
    """
    if request.num_nodes > 1:
        return request.num_nodes * seconds
    fit = 0 if node is None else how_many_fit(request, replace(node, runtime_seconds=None))
    return seconds / max(1, fit)


def expected_seconds(request: ResourceRequest, num_completed: int, longest_seconds: float) -> float:
    """Return an upper estimate of an attempt's runtime: that of similar attempts if enough have completed, otherwise its limit."""
    if num_completed < ENOUGH_ATTEMPTS:
        return float(request.runtime_seconds)
    return min(longest_seconds, float(request.runtime_seconds))
