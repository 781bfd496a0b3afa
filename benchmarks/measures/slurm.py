"""Jobs of `true` in an allocation of one node, and the Slurm commands that a workflow costs, on a private cluster on this machine.

Torc's runner starts jobs itself (direct) or as steps; beside it stand plain `srun` steps in the same kind of allocation, and
an array of `sbatch`. Each is net of a round with one job, so that start-up and waiting for the allocation do not count.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import statistics
import string
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import processes, specs
from benchmarks.rows import Row
from benchmarks.sizes import Sizes
from torc.schedulers.slurm.sandbox import cluster

CPUS = 4
_PROGRAMS = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol", "sinfo", "sacctmgr")
_CLASS = {"name": "small", "num_cpus": 1, "memory": "50m", "runtime": "PT1M"}
Way = Callable[[int, Path, Mapping[str, str]], float]


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Start a cluster, measure in rounds of all ways, and count commands. The cluster is gone afterwards."""
    folder.mkdir(parents=True)
    prefix = "b" + "".join(random.SystemRandom().choices(string.ascii_lowercase, k=4))
    sandbox = cluster.create(folder / "c", cluster.SandboxSettings(prefix=prefix, cpus=CPUS, gpus=0))
    try:
        sandbox.start(install=False)
        environ = {**sandbox.environment, "TORC_PROGRAM": processes.TORC[0]}
        return [*_throughput(sizes, folder, environ), _commands(sizes, folder / "commands", environ)]
    finally:
        sandbox.remove()


def _throughput(sizes: Sizes, folder: Path, environ: Mapping[str, str]) -> list[Row]:
    ways: dict[str, Way] = {"direct": run_direct, "step": run_steps, "srun": run_srun, "array": run_array}
    jobs = sizes.slurm_jobs
    rounds = [
        {name: _pace(way, jobs, folder / f"{name}_{number}", environ) for name, way in ways.items()}
        for number in range(sizes.slurm_rounds)
    ]
    rows = []
    for name, yardstick in (("direct", "srun"), ("direct", "array"), ("step", "srun"), ("step", "array")):
        own, other = (statistics.median(paces[way] for paces in rounds) for way in (name, yardstick))
        shown = {"srun": "srun steps", "array": "sbatch array"}[yardstick]
        rows.append(
            Row(
                f"{jobs:,} x `true` in an allocation of a node, {CPUS} at a time, {name}",
                f"{own:,.0f} jobs/s",
                f"{shown} {other:,.0f} jobs/s",
                statistics.median(paces[name] / paces[yardstick] for paces in rounds),
            )
        )
    return rows


def _pace(way: Way, jobs: int, folder: Path, environ: Mapping[str, str]) -> float:
    whole, one = (way(count, folder / str(count), environ) for count in (jobs, 1))
    return (jobs - 1) / max(whole - one, 1e-3)


def run_direct(jobs: int, folder: Path, environ: Mapping[str, str]) -> float:
    """Run a workflow by Torc's runner, which starts its jobs itself."""
    return _run_node(jobs, folder, environ, "direct")


def run_steps(jobs: int, folder: Path, environ: Mapping[str, str]) -> float:
    """Run a workflow by Torc's runner, each job as a step of its own."""
    return _run_node(jobs, folder, environ, "step")


def _run_node(jobs: int, folder: Path, environ: Mapping[str, str], execution: str) -> float:
    folder.mkdir(parents=True)
    environ = {**environ, "TORC_DB": str(folder / "torc.db")}
    processes.run([*processes.TORC, "create", str(specs.save(_sweep(jobs), folder))], folder, environ)
    runner = ["srun", "--overlap", "--ntasks=1", *processes.TORC, "slurm", "run-node", "1", "--execution", execution]
    return processes.run([*_salloc(), *runner], folder, environ).wall_seconds


def run_srun(jobs: int, folder: Path, environ: Mapping[str, str]) -> float:
    """Run plain steps, as many at a time as there are CPUs, each with memory of its own."""
    folder.mkdir(parents=True)
    step = "srun --exact --ntasks=1 --cpus-per-task=1 --mem=50 true"
    command = f"seq {jobs} | xargs -P{CPUS} -I{{}} {step}"
    return processes.run([*_salloc(), "sh", "-c", command], folder, environ).wall_seconds


def run_array(jobs: int, folder: Path, environ: Mapping[str, str]) -> float:
    """Run an array of batch jobs, and look twenty times a second whether it has ended."""
    folder.mkdir(parents=True)
    environ = {**os.environ, **environ}
    node = subprocess.check_output(["sinfo", "-h", "-N", "-p", "debug", "-o", "%N"], env=environ, text=True).split()[0]
    began = time.perf_counter()
    options = [f"--array=1-{jobs}", f"--nodelist={node}", "--ntasks=1", "--mem=50", "--output=/dev/null"]
    subprocess.run(
        ["sbatch", "--parsable", *options, "--wrap=true"], env=environ, check=True, stdout=subprocess.DEVNULL
    )
    while subprocess.check_output(["squeue", "-h"], env=environ).strip():
        time.sleep(0.05)
    return time.perf_counter() - began


def _salloc() -> list[str]:
    return ["salloc", "--quiet", "--nodes=1", "--ntasks=1", f"--cpus-per-task={CPUS}", "--mem=2000", "--time=30"]


def _sweep(jobs: int, command: str = "true") -> dict[str, object]:
    spec = specs.sweep(jobs, command)
    spec["jobs"][0]["resource_requirements"] = "small"
    return {
        **spec,
        "resource_requirements": [_CLASS],
        "slurm_schedulers": [{"name": "cpu", "partition": "debug", "walltime": "00:30:00", "nodes": 1, "mem": "2g"}],
    }


def _commands(sizes: Sizes, folder: Path, environ: Mapping[str, str]) -> Row:
    """Count every Slurm command that submitting, running and following a workflow starts, on all machines."""
    folder.mkdir(parents=True)
    calls = _count_in(folder / "bin")
    environ = {
        **environ,
        "TORC_DB": str(folder / "torc.db"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "TORC_BENCHMARK_CALLS": str(calls),
    }
    jobs = sizes.slurm_counted_jobs
    processes.run([*processes.TORC, "create", str(specs.save(_sweep(jobs), folder))], folder, environ)
    submit = [*processes.TORC, "slurm", "schedule-nodes", "1", "--num-allocations", "2"]
    processes.run(submit, folder, environ)
    processes.run([*processes.TORC, "watch", "1"], folder, environ)
    counted = Counter(calls.read_text(encoding="utf-8").split())
    told = ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))
    return Row(
        f"Slurm commands for a workflow of {jobs:,} jobs in 2 allocations, from submission to end",
        f"{counted.total()} ({told})",
        f"a batch job for each: {jobs:,} sbatch",
    )


def _count_in(folder: Path) -> Path:
    """Put programs before Slurm's own that write down their name, and then are those."""
    folder.mkdir(parents=True)
    calls = folder / "calls"
    calls.touch()
    for name in _PROGRAMS:
        real = shutil.which(name)
        if real is None:
            continue
        program = folder / name
        program.write_text(f'#!/bin/sh\necho {name} >> "$TORC_BENCHMARK_CALLS"\nexec {real} "$@"\n', encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return calls
