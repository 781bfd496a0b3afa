"""What the end of an allocation means for the jobs that ran in it. Pure.

A cluster reports how the allocation ended, but seldom which job was the cause. What is certain about a job is reported for it;
otherwise the job only counts as lost and runs again, as often as lost jobs may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torc.planning.allocations import FORGOTTEN, REQUEUED, word_of
from torc.workflow.exit_codes import OUT_OF_MEMORY

Meaning = Literal["out_of_memory", "timeout", "lost", "interrupted"]

#: ends that are nobody's fault and do not count against a job
FAULTLESS = frozenset({"PREEMPTED", REQUEUED, "BOOT_FAIL", "RECONFIG_FAIL", FORGOTTEN})
_AT_LIMIT = frozenset({"TIMEOUT", "DEADLINE"})
#: ends caused by a node or its connection to the controller
OF_NODES = frozenset({"NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED"})
#: this share of the requested time counts as all of it: clocks and polls are coarse
_NEARLY_ALL = 0.95


@dataclass(frozen=True, slots=True)
class InterruptedJob:
    """A job that was running when its allocation ended. `wall_seconds`: for how long; None if unknown."""

    wall_seconds: float | None
    runtime_request: float


def meaning(cluster_state: str, job: InterruptedJob) -> Meaning:
    """Return what the end of an allocation means for a job that was running in it."""
    word = word_of(cluster_state)
    if word == "OUT_OF_MEMORY":
        return "out_of_memory"
    if word in _AT_LIMIT:
        had_its_time = job.wall_seconds is not None and job.wall_seconds >= _NEARLY_ALL * job.runtime_request
        return "timeout" if had_its_time else "lost"
    return "interrupted" if word == "CANCELLED" else "lost"


def is_faultless(cluster_state: str | None) -> bool:
    """Return whether an end does not count against a job."""
    return cluster_state is not None and word_of(cluster_state) in FAULTLESS


def end_explains_attempt(cluster_state: str, reason: str | None, return_code: int | None) -> bool:
    """Return whether the end of an allocation explains an attempt that its runner has already reported.

    The OOM killer may kill only a job's process; the runner reports the signal, and Slurm marks the allocation when it ends. And when
    Slurm asks a runner to leave, it stops its jobs; the reason is known only from the end of the allocation.
    """
    word = word_of(cluster_state)
    if word == "OUT_OF_MEMORY" and return_code == OUT_OF_MEMORY:
        return True
    return reason == "runner_stopped" and word in _STOPS


#: ends before which runners are asked to leave
_STOPS = frozenset({"CANCELLED", "TIMEOUT", "DEADLINE", "NODE_FAIL", "PREEMPTED", REQUEUED})
