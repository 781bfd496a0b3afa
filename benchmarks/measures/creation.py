"""What `torc create` of a large sweep takes: the whole process, with its start and its imports."""

from __future__ import annotations

from pathlib import Path

from benchmarks import processes, specs
from benchmarks.rows import Row, megabytes
from benchmarks.sizes import Sizes

MEBIBYTE = 1 << 20
#: jobs -> (seconds, bytes)
TARGETS = {100_000: (4.0, 400 * MEBIBYTE), 1_000_000: (45.0, 1536 * MEBIBYTE)}


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Measure each size once; it is long enough to be steady."""
    rows = []
    for jobs in sizes.creation_jobs:
        place = folder / str(jobs)
        place.mkdir(parents=True)
        path = specs.save(specs.sweep(jobs), place)
        account = processes.run([*processes.TORC, "create", str(path)], place)
        seconds, size = TARGETS.get(jobs, (None, None))
        rows.append(
            Row(
                f"create a sweep of {jobs:,} jobs, time",
                f"{account.wall_seconds:.2f} s",
                target="" if seconds is None else f"<= {seconds:g} s",
                met=None if seconds is None else account.wall_seconds <= seconds,
            )
        )
        rows.append(
            Row(
                f"create a sweep of {jobs:,} jobs, peak memory",
                megabytes(account.peak_bytes),
                target="" if size is None else f"<= {megabytes(size)}",
                met=None if size is None else account.peak_bytes <= size,
            )
        )
    return rows
