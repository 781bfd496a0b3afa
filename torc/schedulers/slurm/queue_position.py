"""The place of jobs in the queue: how many that wait for the same partitions come before each, by priority.

It is asked for only when somebody looks (`torc slurm list`, `torc status`), with one squeue of its own: following allocations
stays at one squeue and one sacct. An array that waits counts once; jobs that a site hides count not at all. Not for when a job
starts: the scheduler may let small ones pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from torc.schedulers.base import QueuePosition
from torc.schedulers.slurm import commands, fields

#: squeue --noheader --states=PENDING --format=...
FORMAT = "%A|%Q|%P"
#: somebody waits for the answer at a terminal
_TIMEOUT_SECONDS = 10.0


class Waits(NamedTuple):
    """A job that waits in the queue."""

    id: int
    priority: int
    partitions: frozenset[str]  # of several, it takes the first that has room


def places(jobs: Collection[str]) -> dict[str, QueuePosition]:
    """Ask for the places of jobs of this cluster; those that do not wait are left out. Raises Invalid and Unavailable."""
    wanted = {number: job for job in jobs if (number := _number(job)) is not None}
    if not wanted:
        return {}
    ask = ["squeue", "--noheader", "--states=PENDING", f"--format={FORMAT}"]
    return ranked(parse(commands.run(ask, timeout=_TIMEOUT_SECONDS, patience=0.0)), wanted)


def parse(text: str) -> list[Waits]:
    """Read rows of FORMAT; what cannot be read is left out."""
    rows = []
    for line in text.splitlines():
        job, _, rest = line.partition("|")
        priority, _, partitions = rest.partition("|")
        number, order = fields.number(job), fields.number(priority)
        if number is not None and order is not None and partitions.strip():
            rows.append(Waits(number, order, fields.names(partitions)))
    return rows


def ranked(rows: Iterable[Waits], wanted: dict[int, str]) -> dict[str, QueuePosition]:
    """Rank jobs by priority; of the same one, the older first, as Slurm does."""
    ordered = sorted({row.id: row for row in rows}.values(), key=lambda row: (-row.priority, row.id))
    found = {}
    for row in ordered:
        if row.id in wanted:
            rivals = [other.id for other in ordered if other.partitions & row.partitions]
            found[wanted[row.id]] = QueuePosition(rivals.index(row.id) + 1, len(rivals), tuple(sorted(row.partitions)))
    return found


def _number(job: str) -> int | None:
    """Return the number of a job that this cluster ranks: one of another cluster has its place there."""
    found = fields.job_id(job)
    return None if found is None or found.cluster is not None else found.base
