"""Node-hours: summed by workflow and by user, for those who may see them."""

from __future__ import annotations

from tests.support.workflows import workflow
from torc.api.allocations import (
    AllocationObservation,
    NewAllocation,
    ObserveAllocations,
    RecordAllocations,
    ReportSubmissions,
    Submission,
)
from torc.api.usage import GetUsage
from torc.client.embedded import Embedded


def spend(torc: Embedded, number: int, seconds: float, **fields: int) -> None:
    """Have an allocation that ended after some seconds, in which no runner ever worked."""
    asked = NewAllocation(name="test", walltime_seconds=7200, **fields)
    (made,) = torc.send(RecordAllocations(workflow_id=number, allocations=[asked]))
    told = Submission(allocation_id=made.id, cluster_job_id=str(made.id))
    torc.send(ReportSubmissions(workflow_id=number, submissions=[told]))
    seen = AllocationObservation(
        allocation_id=made.id,
        cluster_state="COMPLETED",
        started_at=1000.0,
        ended_at=1000.0 + seconds,
        source="accounting",
    )
    torc.send(ObserveAllocations(workflow_id=number, observations=[seen]))


def test_node_hours_are_summed_by_workflow_and_by_user(torc: Embedded) -> None:
    assert torc.send(GetUsage()).workflows == []
    small, large = workflow(torc, "a"), workflow(torc, "b")
    spend(torc, small, 60.0)
    spend(torc, large, 100.0, num_nodes=2)
    spend(torc, large, 30.0, num_nodes=3, gpus_per_node=4)
    torc.send(RecordAllocations(workflow_id=large, allocations=[NewAllocation(name="waits", walltime_seconds=60)]))
    found = torc.send(GetUsage())
    assert [(of.workflow_id, of.node_seconds_used, of.num_allocations, of.num_active) for of in found.workflows] == [
        (large, 290.0, 3, 1),
        (small, 60.0, 1, 0),
    ]
    assert found.total.node_seconds_wasted == found.total.node_seconds_used == 350.0
    assert found.total.gpu_node_seconds_used == 90.0
    (user,) = found.users
    assert (user.num_workflows, user.node_seconds_used, user.num_allocations) == (2, 350.0, 4)
    assert torc.send(GetUsage(workflow_id=small)).total.node_seconds_used == 60.0
    assert torc.send(GetUsage(since=2e12)).total.num_allocations == 0
