"""What the runner of an allocation keeps for itself, so that it outlives the job that it must report on.

Planners ask for it beside what the jobs need, and runners in allocations leave it alone: the same rule on both sides, so that
what was planned fits.
"""

from __future__ import annotations

from math import ceil

#: of the memory of a node, between these two
_SHARE = 0.03
LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES = 128 << 20, 512 << 20
#: from the start of an allocation to its first job, and from the last job's end to that of the allocation
START_SECONDS, END_SECONDS = 60, 60
#: a job that saves its work begins where a tenth of its time is left, or this
_WORTH_SECONDS = 300
#: before the end, Slurm's warning comes so early at most; after it no further job starts
LAST_START_SECONDS = 180


def memory_headroom(total_bytes: int) -> int:
    """Return the memory that a runner keeps of what its node gives it."""
    return min(MOST_MEMORY_BYTES, max(LEAST_MEMORY_BYTES, ceil(total_bytes * _SHARE)))


def memory_for_jobs(total_bytes: int) -> int:
    """Return the memory that is left for jobs of what a node gives."""
    return max(0, total_bytes - memory_headroom(total_bytes))


def memory_with_headroom(jobs_bytes: int) -> int:
    """Return the least memory to ask of a node for jobs that need so much together."""
    total = jobs_bytes + memory_headroom(jobs_bytes)
    while memory_for_jobs(total) < jobs_bytes:
        total += jobs_bytes - memory_for_jobs(total)
    return total


def least_time_for(runtime_seconds: int, *, saves_work: bool) -> int:
    """Return the time that an allocation needs for a job: all of it, or enough to be worthwhile if the job can resume later."""
    return min(runtime_seconds, _WORTH_SECONDS, max(1, runtime_seconds // 10)) if saves_work else runtime_seconds


def time_for_jobs(walltime_seconds: int) -> int:
    """Return the time of an allocation in which jobs can run."""
    return max(0, walltime_seconds - START_SECONDS - END_SECONDS)
