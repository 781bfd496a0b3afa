"""`torc slurm schedule-nodes|list|show|sync|cancel|autoscale` and `torc status`, as people type them, on a real cluster."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program
from tests.support.slurm import Slurm
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def program(slurm: Slurm, tmp_path: Path) -> Iterator[Program]:
    """Yield the program in a directory with a workflow that has two schedulers; it uses a file as its store."""
    made = Program(tmp_path)
    schedulers = [
        {"name": name, "walltime": "00:05:00", "mem": "500M", "cpus_per_node": 1, "account": "root", **more}
        for name, more in (("held", {"extra": "--hold"}), ("free", {}))
    ]
    jobs: list[dict[str, Any]] = [
        {"name": f"first{number}", "command": "true", "resource_requirements": "small"} for number in range(5)
    ]
    jobs += [{"name": f"then{job['name']}", "command": "true", "depends_on": [job["name"]]} for job in jobs]
    document = {
        "name": "tested",
        "jobs": jobs,
        "slurm_schedulers": schedulers,
        "compute_node_wait_for_new_jobs_seconds": 0,
        "resource_requirements": [{"name": "small", "num_cpus": 1, "memory": "100m", "runtime": "PT1M"}],
    }
    made("workflows", "create", made.write("tested.json", json.dumps(document)))
    yield made
    made("slurm", "cancel", "1", code=None)


def test_allocations_by_hand_from_the_queue_to_their_cancellation(program: Program, slurm: Slurm) -> None:
    assert "say which one" in program("slurm", "schedule-nodes", "1", code=2).stderr
    script = program("slurm", "schedule-nodes", "1", "-s", "held", "--dry-run").stdout
    assert script.startswith("#!/bin/bash") and "--hold" in script
    assert program("slurm", "list", "1").stderr.strip() == "no allocations"
    rivals = [slurm.sbatch("true", "--hold", "--job-name=rival") for _ in range(2)]
    assert "pending" in program("slurm", "schedule-nodes", "1", "-s", "held").stdout
    (queued,) = program("slurm", "list", "1", "-f", "json").json
    assert queued["state"] == "pending" and queued["cluster_job_id"]
    program("slurm", "sync", "1")
    assert "JobHeldUser; place 3 of 3 in debug" in program("slurm", "list", "1").stdout

    status = program("status", "1").stdout
    assert "workflow 1 (tested): waits for allocations" in status and "place 3 of 3 in debug" in status
    assert "follow it with: torc watch 1" in status
    assert status.count("wait for first") == 3 and "others too: torc jobs list 1 --state blocked" in status
    assert program("status", "1", "-f", "json").json["state"] == "interrupted"
    shown = program("slurm", "show", queued["id"]).stdout
    assert queued["mark"] in shown and "JobHeldUser" in shown

    slurm.call("scancel", *rivals)
    assert "place 1 of 1" in program("slurm", "list", "1").stdout
    assert "cancelled 1 allocation" in program("slurm", "cancel", "1", "--queued-only").stdout
    assert "no allocation is left to cancel" in program("slurm", "cancel", "1").stdout
    wait_until(lambda: _has_ended(program), timeout=90, what="the end is taken in")
    assert program("slurm", "list", "1").stderr.strip() == "no allocations"
    assert "ended CANCELLED" in program("slurm", "list", "1", "--all").stdout
    status = program("status", "1").stdout
    assert "workflow 1 (tested): interrupted" in status and "in new allocations with: torc submit 1" in status


def _has_ended(program: Program) -> bool:
    program("slurm", "sync", "1")
    found = program("slurm", "list", "1", "--all", "-f", "json").json
    return [item["state"] for item in found] == ["ended"]


def test_autoscaling_submits_for_what_waits_and_stops_when_all_is_done(program: Program, slurm: Slurm) -> None:
    done = program("slurm", "autoscale", "1", "-s", "free", "--max-nodes", "2", "--backlog", "3")
    assert "submitted" in done.stderr and "10 completed" in done.stdout
    found = program("slurm", "list", "1", "--all", "-f", "json").json
    assert {(item["scheduler"], item["num_nodes"]) for item in found} == {("free", 1)}
    again = program("slurm", "autoscale", "1", "-s", "nobody", code=3)
    assert "scheduler" in again.stderr


def test_jobs_of_a_dead_allocation_are_found_and_those_of_a_canceled_workflow_end(
    program: Program, slurm: Slurm
) -> None:
    document = json.loads((program.directory / "tested.json").read_text())
    document["jobs"] = [{"name": "lasting", "command": "sleep 600", "resource_requirements": "small"}]
    program("workflows", "create", program.write("lasting.json", json.dumps(document)))
    program("slurm", "schedule-nodes", "2", "-s", "free")
    wait_until(lambda: _state(program) == "running", timeout=90, what="the job runs")
    (allocation,) = program("slurm", "list", "2", "-f", "json").json
    (runner,) = program("compute-nodes", "list", "2", "-f", "json").json
    os.kill(runner["pid"], signal.SIGKILL)  # it can tell nobody
    slurm.wait_for(allocation["cluster_job_id"], "FAILED", "CANCELLED", "COMPLETED")
    assert _state(program) == "running", "nobody has looked"
    wait_until(lambda: _state_after_sync(program) != "running", timeout=90, what="it is found out")
    assert _state(program) in {"ready", "terminated"}, "it is to go on"
    assert program("compute-nodes", "list", "2", "--active", "-f", "json", code=None).json == []

    program("slurm", "schedule-nodes", "2", "-s", "held")
    assert "cancelled 1 allocation" in program("workflows", "cancel", "2").stdout
    wait_until(lambda: not slurm.call("squeue", "-h"), timeout=90, what="the queue is empty")


def _state(program: Program) -> str:
    (job,) = program("jobs", "list", "2", "-f", "json").json
    return str(job["state"])


def _state_after_sync(program: Program) -> str:
    program("workflows", "sync-status", "2")
    return _state(program)
