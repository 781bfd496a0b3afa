"""What the runner itself takes while its jobs run: CPU time of its process and its spawners, without the jobs, over wall time."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import processes, specs
from benchmarks.rows import Row, megabytes
from benchmarks.sizes import Sizes

TARGET_SHARE = 0.01
START_LIMIT_SECONDS = 60.0


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Start sleeping jobs all at once, and watch the runner from when the last has started."""
    jobs = sizes.sleeping_jobs
    command = f"exec sleep {sizes.sleeping_seconds + START_LIMIT_SECONDS:g}"
    share, resident = share_while_jobs_sleep(specs.sweep(jobs, command), sizes, folder)
    return [
        Row(
            f"runner's own CPU while {jobs} jobs sleep",
            f"{100 * share:.2f} % of a core",
            target=f"<= {100 * TARGET_SHARE:g} %",
            met=share <= TARGET_SHARE,
        ),
        Row(f"runner's memory while {jobs} jobs sleep", megabytes(resident)),
    ]


def share_while_jobs_sleep(spec: dict[str, Any], sizes: Sizes, folder: Path) -> tuple[float, int]:
    """Run a spec of jobs that sleep; returns the share of a core that the runner takes, and its memory in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs, seconds = sizes.sleeping_jobs, sizes.sleeping_seconds
    path = specs.save(spec, folder)
    argv = [*processes.TORC, "run", str(path), "--max-parallel-jobs", str(jobs)]
    with (folder / "output.log").open("wb") as output:
        runner = subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            _wait_for_jobs(runner, jobs)
            own = [runner.pid, *processes.children(runner.pid)]
            cpu, began = sum(map(processes.own_cpu_seconds, own)), time.monotonic()
            time.sleep(seconds)
            share = (sum(map(processes.own_cpu_seconds, own)) - cpu) / (time.monotonic() - began)
            resident = sum(map(processes.resident_bytes, own))
        finally:
            runner.send_signal(signal.SIGTERM)  # SIGINT is ignored by what a shell began in the background
            runner.wait(timeout=START_LIMIT_SECONDS)
    return share, resident


def _wait_for_jobs(runner: subprocess.Popen[bytes], jobs: int) -> None:
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while sum(len(processes.children(pid)) for pid in processes.children(runner.pid)) < jobs:
        if runner.poll() is not None or time.monotonic() > deadline:
            raise processes.CommandFailed(f"the runner did not bring {jobs} jobs up (exit code {runner.returncode})")
        time.sleep(0.05)
