"""How many jobs of `true` a second: Torc beside `xargs -P2` and `make -j2`, in turns, each net of its own start-up."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks import processes, specs
from benchmarks.rows import Row
from benchmarks.sizes import Sizes

TARGET = 0.9
Tool = Callable[[int, Path], float]


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Measure in rounds of all tools, so that a noisy minute hits them alike, and compare within each round."""
    tools: dict[str, Tool] = {"torc": torc_seconds, "xargs": xargs_seconds}
    if shutil.which("make"):
        tools["make"] = make_seconds
    jobs = sizes.throughput_jobs
    rounds = [_round(tools, jobs, folder / f"round_{number}") for number in range(sizes.rounds)]
    rows = []
    for yardstick in [name for name in tools if name != "torc"]:
        ratio = statistics.median(rates["torc"] / rates[yardstick] for rates in rounds)
        is_target = yardstick == "xargs"
        rows.append(
            Row(
                f"throughput, {jobs} x `true`, 2 at a time",
                f"{statistics.median(rates['torc'] for rates in rounds):,.0f} jobs/s",
                f"{yardstick} {statistics.median(rates[yardstick] for rates in rounds):,.0f} jobs/s",
                ratio,
                f"ratio >= {TARGET}" if is_target else "",
                ratio >= TARGET if is_target else None,
            )
        )
    return rows


def _round(tools: dict[str, Tool], jobs: int, folder: Path) -> dict[str, float]:
    rates = {}
    for name, seconds in tools.items():
        whole, start_up = (seconds(count, folder / f"{name}_{count}") for count in (jobs, 1))
        rates[name] = (jobs - 1) / max(whole - start_up, 1e-6)
    return rates


def torc_seconds(jobs: int, folder: Path) -> float:
    """Run a workflow from its spec: reading, storing, running, and the summary."""
    folder.mkdir(parents=True)
    path = specs.save(specs.sweep(jobs), folder)
    return processes.run([*processes.TORC, "run", str(path), "--max-parallel-jobs", "2"], folder).wall_seconds


def xargs_seconds(jobs: int, folder: Path) -> float:
    """Run `sh -c true` by xargs, two at a time."""
    folder.mkdir(parents=True)
    command = f"seq {jobs} | xargs -P2 -I{{}} sh -c true"
    return processes.run(["sh", "-c", command], folder).wall_seconds


def make_seconds(jobs: int, folder: Path) -> float:
    """Run `sh -c true` by make, two at a time. It gets a command that it cannot run without a shell."""
    folder.mkdir(parents=True)
    targets = " ".join(f"t{number}" for number in range(jobs))
    (folder / "Makefile").write_text(f"all: {targets}\n{targets}:\n\t@sh -c true\n", encoding="utf-8")
    return processes.run(["make", "-s", "-j2"], folder).wall_seconds
