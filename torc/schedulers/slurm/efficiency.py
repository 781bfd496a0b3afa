"""What allocations made of what they had, from the accounting: waiting, CPU time, memory, and how their steps ended. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torc.schedulers.slurm.output_parser import AccountingRow

#: steps of Slurm's own
_NOT_JOBS = {"batch", "extern", "interactive"}


@dataclass(frozen=True, slots=True)
class Efficiency:
    """One allocation. None: the accounting does not say (yet). `steps`: by state, those that jobs ran in."""

    job: str
    name: str
    state: str
    waited_seconds: float | None
    elapsed_seconds: int | None
    num_nodes: int | None
    num_cpus: int | None
    num_gpus: int
    cpu_seconds: float | None
    requested_memory_bytes: int | None
    max_rss_bytes: int | None  # the largest of a step, on one node
    steps: Mapping[str, int] = field(default_factory=dict)

    @property
    def cpu_efficiency(self) -> float | None:
        """The share of the CPU time that was used; above 1 where processes left their CPUs."""
        if self.cpu_seconds is None or not self.elapsed_seconds or not self.num_cpus:
            return None
        return self.cpu_seconds / (self.elapsed_seconds * self.num_cpus)

    @property
    def node_seconds(self) -> int | None:
        """What it cost."""
        return None if self.elapsed_seconds is None or self.num_nodes is None else self.elapsed_seconds * self.num_nodes


def efficiencies(rows: Iterable[AccountingRow]) -> list[Efficiency]:
    """Put jobs and their steps together, in order of their ids."""
    jobs: dict[str, AccountingRow] = {}
    steps: dict[str, list[AccountingRow]] = {}
    for row in rows:
        if row.id.step is None:
            jobs[row.id.job] = row
        else:
            steps.setdefault(row.id.job, []).append(row)
    return [_efficiency(row, steps.get(job, [])) for job, row in sorted(jobs.items(), key=lambda item: item[1].id.base)]


def _efficiency(row: AccountingRow, steps: list[AccountingRow]) -> Efficiency:
    waited = None
    if row.submitted_at is not None and row.started_at is not None:
        waited = max(0.0, row.started_at - row.submitted_at)
    peaks = [step.max_rss_bytes for step in steps if step.max_rss_bytes]
    return Efficiency(
        job=row.id.job,
        name=row.name,
        state=row.state,
        waited_seconds=waited,
        elapsed_seconds=row.elapsed_seconds,
        num_nodes=row.num_nodes,
        num_cpus=row.num_cpus,
        num_gpus=row.num_gpus,
        cpu_seconds=row.cpu_seconds,
        requested_memory_bytes=row.requested_memory_bytes,
        max_rss_bytes=max(peaks, default=None),
        steps=dict(Counter(step.state for step in steps if step.id.step not in _NOT_JOBS)),
    )
