"""Work that goes on by itself on a real cluster: later stages that earlier allocations ask for, and nodes while work waits."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.slurm import Slurm as RealCluster
from tests.support.stores import open_sqlite
from tests.support.wait import wait_until
from tests.support.workflows import get, states
from torc.api.allocations import Allocation, ListAllocations
from torc.api.runs import StartRun
from torc.api.workflows import CreateWorkflow
from torc.client.embedded import Embedded
from torc.schedulers.autoscaling import Autoscaler
from torc.schedulers.follow import Follower
from torc.schedulers.polling import PollPace, poll
from torc.schedulers.slurm.backend import SlurmBackend

pytestmark = pytest.mark.slow
QUICK = [{"name": "quick", "num_cpus": 1, "memory": "50m", "runtime": "PT1M"}]


def scheduler(name: str) -> dict[str, Any]:
    return {"name": name, "walltime": "00:10:00", "mem": "400M", "cpus_per_node": 2}


class Site:
    """A store in a folder, and the cluster."""

    def __init__(self, torc: Embedded, folder: Path) -> None:
        self.torc, self.folder = torc, folder

    def store(self, **fields: Any) -> int:
        document = {
            "name": "test",
            "resource_requirements": QUICK,
            "compute_node_wait_for_new_jobs_seconds": 0,
            **fields,
        }
        for job in document["jobs"]:
            job.setdefault("resource_requirements", "quick")
        request = CreateWorkflow(spec=json.dumps(document), format="json", directory=str(self.folder))
        return self.torc.send(request).id

    def cluster(self, number: int) -> SlurmBackend:
        program = (sys.executable, "-m", "torc.cli.main")
        variables = {"TORC_DB": str(self.folder / "torc.db")}
        return SlurmBackend(number, program, str(self.folder), str(self.folder / "out"), variables)

    def allocations(self, number: int) -> list[Allocation]:
        return list(reversed(self.torc.send(ListAllocations(workflow_id=number)).items))


@pytest.fixture
def site(slurm: RealCluster, sqlite_file: Path, tmp_path: Path) -> Iterator[Site]:
    torc = open_sqlite(sqlite_file, tmp_path)
    yield Site(torc, tmp_path)
    torc.close()


def test_the_first_stage_asks_for_the_allocations_of_the_second_while_nobody_follows(site: Site) -> None:
    actions = [
        {
            "trigger_type": "on_workflow_start",
            "action_type": "schedule_nodes",
            "scheduler": "one",
            "scheduler_type": "slurm",
        },
        {
            "trigger_type": "on_jobs_ready",
            "action_type": "schedule_nodes",
            "scheduler": "two",
            "scheduler_type": "slurm",
            "jobs": ["b"],
        },
    ]
    jobs = [
        {"name": "a", "command": "true", "scheduler": "one"},
        {"name": "b", "command": "true", "scheduler": "two", "depends_on": ["a"]},
    ]
    number = site.store(jobs=jobs, slurm_schedulers=[scheduler("one"), scheduler("two")], actions=actions)
    site.torc.send(StartRun(workflow_id=number))
    assert len(Follower(site.torc, number, site.cluster(number)).step().submitted) == 1
    wait_until(lambda: get(site.torc, number).state == "completed", timeout=90, what="both stages are done")
    assert [item.scheduler for item in site.allocations(number)] == ["one", "two"]
    cluster = site.cluster(number)
    wait_until(lambda: not poll(site.torc, cluster, [number]).open, timeout=60, what="no allocation is left")


def test_nodes_are_added_while_work_waits_and_no_more_than_allowed(site: Site) -> None:
    jobs = [{"name": f"j{at}", "command": "sleep 1"} for at in range(12)]
    number = site.store(jobs=jobs, slurm_schedulers=[scheduler("cpu")])
    scaler = Autoscaler(site.torc, number, site.cluster(number), max_nodes=2, backlog=4)
    scaler.follower.pace = PollPace(0.5)
    nodes: list[int] = []
    ended = scaler.run(lambda workflow, open_, made: nodes.append(sum(item.num_nodes for item in open_)), 0.2)
    assert ended.state == "completed" and set(states(site.torc, number).split()) == {
        f"j{at}:completed" for at in range(12)
    }
    assert 1 <= max(nodes) <= 2
    cluster = site.cluster(number)
    wait_until(lambda: not poll(site.torc, cluster, [number]).open, timeout=60, what="no allocation is left")
