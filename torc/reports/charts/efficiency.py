"""Key figures of a run: duration, concurrency, and how well requests were used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torc.reports.charts.records import ChartedAttempt
from torc.units import human_duration


@dataclass(frozen=True, slots=True)
class Figure:
    """A key figure, its name, and how it is computed."""

    name: str
    value: str
    how: str


def efficiency(attempts: Sequence[ChartedAttempt]) -> list[Figure]:
    """Summarize a run. Shares are weighted by the time for which a request was held."""
    if not attempts:
        return []
    span = max(each.end for each in attempts)
    work = sum(each.seconds for each in attempts)
    ended_well = sum(each.seconds for each in attempts if each.state in {"completed", "running"})
    found = [
        Figure("wall time", human_duration(span), "from the first start to the last end"),
        Figure("attempts", f"{len(attempts):,}", f"of {len({each.job_id for each in attempts}):,} jobs"),
    ]
    if span > 0:
        found.append(Figure("at once", f"{work / span:.1f}", "jobs on average: sum of their times / wall time"))
    cpus = sum(each.seconds * each.request.num_cpus for each in attempts)
    if cpus > 0:
        used = sum(each.cpu_seconds for each in attempts)
        found.append(Figure("CPU used", f"{used / cpus:.0%}", "CPU time / requested CPUs x time"))
    asking = [each for each in attempts if each.request.asks_memory and each.state != "running"]
    memory = sum(each.seconds * each.request.memory_bytes for each in asking)
    if memory > 0:
        share = sum(each.seconds * each.peak_memory_bytes for each in asking) / memory
        found.append(Figure("memory used", f"{share:.0%}", "peaks / requested memory, weighted by time"))
    if work > 0:
        found.append(
            Figure(
                "unsuccessful",
                f"{1 - ended_well / work:.0%}",
                "of the time of attempts: those that failed or were terminated and may have run again",
            )
        )
    return found
