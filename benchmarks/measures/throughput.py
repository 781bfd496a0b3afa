"""How many jobs of `true` a second: Torc beside `xargs -P2` and `make -j2`, in turns, each net of its own start-up."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes, specs
from benchmarks.rows import Row
from benchmarks.sizes import Sizes

TARGET = 0.9
Tool = Callable[[int, Path], processes.Account]


@dataclass(frozen=True, slots=True)
class Pace:
    """What a tool made of a round, net of its start-up. CPU time is that of the tool and of its jobs."""

    jobs_per_second: float
    cpu_ms_per_job: float


def measure(sizes: Sizes, folder: Path) -> list[Row]:
    """Measure in rounds of all tools, so that a noisy minute hits them alike, and compare within each round."""
    tools: dict[str, Tool] = {"torc": run_torc, "xargs": run_xargs}
    if shutil.which("make"):
        tools["make"] = run_make
    jobs = sizes.throughput_jobs
    rounds = [_round(tools, jobs, folder / f"round_{number}") for number in range(sizes.rounds)]
    median = {
        name: Pace(
            statistics.median(paces[name].jobs_per_second for paces in rounds),
            statistics.median(paces[name].cpu_ms_per_job for paces in rounds),
        )
        for name in tools
    }
    rows = []
    for yardstick in [name for name in tools if name != "torc"]:
        ratio = statistics.median(paces["torc"].jobs_per_second / paces[yardstick].jobs_per_second for paces in rounds)
        is_target = yardstick == "xargs"
        rows.append(
            Row(
                f"throughput, {jobs:,} x `true`, 2 at a time",
                f"{median['torc'].jobs_per_second:,.0f} jobs/s",
                f"{yardstick} {median[yardstick].jobs_per_second:,.0f} jobs/s",
                ratio,
                f"ratio >= {TARGET}" if is_target else "",
                ratio >= TARGET if is_target else None,
            )
        )
    rows.append(
        Row(
            "the same, CPU time of tool and job",
            f"{median['torc'].cpu_ms_per_job:.2f} ms a job",
            f"xargs {median['xargs'].cpu_ms_per_job:.2f} ms a job",
            statistics.median(paces["torc"].cpu_ms_per_job / paces["xargs"].cpu_ms_per_job for paces in rounds),
        )
    )
    return rows


def _round(tools: dict[str, Tool], jobs: int, folder: Path) -> dict[str, Pace]:
    paces = {}
    for name, tool in tools.items():
        whole, start_up = (tool(count, folder / f"{name}_{count}") for count in (jobs, 1))
        paces[name] = Pace(
            (jobs - 1) / max(whole.wall_seconds - start_up.wall_seconds, 1e-6),
            1000 * (whole.cpu_seconds - start_up.cpu_seconds) / (jobs - 1),
        )
    return paces


def run_torc(jobs: int, folder: Path) -> processes.Account:
    """Run a workflow from its spec: reading, storing, running, and the summary."""
    folder.mkdir(parents=True)
    path = specs.save(specs.sweep(jobs), folder)
    return processes.run([*processes.TORC, "run", str(path), "--max-parallel-jobs", "2"], folder)


def run_xargs(jobs: int, folder: Path) -> processes.Account:
    """Run `sh -c true` by xargs, two at a time."""
    folder.mkdir(parents=True)
    command = f"seq {jobs} | xargs -P2 -I{{}} sh -c true"
    return processes.run(["sh", "-c", command], folder)


def run_make(jobs: int, folder: Path) -> processes.Account:
    """Run `sh -c true` by make, two at a time. It gets a command that it cannot run without a shell."""
    folder.mkdir(parents=True)
    targets = " ".join(f"t{number}" for number in range(jobs))
    (folder / "Makefile").write_text(f"all: {targets}\n{targets}:\n\t@sh -c true\n", encoding="utf-8")
    return processes.run(["make", "-s", "-j2"], folder)
