"""Runners inside real allocations: on each node, or one for all; jobs as processes or as steps; and how it all ends."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import results, store
from tests.support.slurm import Slurm
from tests.support.stores import check_all, open_sqlite
from tests.support.wait import wait_until
from torc.api.runs import ListRunners, Result, Runner
from torc.api.workflows import GetWorkflow
from torc.client.embedded import Embedded

ROOT = Path(__file__).parents[3]
SMALL = {"name": "small", "num_cpus": 1, "memory": "50m", "runtime": "PT1M"}
WIDE = {"name": "wide", "num_cpus": 2, "num_nodes": 2, "memory": "50m", "runtime": "PT1M"}
LASTING = {"name": "lasting", "num_cpus": 1, "memory": "50m", "runtime": "PT30S"}
GPU = {"name": "gpu", "num_cpus": 1, "num_gpus": 1, "memory": "50m", "runtime": "PT1M"}
HOG = f"{sys.executable} -c 'x = bytearray(500 << 20)'"


class Place:
    """A store, a folder, and allocations in which its workflows run."""

    def __init__(self, torc: Embedded, folder: Path, slurm: Slurm) -> None:
        self.torc, self.folder, self.slurm = torc, folder, slurm

    def store(self, *jobs: dict[str, Any], **fields: Any) -> int:
        """Store a workflow; a job's class is `small` unless it says so."""
        listed = [{"resource_requirements": "small", **job} for job in jobs]
        return store(self.torc, self.folder, listed, resource_requirements=[SMALL, WIDE, LASTING, GPU], **fields)

    def submit(self, workflow_id: int, *arguments: str, nodes: int = 1, options: str = "", before: str = "") -> str:
        """Begin an allocation as Torc's own scripts do."""
        runners = (
            f"srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --wait=0 --kill-on-bad-exit=0 --overlap --mem=0 "
            f"--cpu-bind=none {sys.executable} -m torc.cli.main slurm run-node {workflow_id} --output-dir out {' '.join(arguments)}"
        )
        script = f"#!/bin/bash\nexport TORC_DB={self.folder}/torc.db PYTHONPATH={ROOT} HOME={self.folder}\n{before}\n{runners}\n"
        given = [f"--nodes={nodes}", "--ntasks-per-node=1", "--cpus-per-task=4", "--mem=900", "--time=5"]
        return self.slurm.sbatch(script, *given, *options.split(), f"--chdir={self.folder}")

    def run(self, workflow_id: int, *arguments: str, **options: Any) -> dict[str, Result]:
        """Run a workflow in an allocation to its end; returns the last result of each job."""
        job = self.submit(workflow_id, *arguments, **options)
        self.slurm.wait_for(job, "COMPLETED", "OUT_OF_MEMORY", "FAILED")
        assert "Traceback" not in self.slurm.output(job), self.slurm.output(job)
        return results(self.torc, workflow_id)

    def runners(self, workflow_id: int) -> list[Runner]:
        return self.torc.send(ListRunners(workflow_id=workflow_id)).items

    def said(self, result: Result) -> str:
        """Return what an attempt printed."""
        stem = f"job_wf{result.workflow_id}_j{result.job_id}_r{result.run_id}_a{result.attempt}"
        return (self.folder / f"out/job_stdio/{stem}.o").read_text()

    def is_there(self, *names: str) -> bool:
        return all((self.folder / name).exists() for name in names)


@pytest.fixture
def place(sqlite_file: Path, tmp_path: Path, slurm: Slurm) -> Iterator[Place]:
    """Yield a place on an empty store."""
    opened = open_sqlite(sqlite_file, tmp_path)
    yield Place(opened, tmp_path, slurm)
    check_all(opened)
    opened.close()


def test_300_jobs_run_on_two_nodes_and_nothing_of_the_runners_step_leaks_into_them(place: Place) -> None:
    command = (
        'echo $SLURMD_NODENAME $SLURM_JOB_ID "$SLURM_NTASKS$SLURM_STEP_ID$SLURM_PROCID$SLURM_MEM_PER_NODE"; sleep 0.02'
    )
    actions = [
        {
            "trigger_type": f"on_worker_{when}",
            "action_type": "run_commands",
            "commands": [f"echo {when} > {when}_$SLURMD_NODENAME"],
        }
        for when in ("start", "complete")
    ]
    number = place.store(*({"name": f"j{n}", "command": command} for n in range(300)), actions=actions)
    done = place.run(number, nodes=2)
    assert place.is_there(*(f"{when}_{node}" for when in ("start", "complete") for node in place.slurm.nodes[:2]))
    assert {result.state.value for result in done.values()} == {"completed"}
    lines = Counter(place.said(result) for result in done.values())
    assert {line.split()[0] for line in lines} == set(place.slurm.nodes[:2]) and all(
        len(line.split()) == 2 for line in lines
    )
    first, second = place.runners(number)
    assert {first.node, second.node} == set(place.slurm.nodes[:2]) and first.kind == "slurm"
    assert first.capacity.num_cpus == 4 and first.capacity.memory_bytes == (900 - 128) << 20
    assert first.capacity.runtime_seconds is None or first.capacity.runtime_seconds < 300


def test_one_runner_has_all_nodes_where_jobs_need_several_and_gpus_are_nobody_elses(place: Place) -> None:
    ranks = "echo $SLURM_PROCID/$SLURM_NTASKS $SLURMD_NODENAME"
    number = place.store(
        {
            "name": "mpi",
            "command": f"{ranks}; [ $SLURM_PROCID = 0 ] || exit 0; sleep 4; echo late",
            "resource_requirements": "wide",
        },
        {"name": "four", "command": ranks, "resource_requirements": "wide", "env": {"SLURM_NTASKS_PER_NODE": "2"}},
        {"name": "bad", "command": "[ $SLURM_PROCID = 0 ] && sleep 60; exit 7", "resource_requirements": "wide"},
        *(
            {
                "name": f"gpu{n}",
                "command": f"touch g{n}; while [ $(ls g? | wc -l) -lt 4 ]; do sleep 0.1; done; "
                "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES",
                "resource_requirements": "gpu",
            }
            for n in range(4)
        ),
        *({"name": f"small{n}", "command": "echo $SLURMD_NODENAME ${CUDA_VISIBLE_DEVICES:-none}"} for n in range(4)),
    )
    done = place.run(number, nodes=2, options="--gres=gpu:2")
    n1, n2 = place.slurm.nodes[:2]
    assert {name for name, result in done.items() if result.state.value != "completed"} == {"bad"}
    assert done["bad"].return_code == 7
    assert sorted(place.said(done["mpi"]).splitlines()) == [f"0/2 {n1}", f"1/2 {n2}", "late"]
    assert sorted(place.said(done["four"]).splitlines()) == [f"0/4 {n1}", f"1/4 {n1}", f"2/4 {n2}", f"3/4 {n2}"]
    gpus = {place.said(done[f"gpu{n}"]).strip() for n in range(4)}
    assert gpus == {f"{node} {gpu}" for node in (n1, n2) for gpu in (0, 1)}
    assert all(place.said(done[f"small{n}"]).split()[1] == "none" for n in range(4))
    (runner,) = place.runners(number)
    assert len(runner.capacity.others) == 1


def test_a_step_is_held_to_its_memory_and_tells_how_it_ended_and_what_it_used(place: Place) -> None:
    burn = f"{sys.executable} -c 'x = b\"1\" * (30 << 20); sum(range(3_000_000))'"
    number = place.store(
        {"name": "hog", "command": HOG},
        {"name": "hidden", "command": f"{HOG}; exit 0"},
        {"name": "fine", "command": f"{burn}; echo $TMPDIR $(stat -c %a $TMPDIR); touch $TMPDIR/x"},
        {"name": "code", "command": "echo oops >&2; exit 3"},
        {"name": "signal", "command": "kill -SEGV $$"},
        execution="step",
    )
    (place.folder / "local").mkdir()
    done = place.run(number, "--scratch", str(place.folder / "local"))
    for name in ("hog", "hidden"):
        assert done[name].reason == "out_of_memory" and done[name].state.value == "failed", done[name]
    assert "50 MiB" in str(done["hog"].detail)
    assert done["code"].return_code == 3 and done["code"].stderr_tail == "oops"
    assert done["signal"].return_code == 139
    fine = done["fine"]
    assert fine.usage.peak_memory_bytes > 30 << 20 and fine.usage.user_cpu_seconds > 0 and fine.return_code == 0
    folder, mode = place.said(fine).split()
    assert folder.startswith(f"{place.folder}/local/torc-") and mode == "700" and not Path(folder).exists()
    job = place.slurm.call("squeue", "-h", "-t", "all", "-o", "%A", "--sort=-i").split()[0]
    name = f"torc_j{done['hog'].job_id}_a1"
    ask = ("sacct", "-n", "-P", "-j", job, "-o", "JobName,State")
    word = "OUT_OF_MEMORY" if _has_groups(place) else "CANCELLED"
    wait_until(lambda: f"{name}|{word}" in place.slurm.call(*ask), what="accounting knows the step")


def _has_groups(place: Place) -> bool:
    """Return whether the cluster limits memory by control groups: else it looks once a second, and ends whole steps."""
    return (place.slurm.sandbox.folder / "etc/cgroup.conf").exists()


def test_a_runner_outlives_the_job_that_took_all_memory_of_its_allocation(place: Place) -> None:
    if not _has_groups(place):
        pytest.skip("no control groups can be made here: Slurm would end the runner too")
    more = HOG.replace("500", "1500")
    number = place.store(
        {"name": "hog", "command": more},
        {"name": "after", "command": "true", "depends_on": ["hog"], "cancel_on_blocking_job_failure": False},
        {"name": "tmp", "command": "echo $TMPDIR"},
    )
    (place.folder / "local").mkdir()
    done = place.run(number, before=f"export SLURM_TMPDIR={place.folder}/local")
    assert done["hog"].reason == "out_of_memory" and done["after"].state.value == "completed"
    folder = place.said(done["tmp"]).strip()
    assert folder.startswith(f"{place.folder}/local/torc-") and not Path(folder).exists()


def test_the_last_runner_to_leave_makes_the_plots_that_the_spec_asks_for(place: Place) -> None:
    number = place.store(
        {"name": "a", "command": "true"}, {"name": "b", "command": "true"}, resource_monitor={"generate_plots": True}
    )
    place.run(number, nodes=2)
    assert "<svg" in (place.folder / f"out/resources_wf{number}.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["direct", "step"])
def test_what_an_allocation_was_too_short_for_goes_on_from_its_checkpoint_in_the_next(
    place: Place, execution: str
) -> None:
    counts = (
        "n=$(cat saved 2>/dev/null || echo 0); trap 'sleep 0.2; echo $n > saved; exit 1' TERM; touch up; "
        "while [ $n -lt 1000000000 ]; do [ -e saved ] && echo from $n && exit 0; n=$((n+1)); sleep 0.01; done"
    )
    number = place.store(
        {"name": "long", "command": counts, "supports_termination": True, "resource_requirements": "lasting"},
        {"name": "plain", "command": "true", "depends_on": ["long"]},
        compute_node_expiration_buffer_seconds=48,
        execution=execution,
    )
    first = place.run(number, options="--time=1")
    assert first["long"].reason == "runner_stopped" and first["long"].state.value == "terminated"
    assert place.torc.send(GetWorkflow(workflow_id=number)).state != "completed"
    assert int((place.folder / "saved").read_text()) > 0
    second = place.run(number)
    assert second["long"].state.value == second["plain"].state.value == "completed"
    assert place.said(second["long"]).strip() == f"from {(place.folder / 'saved').read_text().strip()}"


@pytest.mark.parametrize("execution", ["direct", "step"])
def test_cancelling_an_allocation_interrupts_its_jobs_and_fails_none(place: Place, execution: str) -> None:
    saves = (
        "trap 'sleep 0.2; touch saved; exit 1' TERM; touch up1; while :; do [ -e saved ] && exit 0; sleep 0.05; done"
    )
    waits = "touch up2; while [ ! -e saved ]; do sleep 0.05; done"
    number = place.store(
        {"name": "saves", "command": saves, "supports_termination": True},
        {"name": "waits", "command": waits},
        execution=execution,
    )
    job = place.submit(number)
    wait_until(lambda: place.is_there("out", "up1", "up2"), timeout=60, what="both run")
    place.slurm.call("scancel", job)
    place.slurm.wait_for(job, "CANCELLED", "")
    wait_until(lambda: len(results(place.torc, number)) == 2, what="both are reported")
    assert {result.reason for result in results(place.torc, number).values()} == {"runner_stopped"}
    assert not any(runner.is_active for runner in place.runners(number))
    assert {result.state.value for result in place.run(number).values()} == {"completed"}


def test_the_runner_that_ends_first_leaves_the_others_whatever_the_site_says(place: Place) -> None:
    """Its WaitTime is one second (slurm.conf), which a step without `--wait=0` has to feel."""
    assert "WaitTime = 1 sec" in " ".join(place.slurm.call("scontrol", "show", "config").split())
    number = place.store(
        {"name": "long", "command": "while [ ! -e go ]; do sleep 0.1; done"},
        {"name": "next", "command": "true", "depends_on": ["long"]},
        compute_node_wait_for_new_jobs_seconds=0,
    )
    job = place.submit(number, nodes=2, before="export SLURM_KILL_BAD_EXIT=1")

    def one_has_long_ended() -> bool:
        return any(runner.ended_at and time.time() - runner.ended_at > 3 for runner in place.runners(number))

    wait_until(one_has_long_ended, timeout=90, what="one runner has ended")
    (place.folder / "go").touch()
    place.slurm.wait_for(job, "COMPLETED")
    done = results(place.torc, number)
    assert {result.state.value for result in done.values()} == {"completed"} and done["long"].attempt == 1
    assert len(place.runners(number)) == 2


def test_a_job_submits_another_as_if_it_were_not_in_an_allocation(place: Place) -> None:
    nested = "sbatch --wait --mem-per-cpu=50 --output=nested.txt --wrap='srun echo ${SLURM_NTASKS:-no} tasks in $SLURM_JOB_ID'"
    number = place.store({"name": "nested", "command": f"{nested}; echo $SLURM_JOB_ID"})
    done = place.run(number)
    assert done["nested"].state.value == "completed", done["nested"]
    count, *_, job = (place.folder / "nested.txt").read_text().split()
    assert count == "no" and job != place.said(done["nested"]).split()[-1]
