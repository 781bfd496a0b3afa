"""Run workflows in tests: in this process, or in one of their own that can be killed.

As a program: `python -m tests.support.running DATABASE WORKFLOW_ID OUTPUT_DIR [MAX_PARALLEL_JOBS]`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torc.api.base import Torc
from torc.api.jobs import ListJobs
from torc.api.runs import ListResults, Result
from torc.api.workflows import CreateWorkflow
from torc.client.connect import connect
from torc.runner.local_run import RunOptions, RunOutcome, run_here

ROOT = Path(__file__).parents[2]
_STARTED: list[subprocess.Popen[str]] = []


def store(torc: Torc, folder: Path, jobs: Iterable[Mapping[str, Any]], **fields: Any) -> int:
    """Store a workflow whose directory is `folder`; returns its id."""
    document = {"name": "test", "jobs": list(jobs), **fields}
    return torc.send(CreateWorkflow(spec=json.dumps(document), format="json", directory=str(folder))).id


def run(torc: Torc, workflow_id: int, folder: Path, **options: Any) -> RunOutcome:
    """Run a workflow here."""
    return run_here(torc, workflow_id, RunOptions(output_dir=folder / "out", wait_seconds=0.2, **options))


def run_jobs(torc: Torc, folder: Path, *jobs: Mapping[str, Any], **options: Any) -> dict[str, Result]:
    """Store and run jobs; returns the last result of each by name."""
    fields = options.pop("fields", {})
    workflow_id = store(torc, folder, jobs, **fields)
    run(torc, workflow_id, folder, **options)
    return results(torc, workflow_id)


def results(torc: Torc, workflow_id: int) -> dict[str, Result]:
    """Return the last result of each job by name."""
    page = torc.send(ListResults(workflow_id=workflow_id, limit=10_000))
    return {result.job_name: result for result in page.items}


def states(torc: Torc, workflow_id: int) -> dict[str, str]:
    """Return the state of each job by name."""
    return {job.name: job.state.value for job in torc.send(ListJobs(workflow_id=workflow_id, limit=10_000)).items}


def start_process(database: Path, workflow_id: int, output_dir: Path, **options: Any) -> subprocess.Popen[str]:
    """Run a workflow in a process of its own."""
    command = [sys.executable, "-m", "tests.support.running", str(database), str(workflow_id), str(output_dir)]
    if "max_parallel_jobs" in options:
        command.append(str(options.pop("max_parallel_jobs")))
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options
    )
    _STARTED.append(process)
    return process


def kill_with_spawner(process: subprocess.Popen[str]) -> None:
    """Kill a runner and the process that starts its jobs, so that neither can end anything."""
    process.send_signal(signal.SIGSTOP)
    for pid in spawners(process):
        os.kill(pid, signal.SIGKILL)
    process.kill()


def spawners(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that start the jobs of a runner; none when it has ended."""
    return [pid for pid in children(process.pid) if b"spawner.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def children(pid: int) -> list[int]:
    """Return the children of a process; none when it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def end_processes() -> None:
    """End what a test that failed has started and left."""
    while _STARTED:
        with _STARTED.pop() as process:
            if process.poll() is None:
                process.kill()


def wait_until(predicate: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Wait until something is so, and give it."""
    end = time.monotonic() + seconds
    while not (found := predicate()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(0.005)
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
    except OSError:
        return False


def main(arguments: list[str]) -> int:
    """Run a workflow and print how it went."""
    database, workflow_id, output_dir, *rest = arguments
    torc = connect(db=database)
    options = RunOptions(
        output_dir=Path(output_dir),
        wait_seconds=0.2,
        max_parallel_jobs=int(rest[0]) if rest else None,
        grace_seconds=float(os.environ.get("GRACE_SECONDS", "10")),
    )
    outcome = run_here(torc, int(workflow_id), options)
    print(json.dumps({"state": outcome.workflow.state, "dead": outcome.dead_runners, "stopped": outcome.was_stopped}))
    torc.close()  # type: ignore[attr-defined]
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
