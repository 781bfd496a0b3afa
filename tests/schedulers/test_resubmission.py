"""What is asked for when work waits: as large as the jobs have become, no more than there is work for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torc.planning.reserve import memory_for_jobs
from torc.schedulers.resubmission import WaitingGroup, corrected, fits, further, grown, nodes_for, nodes_to_add
from torc.schedulers.slurm.request import SlurmRequest
from torc.workflow.resources import ResourceRequest

GIB = 1 << 30
CPU = SlurmRequest("cpu", 7200, cpus_per_node=8, memory_bytes_per_node=16 * GIB, scheduler="cpu")
GPU = SlurmRequest("gpu", 7200, cpus_per_node=8, memory_bytes_per_node=64 * GIB, gpus_per_node=2, scheduler="gpu")
KNOWN: dict[str | None, SlurmRequest] = {"cpu": CPU, "gpu": GPU}


def waiting(number: int, scheduler: str | None = None, **asked: int) -> WaitingGroup:
    return WaitingGroup(scheduler, number, ResourceRequest(**{"runtime_seconds": 600, **asked}))


def test_jobs_go_to_the_smallest_that_can_hold_them() -> None:
    assert [made.scheduler for made in further([waiting(3)], KNOWN, 10)] == ["cpu"]
    assert [made.scheduler for made in further([waiting(3, num_gpus=1)], KNOWN, 10)] == ["gpu"]
    assert [made.scheduler for made in further([waiting(3, "gpu")], KNOWN, 10)] == ["gpu"], "they are for it alone"
    assert further([waiting(3, "no such one")], KNOWN, 10) == []


def test_what_was_asked_for_without_a_scheduler_serves_as_well() -> None:
    assert len(further([waiting(3)], {None: CPU}, 10)) == 1
    assert further([waiting(3, "gpu")], {None: CPU}, 10) == []


def test_a_retry_that_needs_more_gets_an_allocation_that_has_it() -> None:
    job = ResourceRequest(num_cpus=2, memory_bytes=40 * GIB, runtime_seconds=36_000)
    (made,) = further([WaitingGroup("cpu", 1, job)], KNOWN, 10)
    assert (
        fits(made, job)
        and made.walltime_seconds == 36_120
        and memory_for_jobs(made.memory_bytes_per_node or 0) >= 40 * GIB
    )
    assert made.cpus_per_node == 8 and made.scheduler == "cpu"


def test_as_many_nodes_as_there_is_work_for_and_no_more_than_allowed() -> None:
    # 8 at once, 11 times in two hours: 88 on a node
    assert nodes_for(CPU, [waiting(88)]) == 1 and nodes_for(CPU, [waiting(89)]) == 2
    assert len(further([waiting(1000)], KNOWN, 5)) == 5
    assert len(further([waiting(200)], KNOWN, 5)) == 3
    wide: dict[str | None, SlurmRequest] = {"cpu": grown(CPU, ResourceRequest(num_nodes=4))}
    assert [made.num_nodes for made in further([waiting(200)], wide, 9)] == [4]


@given(
    st.builds(
        ResourceRequest,
        st.integers(1, 128),
        st.integers(0, 8),
        st.integers(1, 4),
        st.integers(1, 1 << 40),
        st.integers(1, 1 << 20),
    ),
    st.integers(1, 500),
    st.integers(1, 40),
)
def test_whatever_is_asked_for_can_hold_the_jobs(job: ResourceRequest, number: int, most: int) -> None:
    made = further([WaitingGroup("cpu", number, job)], KNOWN, most)
    assert all(fits(asked, job) for asked in made)
    assert sum(asked.num_nodes for asked in made) <= most
    assert made or most < job.num_nodes


def test_autoscaling_counts_what_is_to_come() -> None:
    assert nodes_to_add(250, 0, 0, 10, 100) == 3
    assert nodes_to_add(250, 3, 3, 10, 100) == 0, "they are to come"
    assert nodes_to_add(250, 0, 8, 10, 100) == 2, "no more than allowed"
    assert nodes_to_add(0, 0, 0, 10, 100) == 0 and nodes_to_add(1, 0, 0, 10, 100) == 1


def test_an_action_asks_for_what_is_of_use() -> None:
    large = waiting(2, memory_bytes=40 * GIB)
    asked, number = corrected(CPU, 10, [large], num_unfinished=2)
    assert fits(asked, large.request) and number == 1, "retries: few, and larger than the action foresaw"
    assert corrected(CPU, 10, [large, waiting(5)], num_unfinished=500) == (CPU, 10), "of use as it is"
    assert corrected(CPU, 10, [waiting(5, "gpu", num_gpus=2)], num_unfinished=500) == (CPU, 10), "those are for others"
    assert corrected(CPU, 10, [], num_unfinished=3) == (CPU, 3)
