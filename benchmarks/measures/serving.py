"""One server process and many runners: finished jobs a second, how long an exchange takes, and whether that grows with the store."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from benchmarks import http, processes, specs
from benchmarks.percentiles import percentile
from benchmarks.rows import Row, milliseconds
from benchmarks.sizes import Sizes
from tests.support.postgres import start_postgres

TARGET_RATE = 2000.0
TARGET_P99_SECONDS = 0.100
#: what a runner with four CPUs has in hand when its jobs are very short
AT_ONCE, AHEAD = 4, 12


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Let runners finish jobs that do nothing as fast as the server takes them, and then at the rate that it must bear."""
    rows = _measure_on("SQLite, 1 process", sizes, folder / "sqlite")
    rows += _measure_sizes(sizes, folder / "sizes")
    try:
        cluster = start_postgres()
    except RuntimeError as error:
        return [*rows, Row("server on PostgreSQL", str(error))]
    try:
        rows += _measure_on(
            "PostgreSQL, 2 processes", sizes, folder / "postgres", "--workers", "2", database=cluster.url()
        )
    finally:
        cluster.stop()
    return rows


def _measure_on(what: str, sizes: Sizes, folder: Path, *options: str, database: str | None = None) -> list[Row]:
    jobs, runners = sizes.serving_jobs, sizes.serving_runners
    with http.server(folder, *options, database=database) as (at, pid):
        own = [pid, *processes.children(pid)]
        began_cpu = sum(map(processes.own_cpu_seconds, own))
        rate, crowded = asyncio.run(_run(at, runners, jobs, folder, pause=0.0))
        cpu = sum(map(processes.own_cpu_seconds, own)) - began_cpu
        pause = runners * (AT_ONCE + AHEAD) / TARGET_RATE
        _, waits = asyncio.run(_run(at, runners, jobs // 2, folder, pause))
    p99 = percentile(waits, 99)
    return [
        Row(
            f"server on {what}: {runners} runners, {jobs:,} jobs that do nothing",
            f"{rate:,.0f} jobs/s",
            f"its CPU {1000 * cpu / jobs:.2f} ms a job",
            target=f">= {TARGET_RATE:,.0f} jobs/s",
            met=rate >= TARGET_RATE,
        ),
        Row("exchange then, each runner asking again at once", _times(crowded)),
        Row(
            f"exchange at {TARGET_RATE:,.0f} jobs/s, {len(waits):,} of them",
            _times(waits),
            target=f"p99 <= {milliseconds(TARGET_P99_SECONDS)}",
            met=p99 <= TARGET_P99_SECONDS,
        ),
    ]


def _measure_sizes(sizes: Sizes, folder: Path) -> list[Row]:
    """Time exchanges of one runner in workflows of different sizes."""
    rows: list[Row] = []
    first: float | None = None
    with http.server(folder) as (at, _):
        for size in sizes.serving_sizes:
            p50 = percentile(asyncio.run(_exchanges(at, size, folder)), 50)
            first = first or p50
            rows.append(
                Row(
                    f"report 16 and claim 16 over HTTP, {size:,} jobs in the workflow",
                    milliseconds(p50),
                    f"{milliseconds(first)} with the fewest",
                    p50 / first,
                    "flat: ratio <= 2",
                    p50 / first <= 2,
                )
            )
    return rows


async def _exchanges(at: http.Address, size: int, folder: Path) -> list[float]:
    connection = await http.Connection.open(at)
    workflow_id = await _begin(connection, size, folder)
    runner_id = await register(connection, workflow_id, 0)
    waits: list[float] = []
    path = f"/workflows/{workflow_id}/runners/{runner_id}/exchange"
    await _work(connection, path, waits, 0.0, 0.0, most=min(200, size // (2 * (AT_ONCE + AHEAD))))
    connection.close()
    return waits[5:] or waits


async def _begin(connection: http.Connection, num_jobs: int, folder: Path) -> int:
    spec = json.dumps(specs.sweep(num_jobs))
    made = await connection.post("/workflows", {"spec": spec, "format": "json", "directory": str(folder)})
    await connection.post(f"/workflows/{made['id']}/runs", {})
    return int(made["id"])


def _times(waits: list[float]) -> str:
    return f"p50 {milliseconds(percentile(waits, 50))}, p99 {milliseconds(percentile(waits, 99))}"


async def _run(
    at: http.Address, num_runners: int, num_jobs: int, folder: Path, pause: float
) -> tuple[float, list[float]]:
    first = await http.Connection.open(at)
    workflow_id = await _begin(first, num_jobs, folder)
    connections = [await http.Connection.open(at) for _ in range(num_runners)]
    runners = [await register(each, workflow_id, number) for number, each in enumerate(connections)]
    waits: list[float] = []
    began = time.monotonic()
    paths = [f"/workflows/{workflow_id}/runners/{runner}/exchange" for runner in runners]
    await asyncio.gather(
        *(_work(connections[n], paths[n], waits, pause, delay=pause * n / num_runners) for n in range(num_runners))
    )
    seconds = time.monotonic() - began
    for each in (first, *connections):
        each.close()
    return num_jobs / seconds, waits


async def register(connection: http.Connection, workflow_id: int, number: int) -> int:
    """Make a runner known; returns its id."""
    fields = {
        "host": f"node{number}",
        "pid": number + 1,
        "process_started": "1",
        "boot_id": "b",
        "capacity": room(AT_ONCE),
    }
    return int((await connection.post(f"/workflows/{workflow_id}/runners", fields))["id"])


def room(num_cpus: int) -> dict[str, int]:
    """Return a capacity."""
    return {"num_cpus": num_cpus, "memory_bytes": 1 << 40}


async def _work(
    connection: http.Connection, path: str, waits: list[float], pause: float, delay: float, most: int | None = None
) -> None:
    """Work as a runner whose jobs take `pause` seconds, for as many as it has in hand, and which begins after `delay`."""
    finished: list[dict[str, Any]] = []
    await asyncio.sleep(delay)
    while most is None or len(waits) < most:
        request = {
            "finished": finished,
            "free": room(AT_ONCE),
            "total": room(AT_ONCE),
            "limit": AT_ONCE,
            "claim_ahead": AHEAD,
            "wait_seconds": 0.0 if finished else 5.0,
        }
        began = time.monotonic()
        reply = await connection.post(path, request)
        if finished or reply["assignments"]:
            waits.append(time.monotonic() - began)
        if reply["done"]:
            return
        if reply["assignments"]:
            await asyncio.sleep(pause)
        now = time.time()
        finished = [
            {
                "job_id": job["job_id"],
                "attempt": job["attempt"],
                "outcome": "succeeded",
                "return_code": 0,
                "started_at": now,
                "ended_at": now,
                "wall_seconds": 0.0,
            }
            for job in reply["assignments"]
        ]
