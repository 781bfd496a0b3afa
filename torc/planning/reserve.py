"""What the runner of an allocation reserves for itself, so that it outlives a job that it must report on.

Planners request it in addition to what jobs need, and runners in allocations leave it unused: both apply the same rule, so that
what was planned fits.
"""

from __future__ import annotations

from math import ceil

#: share of a node's memory, within these bounds
_SHARE = 0.03
LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES = 128 << 20, 512 << 20
#: from the start of an allocation to its first job, and from the last job's end to that of the allocation
START_SECONDS, END_SECONDS = 60, 60
#: a job that saves its work starts if a tenth of its time is left, or this much
_WORTH_SECONDS = 300
#: Slurm's warning comes at most this long before the end; no job starts after it
LAST_START_SECONDS = 180


def memory_headroom(total_bytes: int) -> int:
    """Return the memory that a runner reserves on its node."""
    return min(MOST_MEMORY_BYTES, max(LEAST_MEMORY_BYTES, ceil(total_bytes * _SHARE)))


def memory_for_jobs(total_bytes: int) -> int:
    """Return the memory of a node that is left for jobs."""
    return max(0, total_bytes - memory_headroom(total_bytes))


def memory_with_headroom(jobs_bytes: int) -> int:
    """Return the least node memory to request for jobs that need `jobs_bytes` together."""
    total = jobs_bytes + memory_headroom(jobs_bytes)
    while memory_for_jobs(total) < jobs_bytes:
        total += jobs_bytes - memory_for_jobs(total)
    return total


def least_time_for(runtime_seconds: int, *, saves_work: bool) -> int:
    """Return the time that an allocation needs for a job: all of it, or enough to be worthwhile if the job can resume later."""
    return min(runtime_seconds, _WORTH_SECONDS, max(1, runtime_seconds // 10)) if saves_work else runtime_seconds


def time_for_jobs(walltime_seconds: int) -> int:
    """Return how long jobs can run in an allocation."""
    return max(0, walltime_seconds - START_SECONDS - END_SECONDS)
