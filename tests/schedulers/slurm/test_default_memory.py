"""Schedulers without `mem`: where the cluster's default is too little, jobs get what they need, or it is said why they wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program
from tests.support.slurm import Slurm
from tests.support.stores import open_sqlite
from tests.support.workflows import create
from torc.api.allocations import RecordAllocations
from torc.api.runs import NodeCapacity, RegisterRunner, StartRun
from torc.client.embedded import Embedded
from torc.planning.reserve import memory_for_jobs
from torc.schedulers.autoscaling import stranded_of
from torc.schedulers.follow import as_submitted
from torc.schedulers.partition_choice import default_memory
from torc.schedulers.partitions import Cluster
from torc.schedulers.resubmission import WaitingGroup
from torc.schedulers.slurm.backend import SlurmBackend
from torc.schedulers.slurm.discovery import cluster_from
from torc.schedulers.slurm.output_parser import parse_scontrol
from torc.schedulers.slurm.request import SlurmRequest
from torc.schedulers.submission import new_allocation
from torc.schedulers.unfit_jobs import unfit_jobs
from torc.workflow.resources import ResourceRequest

MIB = 1 << 20
NODES = "NodeName=n1 CPUTot=8 RealMemory=64000 State=IDLE Partitions=plain,own,node\n"
PARTITIONS = """\
PartitionName=plain Default=YES MaxTime=UNLIMITED OverSubscribe=NO State=UP DefMemPerNode=UNLIMITED
PartitionName=own Default=NO MaxTime=UNLIMITED OverSubscribe=NO State=UP DefMemPerCPU=300
PartitionName=node Default=NO MaxTime=UNLIMITED OverSubscribe=NO State=UP DefMemPerNode=900
"""
ASKED = SlurmRequest(name="x", scheduler="x", walltime_seconds=3600, cpus_per_node=2)


def _cluster(**config: str) -> Cluster:
    return cluster_from({"ClusterName": "c", **config}, parse_scontrol(PARTITIONS), parse_scontrol(NODES))


@pytest.mark.parametrize(
    ("changes", "memory"),
    [
        ({}, 200),
        ({"cpus_per_node": 4}, 400),
        ({"partition": "own"}, 600),
        ({"partition": "node"}, 900),
        ({"partition": "own,plain"}, 200),
        ({"memory_bytes_per_node": 5 * MIB}, None),
        ({"cpus_per_node": None}, None),
        ({"extra": "--mem-per-cpu=1G"}, None),
        ({"options": (("mem-per-gpu", "1G"),)}, None),
    ],
)
def test_what_an_allocation_gets_without_asking_is_known(changes: dict[str, Any], memory: int | None) -> None:
    found = default_memory(replace(ASKED, **changes), _cluster(DefMemPerCPU="100"))
    assert found == (None if memory is None else memory * MIB)


def test_where_the_cluster_has_no_default_nothing_is_assumed() -> None:
    assert default_memory(ASKED, _cluster(DefMemPerNode="UNLIMITED")) is None


def _submitted(mib: int, **changes: Any) -> tuple[SlurmRequest, int, str | None]:
    waiting = [WaitingGroup(None, 3, ResourceRequest(num_cpus=1, memory_bytes=mib * MIB, runtime_seconds=60))]
    cluster = _cluster(DefMemPerCPU="100")
    return as_submitted(
        replace(ASKED, **changes), 1, waiting, 3, lambda _: [], lambda request: default_memory(request, cluster)
    )


def test_memory_is_asked_for_where_the_default_holds_no_job() -> None:
    made, _, changed = _submitted(500)
    assert made.memory_bytes_per_node is not None and memory_for_jobs(made.memory_bytes_per_node) >= 500 * MIB
    assert changed is not None and "instead of 200 MiB (the default of the cluster)" in changed
    assert _submitted(50) == (ASKED, 1, None), "they fit as it is"
    longer, _, changed = _submitted(50, walltime_seconds=60)
    assert longer.memory_bytes_per_node is None and changed is not None and "memory" not in changed


@pytest.mark.parametrize(
    ("mib", "changes", "is_stranded"),
    [
        (500, {}, True),  # the default is 200 MiB
        (50, {}, False),
        (500, {"cpus_per_node": 8}, False),  # 800 MiB
        (500, {"partition": "node"}, False),
        (500, {"memory_bytes_per_node": 1000 * MIB}, False),
        (5000, {"cpus_per_node": None}, False),  # the whole node
    ],
)
def test_open_allocations_that_ask_for_no_memory_hold_what_fits_into_the_default(
    stored: Embedded, mib: int, changes: dict[str, Any], is_stranded: bool
) -> None:
    number = create(stored, {"name": "w", "jobs": [{"name": "a", "command": "true"}]}).id
    stored.send(StartRun(workflow_id=number))
    asked = new_allocation(replace(ASKED, **changes))
    open_ = stored.send(RecordAllocations(workflow_id=number, allocations=[asked]))
    waiting = [WaitingGroup(None, 3, ResourceRequest(num_cpus=1, memory_bytes=mib * MIB, runtime_seconds=60))]
    cluster = _cluster(DefMemPerCPU="100")
    found = stranded_of(waiting, open_, SlurmBackend(), lambda request: default_memory(request, cluster))
    assert found == (waiting if is_stranded else [])


@pytest.fixture
def stored(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    opened = open_sqlite(sqlite_file, tmp_path)
    yield opened
    opened.close()


def test_jobs_that_no_runner_could_hold_are_told_with_what_to_set(stored: Embedded) -> None:
    classes = [
        {"name": "big", "num_cpus": 1, "memory": "500m", "runtime": "PT1M"},
        {"name": "wide", "num_cpus": 8, "memory": "1m", "runtime": "PT3H"},
        {"name": "fits", "num_cpus": 1, "memory": "1m", "runtime": "PT1M"},
    ]
    jobs = [
        {"name": f"j_{each['name']}{n}", "command": "true", "resource_requirements": each["name"]}
        for each in classes
        for n in range(2)
    ]
    number = create(stored, {"name": "w", "resource_requirements": classes, "jobs": jobs}).id
    stored.send(StartRun(workflow_id=number))
    assert unfit_jobs(stored, number, SlurmBackend()) == []
    capacity = NodeCapacity(num_cpus=2, memory_bytes=72 * MIB, runtime_seconds=3600.0)
    who = {"kind": "slurm", "host": "h", "pid": 1, "process_started": "1", "boot_id": "b"}
    stored.send(RegisterRunner(workflow_id=number, capacity=capacity, labels={"scheduler": "plain"}, **who))
    told = unfit_jobs(stored, number, SlurmBackend())
    assert sorted(told) == [
        "2 jobs of class big fit into no runner: each asks for 500 MiB of memory, and the runner had 72 MiB for jobs. "
        "Set mem: 628M for Slurm scheduler plain",
        "2 jobs of class wide fit into no runner: each asks for 8 CPUs, and the runner had 2; each asks for 3h 00m, and the "
        "runner had 1h 00m when it began. Set cpus_per_node: 8, walltime: 03:02:00 for Slurm scheduler plain",
    ]


@pytest.fixture
def program(slurm: Slurm, tmp_path: Path) -> Iterator[Program]:
    """Return the program in a directory with a workflow whose scheduler asks for no memory."""
    made = Program(tmp_path)
    document = {
        "name": "tested",
        "jobs": [{"name": "a", "command": "true", "resource_requirements": "big"}],
        "slurm_schedulers": [{"name": "plain", "walltime": "00:10:00", "cpus_per_node": 2, "account": "root"}],
        "actions": [{"trigger_type": "on_workflow_start", "action_type": "schedule_nodes", "scheduler": "plain"}],
        "compute_node_wait_for_new_jobs_seconds": 0,
        "resource_requirements": [{"name": "big", "num_cpus": 1, "memory": "300m", "runtime": "PT1M"}],
    }
    made.write("tested.json", json.dumps(document))
    yield made
    made("workflows", "cancel", "1", code=None)
    made("server", "stop", code=None)


@pytest.mark.slow
def test_a_scheduler_without_memory_gets_what_its_jobs_need(program: Program) -> None:
    shown = program("submit", "tested.json", "--dry-run", "--no-estimate")
    assert "--mem=428M" in shown.stdout and "the default of the cluster" in shown.stderr
    done = program("submit", "tested.json", "--no-estimate")
    assert "1 completed" in done.stdout and "the default of the cluster" in done.stderr


@pytest.mark.slow
def test_an_allocation_that_no_job_fits_into_is_told_with_what_to_set(program: Program) -> None:
    document = json.loads((program.directory / "tested.json").read_text())
    program("create", program.write("by_hand.json", json.dumps({**document, "actions": []})))
    program("slurm", "schedule-nodes", "1", "-s", "plain")
    ended = program("watch", "1", code=None)
    assert ended.code != 0 and "no allocation is left, and jobs are" in ended.stderr, ended
    assert (
        "1 job of class big fits into no runner: each asks for 300 MiB of memory, and the runner had 72 MiB"
        in ended.stderr
    )
    assert "Set mem: 428M for Slurm scheduler plain" in ended.stderr
