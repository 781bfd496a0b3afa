"""The sandbox: a cluster that a user can start, break and stop."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.program import Program
from tests.support.slurm import Slurm
from tests.support.wait import wait_until
from torc.errors import Conflict, Invalid, NotFound, Unavailable
from torc.schedulers.slurm.sandbox import cluster


def test_jobs_get_a_gpu_and_are_held_to_their_memory(slurm: Slurm) -> None:
    job = slurm.sbatch(
        f"echo gpu $CUDA_VISIBLE_DEVICES; exec {sys.executable} -c 'import time; x = b\"1\" * (400 << 20); time.sleep(60)'",
        "--mem=100",
        "--gres=gpu:1",
    )
    slurm.wait_for(job, "OUT_OF_MEMORY", "FAILED")  # FAILED: where there is no cgroup to write to
    assert "gpu 0" in slurm.output(job)
    slurm.wait_for_record(job, slurm.state(job))


def test_a_node_that_is_killed_and_one_that_comes_back(slurm: Slurm) -> None:
    node = slurm.nodes[1]
    slurm.sandbox.kill_node(node)
    stopped = {daemon.name for daemon in slurm.sandbox.status().daemons if not daemon.pid}
    assert stopped == {f"slurmd {node}"}
    controller = slurm.sandbox.folder / "run/slurmctld.pid"
    threads = {path.name for path in Path(f"/proc/{controller.read_text().strip()}/task").iterdir()}
    left = slurm.sandbox.folder / f"run/slurmd-{node}.pid"
    left.write_text(max(threads - {controller.read_text().strip()}))
    stopped = {daemon.name for daemon in slurm.sandbox.status().daemons if not daemon.pid}
    assert stopped == {f"slurmd {node}"}, "its number was given to a thread of another daemon"
    slurm.sandbox.start_node(node)
    wait_until(lambda: slurm.sandbox.status().is_running)


def test_a_controller_that_is_away_for_a_while_keeps_its_jobs(slurm: Slurm) -> None:
    job = slurm.sbatch("sleep 600", "--time=60")
    slurm.wait_for(job, "RUNNING")
    slurm.sandbox.stop_controller()
    assert not slurm.sandbox.status().nodes
    slurm.sandbox.start_controller()
    assert slurm.state(job) == "RUNNING"


def test_the_command_line_tells_how_it_is_and_how_to_reach_it(slurm: Slurm, tmp_path: Path) -> None:
    program = Program(tmp_path)
    folder = slurm.sandbox.folder
    told = program("hpc", "sandbox", "status", "--folder", folder, "-f", "json").json
    assert told["running"] and list(told["nodes"]) == list(slurm.nodes)
    assert program("hpc", "sandbox", "env", "--folder", folder).stdout == f"export SLURM_CONF={slurm.sandbox.conf}\n"
    # without a folder, the one that the shell means
    meant = program("hpc", "sandbox", "status", "-f", "json", SLURM_CONF=str(slurm.sandbox.conf)).json
    assert meant["folder"] == str(folder)
    again = program("hpc", "sandbox", "start", "--folder", folder, "--nodes", 4, code=4)
    assert "runs with other settings" in again.stderr


@pytest.mark.usefixtures("processes")
def test_a_small_one(tmp_path: Path) -> None:
    program = Program(tmp_path)
    options = ("--nodes", 1, "--gpus", 0, "--no-accounting", "--node-prefix", f"u{'abcdefghij'[os.getpid() % 10]}x")
    folder = tmp_path / "s"
    try:
        told = program("hpc", "sandbox", "start", "--folder", folder, *options, "-f", "json").json
        assert told["running"] and set(told["nodes"].values()) == {"idle"}
        assert "munged" in told["daemons"] and "slurmdbd" not in told["daemons"]
        again = program("hpc", "sandbox", "start", "--folder", folder, "-f", "json")
        assert again.json == told and "already running" in again.stderr
        (node,) = told["nodes"]
        assert f"it has {node}" in program("hpc", "sandbox", "node", "n9", "kill", "--folder", folder, code=3).stderr
    finally:
        program("hpc", "sandbox", "stop", "--folder", folder, "--remove")
    assert not folder.exists()


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be named"):
        cluster.create(tmp_path, cluster.SandboxSettings(prefix="Node-"))
    with pytest.raises(Invalid, match="nodes is 0"):
        cluster.create(tmp_path, cluster.SandboxSettings(nodes=0))
    with pytest.raises(Invalid, match="too long"):
        cluster.create(tmp_path / ("x" * 80), cluster.SandboxSettings())
    with pytest.raises(NotFound):
        cluster.find(tmp_path)
    file = tmp_path / "f"
    file.touch()
    with pytest.raises(NotFound):
        cluster.find(file)
    with pytest.raises(Unavailable, match="cannot write"):
        cluster.Sandbox(file, cluster.SandboxSettings()).start()


def test_other_settings_are_no_surprise_to_one_that_runs(slurm: Slurm) -> None:
    with pytest.raises(Conflict):
        cluster.create(slurm.sandbox.folder, cluster.SandboxSettings(prefix=slurm.sandbox.settings.prefix, nodes=2))
