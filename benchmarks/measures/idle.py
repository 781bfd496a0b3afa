"""Runners that wait for work and listeners that wait for events: what each costs the server, and how soon they are told."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from pathlib import Path

from benchmarks import http, processes, specs
from benchmarks.measures.serving import register, room
from benchmarks.percentiles import percentile
from benchmarks.rows import Row, megabytes, milliseconds
from benchmarks.sizes import Sizes

_AT_ONCE = 100


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Have runners wait, make one job ready, and have listeners hear of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with http.server(folder) as (at, pid):
            return asyncio.run(_measure(at, pid, sizes, folder))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _measure(at: http.Address, pid: int, sizes: Sizes, folder: Path) -> list[Row]:
    first = await http.Connection.open(at)
    spec = json.dumps(specs.sweep(1, "true"))
    number = (await first.post("/workflows", {"spec": spec, "format": "json", "directory": str(folder)}))["id"]
    await first.post(f"/workflows/{number}/runs", {})
    holder = await register(first, number, 0)
    taken = (await first.post(f"/workflows/{number}/runners/{holder}/exchange", _asking(0.0)))["assignments"]
    assert len(taken) == 1
    before = processes.resident_bytes(pid)
    waiting = await _wait_all(at, number, sizes.idle_runners)
    each = (processes.resident_bytes(pid) - before) / sizes.idle_runners
    listeners = [await http.Connection.open(at) for _ in range(sizes.listeners)]
    for listener in listeners:
        await listener.listen(f"/workflows/{number}/events/stream")
    began = time.monotonic()
    await first.post(f"/workflows/{number}/jobs", {"name": "late", "command": "true"})
    heard = asyncio.gather(*(_hear(listener) for listener in listeners))
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    handed_out = next(iter(done)).result() - began
    times = [at - began for at in await heard]
    for task in waiting:
        task.cancel()
    return [
        Row(
            f"memory of the server for each of {sizes.idle_runners:,} waiting runners",
            f"{each / 1024:,.1f} KiB",
            megabytes(before),
        ),
        Row(f"from a job that becomes ready to its runner, {sizes.idle_runners:,} waiting", milliseconds(handed_out)),
        Row(
            f"from an event to each of {sizes.listeners:,} listeners",
            f"p50 {milliseconds(percentile(times, 50))}, p99 {milliseconds(percentile(times, 99))}",
        ),
    ]


def _asking(seconds: float) -> dict[str, object]:
    return {"free": room(1), "limit": 1, "wait_seconds": seconds}


async def _wait_all(at: http.Address, workflow_id: int, number: int) -> list[asyncio.Task[float]]:
    """Connect runners, and have them wait; each task gives when it got a job."""
    made: list[asyncio.Task[float]] = []
    for start in range(0, number, _AT_ONCE):
        connections = await asyncio.gather(*(http.Connection.open(at) for _ in range(min(_AT_ONCE, number - start))))
        runners = await asyncio.gather(
            *(register(each, workflow_id, start + n) for n, each in enumerate(connections, 1))
        )
        made += [
            asyncio.create_task(_until_given(each, workflow_id, runner))
            for each, runner in zip(connections, runners, strict=True)
        ]
        await asyncio.sleep(0)
    await asyncio.sleep(1.0)
    return made


async def _until_given(connection: http.Connection, workflow_id: int, runner_id: int) -> float:
    while True:
        reply = await connection.post(f"/workflows/{workflow_id}/runners/{runner_id}/exchange", _asking(60.0))
        if reply["assignments"]:
            return time.monotonic()


async def _hear(listener: http.Connection) -> float:
    await listener.hear(b"event: job_created")
    return time.monotonic()
