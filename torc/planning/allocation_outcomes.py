"""What the end of an allocation means for the jobs that ran in it. Pure.

A cluster tells how the allocation ended, and seldom which job was the reason. What is certain of a job is told of it; where it is
not, the job is only lost, and due again so often as lost jobs are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torc.planning.allocations import FORGOTTEN, REQUEUED, word_of
from torc.workflow.exit_codes import OUT_OF_MEMORY

Meaning = Literal["out_of_memory", "timeout", "lost", "interrupted"]

#: ends that are nobody's fault: they may happen to a job as often as they like
FAULTLESS = frozenset({"PREEMPTED", REQUEUED, "BOOT_FAIL", "RECONFIG_FAIL", FORGOTTEN})
_AT_LIMIT = frozenset({"TIMEOUT", "DEADLINE"})
#: ends for which a node, or its way to the controller, is the reason
OF_NODES = frozenset({"NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED"})
#: so much of what was asked for counts as all of it: clocks and polls are coarse
_NEARLY_ALL = 0.95


@dataclass(frozen=True, slots=True)
class InterruptedJob:
    """A job that ran when its allocation ended. `wall_seconds`: for how long; None: that is not known."""

    wall_seconds: float | None
    runtime_request: float


def meaning(cluster_state: str, job: InterruptedJob) -> Meaning:
    """Return what the end of its allocation means for a job that ran in it."""
    word = word_of(cluster_state)
    if word == "OUT_OF_MEMORY":
        return "out_of_memory"
    if word in _AT_LIMIT:
        had_its_time = job.wall_seconds is not None and job.wall_seconds >= _NEARLY_ALL * job.runtime_request
        return "timeout" if had_its_time else "lost"
    return "interrupted" if word == "CANCELLED" else "lost"


def is_faultless(cluster_state: str | None) -> bool:
    """Return whether an end may happen to a job as often as it likes."""
    return cluster_state is not None and word_of(cluster_state) in FAULTLESS


def told_by_the_end(cluster_state: str, reason: str | None, return_code: int | None) -> bool:
    """Return whether the end of an allocation says something of an attempt that its runner had reported before.

    The kernel kills the process that is too large; its runner lives and reports the signal, and the allocation is marked at its end.
    And a runner that Slurm asked to leave stops its jobs: why it had to, the end of the allocation tells.
    """
    word = word_of(cluster_state)
    if word == "OUT_OF_MEMORY" and return_code == OUT_OF_MEMORY:
        return True
    return reason == "runner_stopped" and word in _STOPS


#: ends that ask runners to leave before
_STOPS = frozenset({"CANCELLED", "TIMEOUT", "DEADLINE", "NODE_FAIL", "PREEMPTED", REQUEUED})
