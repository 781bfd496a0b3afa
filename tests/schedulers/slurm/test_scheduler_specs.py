"""Slurm schedulers of specs: what is planned can be written as one, and what one says is what is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.schedulers.test_allocation_planning import CLUSTER, demand, request
from torc.errors import Invalid
from torc.planning.reserve import memory_for_jobs
from torc.schedulers.allocation_planning import AllocationPlanOptions, plan
from torc.schedulers.partition_choice import PartitionWishes, problems_of
from torc.schedulers.partitions import Cluster, Partition
from torc.schedulers.resubmission import WaitingGroup, corrected
from torc.schedulers.slurm.fields import walltime_text
from torc.schedulers.slurm.scheduler_specs import fields_of, memory_bytes, request_of, walltime_seconds
from torc.schedulers.slurm.script import left_out
from torc.spec.model import SlurmSchedulerSpec

GIB = 1 << 30


def test_what_is_planned_comes_back_as_it_was() -> None:
    options = AllocationPlanOptions(wishes=PartitionWishes(account="climate", qos="high", constraint="ssd"))
    made = plan(demand((request(cpus=4, gpus=1, gib=8), {0: 6})), CLUSTER, options)
    (planned,) = made.allocations
    fields = fields_of(planned, CLUSTER, options)
    SlurmSchedulerSpec.model_validate({"name": planned.name, **fields})
    assert fields["mem"] == "33280M"  # four jobs of 8 GiB, and 3 % for the runner, but at most 512 MiB
    asked = request_of(planned.name, fields, job_name="wf1")
    assert asked.walltime_seconds == planned.walltime_seconds
    assert (asked.account, asked.qos, asked.constraint, asked.partition) == ("climate", "high", "ssd", "gpu")
    assert (asked.num_nodes, asked.cpus_per_node, asked.gres) == (1, 16, "gpu:4")
    assert (asked.scheduler, asked.name) == (planned.name, "wf1")
    other = fields_of(planned, replace(CLUSTER, gpu_option="gpus"), options)
    assert request_of("x", other, job_name="x").extra == "--gpus-per-node=4"
    assert memory_for_jobs(asked.memory_bytes_per_node or 0) >= 32 * GIB


def test_a_scheduler_comes_before_the_defaults_and_the_action_says_how_runners_work() -> None:
    asked = request_of(
        "mine",
        {"account": "a", "nodes": 2, "walltime": "90", "mem": "2G", "gres": "gpu:1", "extra": "--exclusive"},
        job_name="x",
        defaults={"account": "b", "qos": "low", "mail_user": "me@x.org", "requeue": True, "nice": 5},
        settings={"start_one_worker_per_node": False, "max_parallel_jobs": 7, "num_allocations": 2},
    )
    assert (asked.account, asked.qos, asked.walltime_seconds, asked.memory_bytes_per_node) == (
        "a",
        "low",
        5400,
        2 * GIB,
    )
    assert asked.options == (("mail-user", "me@x.org"), ("nice", "5"), ("requeue", None))
    assert (asked.gres, asked.extra, asked.start_one_worker_per_node) == ("gpu:1", "--exclusive", False)
    assert asked.max_parallel_jobs == 7


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "00:01:00"), (5400, "01:30:00"), (86400, "1-00:00:00"), (950461, "11-00:01:01")]
)
def test_walltimes_are_written_as_sbatch_reads_them(seconds: int, text: str) -> None:
    assert walltime_text(seconds) == text
    assert walltime_seconds(text, "x") == seconds


def test_numbers_without_unit_mean_what_sbatch_means() -> None:
    assert walltime_seconds("10", "x") == 600
    assert walltime_seconds("UNLIMITED", "x") == 365 * 86400
    assert memory_bytes("100", "x") == 100 << 20
    assert memory_bytes(0, "x") == 0
    assert memory_bytes("1.5g", "x") == 3 << 29
    with pytest.raises(Invalid, match="scheduler x"):
        memory_bytes("much", "x")
    with pytest.raises(Invalid, match="scheduler x"):
        walltime_seconds("long", "x")


def test_what_extra_says_counts_as_if_it_were_a_field() -> None:
    asked = request_of(
        "mine",
        {"extra": "-p short -A own --mem=2g --nice=5 --comment='runs with -M east'", "qos": "high"},
        job_name="x",
        defaults={"account": "other", "nice": "9", "comment": "default"},
    )
    assert (asked.partition, asked.account, asked.qos, asked.memory_bytes_per_node) == ("short", "own", "high", 2 * GIB)
    assert [option for option in asked.by_user if option.name in {"nice", "comment"}] == [
        ("nice", "5"),
        ("comment", "runs with -M east"),
    ]
    assert asked.elsewhere is None and not left_out(asked)
    assert request_of("mine", {"extra": "-HMwest"}, job_name="x", defaults={"clusters": "east"}).elsewhere == "west"
    field = request_of("mine", {"extra": "-p short", "partition": "gpu"}, job_name="x")
    assert field.partition == "gpu" and "--partition=short" in left_out(field)[0]


@pytest.mark.parametrize("extra", ["--gpus-per-node=2", "-G2", "--gres=gpu:2"])
def test_gpus_in_extra_are_not_asked_for_twice(extra: str) -> None:
    asked = request_of("mine", {"extra": extra, "cpus_per_node": 4, "walltime": "01:00:00"}, job_name="x")
    waits = WaitingGroup("mine", 1, request(gpus=2, hours=0.5))
    assert corrected(asked, 1, [waits], 1) == (asked, 1)


def test_a_partition_in_extra_and_a_list_of_partitions_are_checked() -> None:
    long = Partition("long", 10, 4, 8 * GIB, max_walltime_seconds=7200, is_default=True)
    cluster = Cluster("c", "C", (long, replace(long, name="short", max_walltime_seconds=300, is_default=False)))
    asked = request_of("mine", {"extra": "--partition=short", "walltime": "01:00:00"}, job_name="x")
    (problem,) = problems_of(asked, cluster)
    assert "in short, which allows 5m" in problem
    assert not problems_of(replace(asked, partition="short,long"), cluster)
    assert problems_of(replace(asked, partition="short,long", walltime_seconds=9000), cluster)
    (unknown,) = problems_of(replace(asked, partition="long,other"), cluster)
    assert "no partition other" in unknown
    drained = Cluster("c", "C", (), closed=(replace(long, num_nodes=0),))
    assert not problems_of(replace(asked, partition="long"), drained), "its nodes come back"
    assert problems_of(replace(asked, partition="long", walltime_seconds=9000), drained)
