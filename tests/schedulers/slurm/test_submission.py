"""`torc submit` as people type it, on a real cluster: from a spec to its end, refusals, coming back, recovery, too little time."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program
from tests.support.slurm import Slurm
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[3] / "examples" / "yaml" / "slurm_staged.yaml"


@pytest.fixture
def program(slurm: Slurm, tmp_path: Path) -> Iterator[Program]:
    """Yield the program in an empty directory; a server that it started is ended afterwards."""
    made = Program(tmp_path)
    yield made
    made("workflows", "cancel", "1", code=None)
    made("server", "stop", code=None)


def spec(program: Program, *jobs: dict[str, Any], **fields: Any) -> str:
    """Write a spec of jobs of one class, and name it."""
    small = {"name": "small", "num_cpus": 1, "memory": "100m", "runtime": "PT1M"}
    document = {
        "name": "tested",
        "resource_requirements": [small],
        "compute_node_wait_for_new_jobs_seconds": 0,
        "jobs": [{"resource_requirements": "small", **job} for job in jobs],
        **fields,
    }
    program.write("tested.json", json.dumps(document))
    return "tested.json"


def test_a_staged_pipeline_with_gpus_from_nothing_to_its_end(program: Program, slurm: Slurm) -> None:
    done = program("submit", EXAMPLE, "--account", "root", "--no-estimate")
    assert "server: http://127.0.0.1" in done.stdout and "started now" in done.stdout
    assert "10 completed" in done.stdout
    report = (program.directory / "example_output/slurm_staged/report.txt").read_text().splitlines()
    assert report == [f"{model} {model * 5050}" for model in range(1, 9)]
    found = program("slurm", "list", "--all", "-f", "json").json
    assert {item["scheduler"] for item in found} == {"gpu_stage_2", "small", "small_stage_3"}
    again = program("submit", "1", "--account", "root", code=4)
    assert "nothing is left to do" in again.stderr


def test_the_scripts_of_a_dry_run_are_accepted_by_slurm(program: Program, slurm: Slurm) -> None:
    shown = program("submit", EXAMPLE, "-A", "root", "--dry-run", "-f", "json", "--single-allocation").json
    assert len(shown["scripts"]) == 3
    for item in shown["scripts"]:
        slurm.call("sbatch", "--test-only", stdin=item["script"])
    assert not slurm.call("squeue", "-h")
    assert not (program.directory / ".torc").exists()


def _alike(script: str) -> list[str]:
    """Leave out what is known only when a workflow is stored: its numbers, and how its runners reach the store."""
    text = re.sub(r"torc-wf\d+-al\d+-[0-9a-f]+|torc-dry-run", "MARK", script)
    text = re.sub(r"(allocation |workflow |_wf|run-node |--allocation=)\d+", r"\g<1>N", text)
    return [line for line in text.splitlines() if not line.startswith("export TORC_")]


@pytest.mark.parametrize("written", [False, True])
def test_what_a_dry_run_shows_is_what_slurm_gets(program: Program, slurm: Slurm, written: bool) -> None:
    fields: dict[str, Any] = {
        "slurm_defaults": {
            "comment": "cost=abc",
            "nice": 10,
            "mail-type": "NONE",
            "signal": "B:USR1@300",
            "requeue": True,
        }
    }
    if written:  # jobs ask for an hour, and so does the scheduler: the runner needs two minutes more
        fields["slurm_schedulers"] = [
            {"name": "cpu", "walltime": "00:01:30", "cpus_per_node": 4, "extra": "--exclude=" + slurm.nodes[2]}
        ]
        fields["actions"] = [
            {
                "trigger_type": "on_workflow_start",
                "action_type": "schedule_nodes",
                "scheduler": "cpu",
                "num_allocations": 2,
            }
        ]
    whole = {"command": "true", "resource_requirements": {"num_cpus": 4, "memory": "50m", "runtime": "PT1M"}}
    path = spec(program, {"name": "a", **whole}, {"name": "b", **whole}, **fields)
    dry = program("submit", path, "-A", "root", "--dry-run", "-f", "json")
    (shown,) = dry.json["scripts"]
    for words in ("`--signal=B:USR1@300` is left out", "`--requeue` is left out"):
        assert words in dry.stderr
    assert "#SBATCH --comment=cost=abc" in shown["script"]
    if written:
        assert "get a walltime of 3m 00s instead of 1m 30s" in dry.stderr
        assert f"#SBATCH --exclude={slurm.nodes[2]}" in shown["script"]
    made = program("submit", path, "-A", "root", "--no-watch", "-f", "json").json
    assert shown["num_allocations"] == len(made["submitted"])
    assert shown["num_allocations"] == 2 or not written
    got = slurm.call("scontrol", "write", "batch_script", made["submitted"][0]["cluster_job_id"], "-")
    assert _alike(got) == _alike(shown["script"])


def test_a_walltime_is_not_raised_beyond_what_the_partition_gives(program: Program, slurm: Slurm) -> None:
    fields: dict[str, Any] = {
        "resource_requirements": [{"name": "small", "num_cpus": 1, "memory": "100m", "runtime": "PT60M"}],
        "slurm_schedulers": [{"name": "cpu", "partition": "short", "walltime": "00:04:00", "cpus_per_node": 4}],
        "actions": [{"trigger_type": "on_workflow_start", "action_type": "schedule_nodes", "scheduler": "cpu"}],
    }
    path = spec(program, {"name": "a", "command": "true", "scheduler": "cpu"}, **fields)
    for more in (["--dry-run"], []):
        refused = program("submit", path, "-A", "root", *more, code=2)
        assert "1h 02m in short, which allows 5m 00s" in refused.stderr
    assert not slurm.call("squeue", "-h")
    fields["resource_requirements"][0]["runtime"] = "PT20M"
    saving = {"name": "a", "command": "true", "scheduler": "cpu", "supports_termination": True}
    shown = program("submit", spec(program, saving, **fields), "-A", "root", "--dry-run", "-f", "json").json
    assert "--time=00:04:00" in shown["scripts"][0]["script"], "it goes on in the next allocation"


def test_options_that_would_break_torc_are_refused_before_anything_is_stored(program: Program, slurm: Slurm) -> None:
    fields: dict[str, Any] = {
        "slurm_schedulers": [{"name": "cpu", "walltime": "00:10:00", "extra": "--array=0-3"}],
        "actions": [{"trigger_type": "on_workflow_start", "action_type": "schedule_nodes", "scheduler": "cpu"}],
    }
    refused = program("submit", spec(program, {"name": "a", "command": "true"}, **fields), "-A", "root", code=2)
    assert "`array` cannot be set" in refused.stderr
    fields = {"slurm_defaults": {"reservation": "no_such_one"}}
    refused = program("submit", spec(program, {"name": "a", "command": "true"}, **fields), "-A", "root", code=2)
    assert "Requested reservation is invalid" in refused.stderr
    assert not (program.directory / ".torc").exists()


def test_a_partition_that_is_closed_for_now_is_no_reason_to_refuse(program: Program, slurm: Slurm) -> None:
    fields: dict[str, Any] = {
        "slurm_schedulers": [{"name": "cpu", "partition": "short", "walltime": "00:04:00", "mem": "500m"}],
        "actions": [{"trigger_type": "on_workflow_start", "action_type": "schedule_nodes", "scheduler": "cpu"}],
    }
    path = spec(program, {"name": "a", "command": "true", "scheduler": "cpu"}, **fields)
    slurm.call("scontrol", "update", "partitionname=short", "state=drain")
    try:
        shown = program("submit", path, "-A", "root", "--dry-run")
        assert "would not accept cpu now, but later" in shown.stderr and "--partition=short" in shown.stdout
        program("submit", path, "-A", "root", "--no-watch")
        (item,) = program("slurm", "list", "1", "-f", "json").json
        assert (item["state"], item["cluster_state"]) == ("submitting", "DEFERRED")
    finally:
        slurm.call("scontrol", "update", "partitionname=short", "state=up")
    assert "1 completed" in program("watch", "1").stdout


def test_a_dry_run_sets_many_small_allocations_against_one_large_one(program: Program, slurm: Slurm) -> None:
    rival = slurm.sbatch("sleep 600", "--exclusive", "--time=30")
    slurm.wait_for(rival, "RUNNING")
    whole = {"num_cpus": 4, "memory": "1g", "runtime": "PT20M"}
    named = spec(program, *({"name": f"j{at}", "command": "true", "resource_requirements": whole} for at in range(3)))
    said = program("submit", named, "-A", "root", "--dry-run").stdout
    assert "as planned, 3 allocations of 1 node (at most " in said and "node-hours): the first begins at once\n" in said
    (other,) = [
        line for line in said.splitlines() if line.startswith("with --single-allocation, 1 allocation of 3 nodes")
    ]
    assert "it begins in about" in other
    shown = program("submit", named, "-A", "root", "--dry-run", "--single-allocation", "-f", "json").json["trade_off"]
    assert [(item["option"], item["num_allocations"]) for item in shown] == [(None, 1), ("--many-allocations", 3)]
    assert shown[0]["starts_at"] > shown[1]["starts_at"]
    assert program("submit", named, "-A", "root", "--dry-run", "--no-estimate", "-f", "json").json["trade_off"] == []


def test_what_slurm_cannot_give_is_refused_before_anything_is_stored(program: Program, slurm: Slurm) -> None:
    job = {"name": "a", "command": "true", "resource_requirements": {"num_gpus": 3}}
    refused = program("submit", spec(program, job), "-A", "root", code=2)
    assert "fits into no partition" in refused.stderr and "3 GPUs on a node (it has 2)" in refused.stderr
    longer = {"name": "a", "command": "true", "resource_requirements": {"runtime": "PT10M"}}
    named = program("submit", spec(program, longer), "-A", "root", "-p", "short", code=2)
    assert "debug fits, but another one was named: --partition debug" in named.stderr
    feature = program(
        "submit", spec(program, {"name": "a", "command": "true"}), "-A", "root", "--constraint", "x", code=2
    )
    assert "Slurm would refuse small" in feature.stderr
    assert not (program.directory / ".torc").exists()
    assert not slurm.call("squeue", "-h")


def test_ctrl_c_leaves_the_allocations_and_says_how_to_come_back(program: Program, slurm: Slurm) -> None:
    named = spec(program, {"name": "a", "command": "until test -e go; do sleep 0.1; done"})
    running = program.start("submit", named, "--account", "root", "--no-estimate")
    wait_until(lambda: " R " in slurm.call("squeue"), timeout=90, what="the allocation runs")
    wait_until(lambda: _has_runner(program), timeout=90, what="its runner works")
    os.kill(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "torc watch 1" in said and "torc slurm cancel 1" in said
    assert slurm.call("squeue", "-h").strip(), "the allocation is still there"
    busy = program("submit", "1", "--account", "root", code=4)
    assert "queued or running" in busy.stderr
    (program.directory / "go").touch()
    assert "1 completed" in program("watch", "1").stdout


def _has_runner(program: Program) -> bool:
    shown = program("compute-nodes", "list", "1", "-f", "json", code=None)
    return shown.code == 0 and bool(shown.json)


def test_what_ran_out_of_memory_is_recovered_in_new_allocations(program: Program, slurm: Slurm) -> None:
    greedy = "python3 -c 'import time; x = bytearray(180 << 20); time.sleep(2)' && touch done"
    named = spec(
        program, {"name": "greedy", "command": greedy}, {"name": "fine", "command": "true"}, enforce_memory=True
    )
    failed = program("submit", named, "--account", "root", "--no-estimate", code=1)
    assert "memory" in failed.stdout
    wait_until(lambda: not slurm.call("squeue", "-h"), timeout=60, what="the first allocation has ended")
    done = program("watch", "1", "--recover", "--memory-multiplier", "3", "--poll-interval", "1s")
    assert "2 completed" in done.stdout and (program.directory / "done").exists()
    found = program("slurm", "list", "--all", "-f", "json").json
    assert len(found) == 2, "one more allocation was asked for"
    sizes = {item["id"]: item["memory_bytes_per_node"] for item in found}
    assert sizes[max(sizes)] >= (300 + 128) << 20 > sizes[min(sizes)]


def test_where_the_time_was_too_short_a_second_allocation_goes_on(program: Program, slurm: Slurm) -> None:
    named = spec(program, {"name": "a", "command": "test -e again && exit 0; touch again; sleep 300"})
    running = program.start("submit", named, "--account", "root", "--no-estimate", "--group-by", "partition")
    wait_until((program.directory / "again").exists, timeout=90, what="the job runs")
    job = slurm.call("squeue", "-h", "-o", "%A").strip()
    slurm.call("scontrol", "update", f"jobid={job}", "EndTime=now+1")
    shown, said = running.communicate(timeout=180)
    assert running.returncode == 1, (shown, said)
    assert "torc submit 1 asks for more" in said
    planned = program("slurm", "regenerate", "1", "--account", "root", "--no-estimate")
    assert "1 job" in planned.stdout and "nothing was submitted" in planned.stderr
    assert planned.stdout.count("plan for ") == 1
    assert "\ndebug " in planned.stdout, "grouped as the first time"
    assert "1 completed" in program("submit", "1", "--account", "root", "--no-estimate").stdout
    assert len(program("slurm", "list", "1", "--all", "-f", "json").json) == 2


def test_schedulers_and_actions_of_the_spec_are_obeyed(program: Program, slurm: Slurm) -> None:
    named = spec(
        program,
        {"name": "a", "command": "true", "scheduler": "mine"},
        {"name": "b", "command": "true", "depends_on": ["a"]},
        slurm_schedulers=[{"name": "mine", "walltime": "00:05:00", "mem": "500M", "cpus_per_node": 1}],
        actions=[
            {
                "trigger_type": "on_workflow_start",
                "action_type": "schedule_nodes",
                "scheduler": "mine",
                "scheduler_type": "slurm",
                "num_allocations": 2,
                "start_one_worker_per_node": True,
            }
        ],
    )
    done = program("submit", named, "--account", "root")
    assert "the spec says itself what to submit" in done.stdout and "2 completed" in done.stdout
    found = program("slurm", "list", "--all", "-f", "json").json
    assert [item["scheduler"] for item in found] == ["mine", "mine"]
    assert {item["account"] for item in found} == {"root"}
