"""How long a slot of the runner stands empty: from a job's end to the next start, by the recorded times of attempts."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks import http, processes, specs, store
from benchmarks.percentiles import percentile
from benchmarks.rows import Row, milliseconds
from benchmarks.sizes import Sizes

TARGET_P99_SECONDS = 0.020
TARGET_REMOTE_P99_SECONDS = 0.050
SLOTS = 2


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Run short jobs two at a time, and a chain, in which nothing can be claimed ahead."""
    busy = empty_slots(_times(specs.sweep(sizes.gap_jobs, "sleep 0.02"), folder / "busy"), SLOTS)
    chain = empty_slots(_times(specs.chain(sizes.chain_jobs), folder / "chain"), 1)
    remote = empty_slots(_times_remote(specs.sweep(sizes.gap_jobs, "sleep 0.02"), folder / "remote"), SLOTS)
    p99 = percentile(busy, 99)
    return [
        Row(
            f"gap between an end and the next start, {sizes.gap_jobs} jobs of 20 ms",
            f"p50 {milliseconds(statistics.median(busy))}, p99 {milliseconds(p99)}",
            target=f"p99 <= {milliseconds(TARGET_P99_SECONDS)}",
            met=p99 <= TARGET_P99_SECONDS,
        ),
        Row(
            f"gap in a chain of {sizes.chain_jobs} jobs, each waits for the one before",
            f"p50 {milliseconds(statistics.median(chain))}, p99 {milliseconds(percentile(chain, 99))}",
            target=f"p99 <= {milliseconds(TARGET_P99_SECONDS)}",
            met=percentile(chain, 99) <= TARGET_P99_SECONDS,
        ),
        Row(
            f"gap on a runner that reports to a server, {sizes.gap_jobs} jobs of 20 ms",
            f"p50 {milliseconds(statistics.median(remote))}, p99 {milliseconds(percentile(remote, 99))}",
            target=f"p99 <= {milliseconds(TARGET_REMOTE_P99_SECONDS)}",
            met=percentile(remote, 99) <= TARGET_REMOTE_P99_SECONDS,
        ),
    ]


def empty_slots(times: list[tuple[float, float]], slots: int) -> list[float]:
    """Return the gaps of a run in which all slots are busy: the k-th end makes room for start k + slots."""
    starts = sorted(start for start, _ in times)
    ends = sorted(end for _, end in times)
    return [start - end for start, end in zip(starts[slots:], ends, strict=False)]


def _times(spec: dict[str, object], folder: Path) -> list[tuple[float, float]]:
    folder.mkdir(parents=True)
    path, database = specs.save(spec, folder), folder / "gaps.db"
    argv = [*processes.TORC, "--db", str(database), "run", str(path), "--max-parallel-jobs", str(SLOTS)]
    processes.run(argv, folder)
    return [(result.started_at, result.ended_at) for result in store.results(database) if result.started_at is not None]


def _times_remote(spec: dict[str, object], folder: Path) -> list[tuple[float, float]]:
    with http.server(folder):
        argv = [*processes.TORC, "run", str(specs.save(spec, folder)), "--max-parallel-jobs", str(SLOTS)]
        processes.run(argv, folder)
    results = store.results(folder / ".torc/torc.db")
    return [(result.started_at, result.ended_at) for result in results if result.started_at is not None]
