"""What watching running jobs takes: one look at all their trees beside psutil, and the whole runner while it keeps time series."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks import specs
from benchmarks.measures.overhead import TARGET_SHARE, share_while_jobs_sleep
from benchmarks.rows import Row, milliseconds
from benchmarks.sizes import Sizes
from torc.runner.proc import ProcessTrees

#: each job is a shell, a pipe into a second program, and what those run
_TREE = "sleep 600 | sleep 600 & wait"
_PROCESSES = 3
_INTERVAL_SECONDS = 1.0
_LOOKS = 20


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Look at trees of three processes each; then have a runner do it every second, and write it down."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = sizes.sleeping_jobs
    with _trees(jobs) as sessions:
        trees = ProcessTrees("benchmark")
        trees.look(sessions)  # whose the other sessions are is asked once
        ours = _cpu_seconds(lambda: trees.look(sessions))
        theirs = _cpu_seconds(lambda: [_by_psutil(pid) for pid in sessions])
    found = [
        Row(
            f"one look at {jobs} jobs of {_PROCESSES} processes",
            milliseconds(ours),
            f"psutil {milliseconds(theirs)}",
            ours / theirs,
        ),
        _share_row("looking at them every second", ours / _INTERVAL_SECONDS),
    ]
    for seconds in (5.0, _INTERVAL_SECONDS):
        spec = specs.sweep(jobs, _TREE)
        spec["resource_monitor"] = {"granularity": "time_series", "sample_interval_seconds": seconds}
        share, _ = share_while_jobs_sleep(spec, sizes, folder / f"every_{seconds:g}")
        found.append(_share_row(f"runner with {jobs} jobs, time series every {seconds:g} s", share))
    return found


def _share_row(what: str, share: float) -> Row:
    return Row(what, f"{100 * share:.2f} % of a core", target=f"<= {100 * TARGET_SHARE:g} %", met=share <= TARGET_SHARE)


@contextmanager
def _trees(number: int) -> Iterator[dict[int, tuple[int, int]]]:
    started = [subprocess.Popen(["/bin/sh", "-c", _TREE], start_new_session=True) for _ in range(number)]
    try:
        while any(len(psutil.Process(each.pid).children()) < _PROCESSES - 1 for each in started):
            time.sleep(0.02)
        yield {each.pid: (each.pid, 1) for each in started}
    finally:
        for each in started:
            os.killpg(each.pid, 9)
            each.wait()


def _cpu_seconds(look: Callable[[], object]) -> float:
    found = []
    for _ in range(_LOOKS):
        before = time.thread_time()
        look()
        found.append(time.thread_time() - before)
    return statistics.median(found)


def _by_psutil(pid: int) -> int:
    """Take of a tree what Torc takes, as its manual would have it done."""
    memory = 0
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        with process.oneshot():
            memory += process.memory_info().rss
            process.cpu_times()
            process.io_counters()
    return memory
