"""Node-seconds of attempts."""

from __future__ import annotations

from torc.planning.cost import expected_seconds, node_seconds
from torc.workflow.resources import Capacity, ResourceRequest

GIB = 1 << 30
NODE = Capacity(num_cpus=8, memory_bytes=64 * GIB)


def test_an_attempt_costs_the_share_of_the_node_that_nobody_else_can_use() -> None:
    assert node_seconds(ResourceRequest(num_cpus=2, memory_bytes=GIB), 100.0, NODE) == 25.0
    assert node_seconds(ResourceRequest(num_cpus=1, memory_bytes=40 * GIB), 100.0, NODE) == 100.0
    assert node_seconds(ResourceRequest(num_nodes=3), 100.0, NODE) == 300.0
    assert node_seconds(ResourceRequest(), 100.0, None) == 100.0, "no node is known: a whole one"
    assert node_seconds(ResourceRequest(num_cpus=99), 100.0, NODE) == 100.0, "it never fits; it is not free either"
    brief = Capacity(num_cpus=4, memory_bytes=64 * GIB, runtime_seconds=1.0)
    assert node_seconds(ResourceRequest(), 100.0, brief) == 25.0, "how long the node stays is no matter"


def test_likes_that_completed_tell_how_long_it_takes_when_there_are_enough() -> None:
    asked = ResourceRequest(runtime_seconds=600)
    assert expected_seconds(asked, 2, 10.0) == 600.0
    assert expected_seconds(asked, 3, 10.0) == 10.0
    assert expected_seconds(asked, 3, 9000.0) == 600.0, "it is stopped at its limit"
