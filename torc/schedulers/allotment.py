"""What an allocation gives to a runner, seen from one of its nodes. Values only; each scheduler reads it from its own variables."""

from __future__ import annotations

from dataclasses import dataclass

from torc.planning.reserve import END_SECONDS
from torc.workflow.resources import Capacity

_SHARE_OF_TIME, _LEAST_SECONDS = 0.05, 5.0


@dataclass(frozen=True, slots=True)
class Allotment:
    """An allocation, seen from one of its nodes. `capacities`: what each node has for jobs, in the order of `nodes`."""

    job_id: str
    node: str
    nodes: tuple[str, ...]
    task: int  # of the runners that were started in it, which one this is
    num_tasks: int
    capacities: tuple[Capacity, ...]
    gpus: tuple[str, ...]  # on this node, by name
    gpu_variables: tuple[str, ...]
    counts_memory: bool
    end_time: float | None
    scratch: str | None

    @property
    def here(self) -> Capacity:
        """Return what this node has for jobs."""
        return self.capacities[self.nodes.index(self.node)]

    @property
    def is_alone(self) -> bool:
        """Return whether this is the only runner of an allocation of several nodes."""
        return self.num_tasks == 1 and len(self.nodes) > 1

    def at_most(self, wait_seconds: float, now: float) -> float:
        """Shorten a wait so that it ends before the time in which nothing runs any more."""
        if self.end_time is None:
            return wait_seconds
        left = self.end_time - now
        return max(0.0, min(wait_seconds, left - seconds_kept(left)))


def seconds_kept(left_seconds: float, wanted: float | None = None) -> float:
    """Return the time before the end of an allocation in which nothing runs any more but what saves its work."""
    if wanted is not None:
        return wanted
    return min(END_SECONDS, max(_LEAST_SECONDS, _SHARE_OF_TIME * left_seconds))
