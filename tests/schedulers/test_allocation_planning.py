"""Plans of allocations: what is planned runs, keeps to the limits of its partition, and costs no more than it must."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torc.errors import Invalid
from torc.planning.demand import Demand, StageDemand
from torc.planning.reserve import memory_for_jobs, time_for_jobs
from torc.schedulers.allocation_planning import AllocationPlan, AllocationPlanOptions, PlannedAllocation, plan
from torc.schedulers.partition_choice import PartitionWishes, problems_of
from torc.schedulers.partitions import Cluster, NodeKind, Partition
from torc.schedulers.slurm.request import SlurmRequest
from torc.schedulers.slurm.scheduler_specs import fields_of
from torc.workflow.resources import ResourceRequest

GIB = 1 << 30
SHORT = Partition("short", 100, 100, 240 * GIB, max_walltime_seconds=4 * 3600, is_shared=False)
STANDARD = replace(SHORT, name="standard", max_walltime_seconds=48 * 3600, max_nodes_per_user=50)
BIG = replace(SHORT, name="bigmem", num_nodes=4, memory_bytes_per_node=2000 * GIB, max_walltime_seconds=48 * 3600)
GPU = replace(SHORT, name="gpu", num_nodes=20, gpus_per_node=4, is_shared=True, max_walltime_seconds=48 * 3600)
DEBUG = replace(SHORT, name="debug", num_nodes=2, max_walltime_seconds=3600, requires_explicit_request=True)
CLUSTER = Cluster("c", "Cluster C", (DEBUG, GPU, BIG, STANDARD, SHORT))


def demand(*classes: tuple[ResourceRequest, dict[int, int]]) -> Demand:
    """Make a demand of classes with their jobs by stage."""
    cells = [
        StageDemand(stage, at, jobs) for at, (_, by_stage) in enumerate(classes) for stage, jobs in by_stage.items()
    ]
    names = tuple(f"class_{at}" for at in range(len(classes)))
    return Demand(names, tuple(request for request, _ in classes), tuple(sorted(cells)))


def request(cpus: int = 1, gib: int = 1, hours: float = 1.0, gpus: int = 0, nodes: int = 1) -> ResourceRequest:
    return ResourceRequest(cpus, gpus, nodes, gib * GIB, int(hours * 3600))


def only(made: AllocationPlan) -> PlannedAllocation:
    (planned,) = made.allocations
    return planned


REQUESTS = st.builds(
    request,
    cpus=st.integers(1, 120),
    gib=st.sampled_from([1, 8, 100, 230, 240, 500, 3000]),
    hours=st.sampled_from([0.01, 0.5, 3.9, 4, 40, 60]),
    gpus=st.sampled_from([0, 0, 1, 3, 4, 5]),
    nodes=st.sampled_from([1, 1, 1, 2, 4, 60]),
)
BY_STAGE = st.dictionaries(st.integers(0, 4), st.integers(1, 3000), min_size=1, max_size=3)
DEMANDS = st.lists(st.tuples(REQUESTS, BY_STAGE), min_size=1, max_size=6).map(lambda classes: demand(*classes))
OPTIONS = st.builds(
    AllocationPlanOptions,
    group_by=st.sampled_from(["resource-requirements", "partition"]),
    walltime_strategy=st.sampled_from(["max-job-runtime", "max-partition-time"]),
    walltime_multiplier=st.sampled_from([1.0, 1.5, 3.0]),
    single_allocation=st.booleans(),
    max_nodes=st.sampled_from([None, 1, 7, 100]),
)


@settings(deadline=None)
@given(DEMANDS, OPTIONS)
def test_what_is_planned_runs_and_keeps_to_the_limits(wanted: Demand, options: AllocationPlanOptions) -> None:
    made = plan(wanted, CLUSTER, options)
    placed: Counter[StageDemand] = Counter()
    for planned in made.allocations:
        partition = CLUSTER.partition(planned.partition)
        assert partition is not None
        assert not partition.requires_explicit_request
        assert planned.walltime_seconds <= (partition.max_walltime_seconds or 0)
        assert 1 <= planned.num_nodes <= min(partition.num_nodes, partition.max_nodes_per_user or 10**9)
        assert (planned.cpus_per_node or 0) <= partition.cpus_per_node
        assert (planned.memory_bytes_per_node or 0) <= partition.memory_bytes_per_node
        assert planned.gpus_per_node <= partition.gpus_per_node
        cpus = planned.cpus_per_node or partition.cpus_per_node
        memory = memory_for_jobs(planned.memory_bytes_per_node or partition.memory_bytes_per_node)
        for cell in planned.cells:
            placed[cell] += 1
            asked = wanted.requests[cell.requirement]
            assert asked.num_cpus <= cpus
            assert asked.memory_bytes <= memory
            assert asked.num_gpus <= planned.gpus_per_node
            assert planned.num_nodes % asked.num_nodes == 0
            assert asked.runtime_seconds <= time_for_jobs(planned.walltime_seconds)
        assert planned.expected_seconds <= time_for_jobs(planned.walltime_seconds)
        node_seconds = 3600 * planned.node_hours
        for amount, supply in (
            (lambda asked: asked.num_cpus, cpus),
            (lambda asked: asked.memory_bytes, memory),
            (lambda asked: asked.num_gpus, planned.gpus_per_node),
        ):
            work = 0
            for cell in planned.cells:
                asked = wanted.requests[cell.requirement]
                work += cell.num_jobs * asked.num_nodes * asked.runtime_seconds * amount(asked)
            assert work <= node_seconds * supply
        if options.single_allocation:
            assert planned.num_allocations == 1 or planned.num_nodes * planned.num_allocations > 1
    refused = {refusal.requirement for refusal in made.refused}
    assert placed == Counter({cell: 1 for cell in wanted.cells if cell.requirement not in refused})
    assert len({planned.name for planned in made.allocations}) == len(made.allocations)
    assert made == plan(wanted, CLUSTER, options)


def test_jobs_are_packed_on_nodes_not_counted() -> None:
    planned = only(plan(demand((request(cpus=4, gib=8, hours=1), {0: 1000})), CLUSTER))
    assert planned.partition == "short"
    assert planned.num_allocations * planned.num_nodes == 40  # 25 at once by CPUs
    assert planned.walltime_seconds == 5520  # an hour, half as much again, two minutes for the runner
    by_memory = only(plan(demand((request(cpus=1, gib=50, hours=1), {0: 40})), CLUSTER))
    assert by_memory.num_nodes * by_memory.num_allocations == 10


def test_short_jobs_run_one_after_the_other() -> None:
    planned = only(plan(demand((request(hours=1 / 60), {0: 3000})), CLUSTER))
    assert planned.num_nodes * planned.num_allocations == 2  # 15 rounds of 100
    assert planned.expected_seconds == 900


def test_the_strategy_with_the_partitions_time_needs_fewer_nodes() -> None:
    wanted = demand((request(cpus=100, hours=0.5), {0: 60}))
    quick = only(plan(wanted, CLUSTER))
    long = only(plan(wanted, CLUSTER, AllocationPlanOptions(walltime_strategy="max-partition-time")))
    assert quick.num_nodes * quick.num_allocations == 60
    assert long.num_nodes * long.num_allocations == 9  # seven rounds of half an hour
    assert long.walltime_seconds == 4 * 3600


def test_one_allocation_or_many() -> None:
    wanted = demand((request(cpus=100), {0: 60}))
    many = only(plan(wanted, CLUSTER))
    assert (many.num_allocations, many.num_nodes) == (30, 2)
    one = only(plan(wanted, CLUSTER, AllocationPlanOptions(single_allocation=True)))
    assert (one.num_allocations, one.num_nodes) == (1, 60)
    some = only(plan(wanted, CLUSTER, AllocationPlanOptions(num_allocations=4)))
    assert (some.num_allocations, some.num_nodes) == (4, 15)
    more = only(plan(wanted, CLUSTER, AllocationPlanOptions(num_allocations=7)))
    assert (more.num_allocations, more.num_nodes) == (7, 9)
    assert "63 nodes for the work of 60: allocations are equal" in more.reasons
    less = only(plan(demand((request(cpus=100), {0: 2})), CLUSTER, AllocationPlanOptions(num_allocations=5)))
    assert less.num_allocations == 2
    assert any("not 5" in reason for reason in less.reasons)
    apart = only(plan(demand((request(cpus=10), {0: 8})), CLUSTER, AllocationPlanOptions(num_allocations=2)))
    assert (apart.num_allocations, apart.num_nodes) == (1, 1)  # all fit on a node side by side


def test_with_fewer_nodes_it_runs_longer() -> None:
    wanted = demand((request(cpus=100), {0: 60}))
    planned = only(plan(wanted, CLUSTER, AllocationPlanOptions(max_nodes=20)))
    assert planned.num_nodes * planned.num_allocations == 20
    assert planned.expected_seconds == 3 * 3600
    assert any("runs longer" in reason for reason in planned.reasons)
    too_few = only(plan(wanted, CLUSTER, AllocationPlanOptions(max_nodes=2)))
    assert any("wait their turn" in reason for reason in too_few.reasons)


def test_a_stage_goes_on_in_the_same_allocations_where_it_needs_no_more_nodes() -> None:
    narrowing = plan(demand((request(cpus=100), {0: 10, 1: 1})), CLUSTER)
    assert only(narrowing).expected_seconds == 2 * 3600
    widening = plan(demand((request(cpus=100), {0: 1, 1: 10, 2: 1})), CLUSTER)
    assert [(a.name, a.stage, len(a.cells)) for a in widening.allocations] == [
        ("class_0", 0, 1),
        ("class_0_stage_2", 1, 2),
    ]
    assert widening.allocations[1].trigger == ((1, 0),)


def test_groups_have_allocations_of_their_own_and_keep_to_them() -> None:
    wanted = demand((request(cpus=4), {0: 10, 2: 10}), (request(cpus=4, gpus=1), {1: 6}))
    made = plan(wanted, CLUSTER)
    assert [(a.name, a.partition, a.num_jobs) for a in made.allocations] == [
        ("class_0", "short", 10),
        ("class_1_stage_2", "gpu", 6),
        ("class_0_stage_3", "short", 10),
    ]
    assert made.binds
    assert made.allocations[1].gpus_per_node == 4
    assert made.allocations[1].cpus_per_node == 16  # the partition is shared: what the jobs use, not the node
    same = demand((request(cpus=4), {0: 10}), (request(cpus=8), {0: 10}))
    assert len(plan(same, CLUSTER).allocations) == 2
    shared = plan(same, CLUSTER, AllocationPlanOptions(group_by="partition"))
    assert only(shared).name == "short"
    assert not shared.binds


def test_jobs_over_several_nodes_get_allocations_of_them() -> None:
    planned = only(plan(demand((request(cpus=50, nodes=4, hours=1), {0: 6})), CLUSTER))
    assert (planned.num_allocations, planned.num_nodes) == (3, 4)  # two side by side on four nodes


def test_the_default_partition_comes_first_then_the_smallest() -> None:
    cluster = replace(CLUSTER, partitions=(*CLUSTER.partitions, replace(STANDARD, name="batch", is_default=True)))
    assert only(plan(demand((request(), {0: 1})), cluster)).partition == "batch"
    assert only(plan(demand((request(hours=40), {0: 1})), CLUSTER)).partition == "standard"
    named = AllocationPlanOptions(wishes=PartitionWishes(partitions=("debug",)))
    assert only(plan(demand((request(hours=0.5), {0: 1})), CLUSTER, named)).partition == "debug"


def test_a_partition_of_other_accounts_or_qos_is_not_chosen() -> None:
    theirs = replace(SHORT, allowed_accounts=frozenset({"physics"}), allowed_qos=frozenset({"high"}))
    cluster = replace(CLUSTER, partitions=(theirs, STANDARD))
    wanted = demand((request(), {0: 1}))
    assert (
        only(plan(wanted, cluster, AllocationPlanOptions(wishes=PartitionWishes(account="physics")))).partition
        == "short"
    )
    assert (
        only(plan(wanted, cluster, AllocationPlanOptions(wishes=PartitionWishes(account="biology")))).partition
        == "standard"
    )
    assert only(plan(wanted, cluster, AllocationPlanOptions(wishes=PartitionWishes(qos="low")))).partition == "standard"


@pytest.mark.parametrize(
    ("asked", "wishes", "message", "hint"),
    [
        (
            request(gib=3000),
            PartitionWishes(),
            "2 jobs of class class_0 fit into no partition of Cluster C",
            "nearest is bigmem: needs 2.9 TiB of memory on a node (it has 2 TiB, of which the runner keeps 512 MiB). "
            "At most it may ask for memory 2047488m",
        ),
        (
            request(gpus=5),
            PartitionWishes(),
            "fit into no partition",
            "nearest is gpu: needs 5 GPUs on a node (it has 4)",
        ),
        (request(hours=100), PartitionWishes(), "fit into no partition", "its limit is 2d 00h"),
        (request(nodes=51, hours=9, gib=3), PartitionWishes(), "fit into no partition", "nearest is standard"),
        (
            request(hours=8),
            PartitionWishes(partitions=("short",)),
            "that was named (short)",
            "standard fits, but another one was named: --partition standard",
        ),
        (request(cpus=200), PartitionWishes(), "fit into no partition", "At most it may ask for num_cpus 100"),
    ],
)
def test_what_cannot_run_is_refused_with_what_comes_nearest(
    asked: ResourceRequest, wishes: PartitionWishes, message: str, hint: str
) -> None:
    made = plan(demand((asked, {0: 2}), (request(), {0: 1})), CLUSTER, AllocationPlanOptions(wishes=wishes))
    (refused,) = made.refused
    assert message in refused.message
    assert hint in refused.hint
    assert {misfit.partition for misfit in refused.misfits} == {partition.name for partition in CLUSTER.partitions}


def test_options_that_cannot_be_are_refused() -> None:
    wanted = demand((request(), {0: 1}))
    for options, said in (
        (AllocationPlanOptions(wishes=PartitionWishes(partitions=("nope",))), "has no partition nope"),
        (AllocationPlanOptions(walltime_multiplier=0.5), "below 1"),
        (AllocationPlanOptions(single_allocation=True, num_allocations=3), "contradict"),
    ):
        with pytest.raises(Invalid, match=said):
            plan(wanted, CLUSTER, options)


def test_a_hundred_million_jobs_cost_no_more_than_a_few() -> None:
    classes = [(request(cpus=1 + at % 50, gib=1 + at % 100), {stage: 10**6 for stage in range(5)}) for at in range(20)]
    made = plan(demand(*classes), CLUSTER, AllocationPlanOptions(group_by="partition"))
    assert sum(planned.num_jobs for planned in made.allocations) == 10**8


MANY_FAT_OR_FAST = (
    NodeKind(8, 64, 500 * GIB, 4, "a100"),
    NodeKind(2, 128, 1000 * GIB, 4, "h100"),
    NodeKind(3, 64, 2000 * GIB),
)
MIXED = replace(
    SHORT, name="mixed", num_nodes=50, cpus_per_node=64, memory_bytes_per_node=240 * GIB, other_nodes=MANY_FAT_OR_FAST
)
SITE = Cluster("s", "Site S", (MIXED,))


@pytest.mark.parametrize(
    ("asked", "nodes"),
    [
        (request(64), 63),  # any of them
        (request(64, gib=300), 13),  # not those that are most
        (request(100), 2),
        (request(64, gib=900), 5),  # fast or fat
        (request(64, gib=1500), 3),
        (request(64, gpus=4), 10),  # of either type
    ],
)
def test_nodes_of_a_partition_that_differ_are_counted_where_they_have_what_is_asked_for(
    asked: ResourceRequest, nodes: int
) -> None:
    planned = only(plan(demand((asked, {0: 2 * nodes})), SITE))
    assert (planned.partition, planned.num_nodes_busy) == ("mixed", nodes)
    assert planned.gpus_per_node == asked.num_gpus
    counted = [reason for reason in planned.reasons if "counting on those of its nodes" in reason]
    if nodes == 63:
        assert (planned.cpus_per_node, planned.memory_bytes_per_node, counted) == (None, None, [])
    else:  # said, though nodes are given whole: others have less
        assert planned.cpus_per_node == asked.num_cpus and counted[0].endswith(f": {nodes}")
        assert asked.memory_bytes <= memory_for_jobs(planned.memory_bytes_per_node or 0)


def test_types_of_gpus_in_one_partition_are_told_apart() -> None:
    for gpu_type, nodes in (("a100", 8), ("h100", 2)):
        options = AllocationPlanOptions(PartitionWishes(gpu_type=gpu_type))
        made = plan(demand((request(gpus=4), {0: 2 * nodes}), (request(64), {0: 10})), SITE, options)
        plain, fast = sorted(made.allocations, key=lambda planned: planned.gpus_per_node)
        assert (fast.num_nodes_busy, fast.gpu_type, plain.gpu_type) == (nodes, gpu_type, None)
        assert fields_of(fast, SITE, options)["gres"] == f"gpu:{gpu_type}:4"
        assert fields_of(fast, replace(SITE, gpu_option="gpus"), options)["extra"] == f"--gpus-per-node={gpu_type}:4"
        assert "gres" not in fields_of(plain, SITE, options)
    (refused,) = plan(
        demand((request(gpus=1), {0: 1})), SITE, AllocationPlanOptions(PartitionWishes(gpu_type="mi300"))
    ).refused
    assert "GPUs of type mi300 (it has a100, h100)" in refused.hint
    (refused,) = plan(
        demand((request(gpus=1, gib=600), {0: 1})), SITE, AllocationPlanOptions(PartitionWishes(gpu_type="a100"))
    ).refused
    assert "At most it may ask for memory" in refused.hint, "the h100 would do it"


def test_what_is_written_by_hand_may_ask_for_what_some_nodes_have() -> None:
    fat = SlurmRequest("x", 600, num_nodes=3, partition="mixed", memory_bytes_per_node=1900 * GIB)
    assert problems_of(fat, SITE) == []
    assert problems_of(replace(fat, num_nodes=4), SITE) == ["4 nodes of mixed, where an allocation may have 3"]
    both = replace(fat, gpus_per_node=4, cpus_per_node=64)
    assert len(problems_of(both, SITE)) == 1, "no node has both"
