"""How long one exchange takes that claims 16 jobs, against the number of ready and of finished jobs."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks import specs
from benchmarks.percentiles import percentile
from benchmarks.rows import Row, milliseconds
from benchmarks.sizes import Sizes
from benchmarks.store import Conversation

TARGET_SECONDS = 0.005
BATCH = 16


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Time claims alone, and exchanges that also report the jobs of the one before, as a busy runner's do."""
    rows: list[Row] = []
    first: float | None = None
    for ready, finished in sizes.claim_points:
        claims, exchanges = _times(ready, finished, sizes.claims, folder / f"{ready}_{finished}")
        median = statistics.median(claims)
        rows.append(
            Row(
                f"claim {BATCH} jobs, {ready:,} ready, {finished:,} finished",
                f"{milliseconds(median)} (p99 {milliseconds(percentile(claims, 99))})",
                "" if first is None else f"{milliseconds(first)} with the fewest",
                None if first is None else median / first,
                f"<= {milliseconds(TARGET_SECONDS)}, flat",
                median <= TARGET_SECONDS,
            )
        )
        rows.append(
            Row(
                f"report {BATCH} and claim {BATCH}, {ready:,} ready, {finished:,} finished",
                f"{milliseconds(statistics.median(exchanges))} (p99 {milliseconds(percentile(exchanges, 99))})",
            )
        )
        first = median if first is None else first
    return rows


def _times(ready: int, finished: int, count: int, folder: Path) -> tuple[list[float], list[float]]:
    folder.mkdir(parents=True)
    # the jobs that the timing itself takes away, so that `ready` is the number at its middle
    own = BATCH * (count + 2)
    talk = Conversation(folder / "claims.db", specs.sweep(ready + finished + own), folder)
    talk.finish(finished)
    if talk.num_ready() != ready + own:
        raise RuntimeError(
            f"{talk.num_ready()} jobs are ready, not {ready + own}: these would be figures of something else"
        )
    claims, exchanges = [], []
    for _ in range(count // 2 + 1):
        began = time.perf_counter()
        taken = talk.exchange([], BATCH)
        claimed = time.perf_counter()
        more = talk.exchange(taken, BATCH)
        ended = time.perf_counter()
        claims.append(claimed - began)
        exchanges.append(ended - claimed)
        talk.exchange(more, 0)
    talk.close()
    return claims, exchanges
