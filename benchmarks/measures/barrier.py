"""A barrier by files, N writers before N readers: the time to store it, and that its rows grow with N, not with N x N."""

from __future__ import annotations

import sqlite3
import statistics
from pathlib import Path

from benchmarks import processes, specs
from benchmarks.rows import Row
from benchmarks.sizes import Sizes

TARGET_SECONDS = 0.5


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Time `torc create` of the barrier net of `torc create` of one job; count the rows at N and at N / 2."""
    width = sizes.barrier_width
    net = statistics.median(
        _create(width, folder / f"{number}_whole") - _create_one(folder / f"{number}_one")
        for number in range(sizes.rounds)
    )
    _create(width // 2, folder / "half")
    rows, half = (count_rows(folder / name / "barrier.db") for name in ("0_whole", "half"))
    linear = rows <= 2.2 * half
    return [
        Row(
            f"create a barrier {width:,} x {width:,} by files, net of start-up",
            f"{net:.2f} s",
            target=f"<= {TARGET_SECONDS} s",
            met=net <= TARGET_SECONDS,
        ),
        Row(
            f"rows of a barrier {width:,} x {width:,}",
            f"{rows:,} rows",
            f"{half:,} rows at half the width",
            rows / half,
            "linear: ratio <= 2.2",
            linear,
        ),
    ]


def _create(width: int, folder: Path) -> float:
    folder.mkdir(parents=True)
    return _create_spec(specs.save(specs.barrier(width), folder), folder)


def _create_one(folder: Path) -> float:
    folder.mkdir(parents=True)
    return _create_spec(specs.save(specs.sweep(1), folder), folder)


def _create_spec(path: Path, folder: Path) -> float:
    database = str(folder / "barrier.db")
    return processes.run([*processes.TORC, "--db", database, "create", str(path)], folder).wall_seconds


def count_rows(database: Path) -> int:
    """Count the rows of every table of a database."""
    with sqlite3.connect(database) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return sum(db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names)
