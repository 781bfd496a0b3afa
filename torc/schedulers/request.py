"""One allocation to ask for: what plans give and `submission` takes. Values only; each scheduler adds what only it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from torc.planning.scheduler_types import SchedulerName


@dataclass(frozen=True, slots=True)
class AllocationRequest:
    """An allocation to ask for, in which runners will live. What is None is left to the scheduler."""

    type: ClassVar[SchedulerName]

    name: str  # for people: shown by the queue
    walltime_seconds: int
    num_nodes: int = 1
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    cpus_per_node: int | None = None  # None: whole nodes
    memory_bytes_per_node: int | None = None  # None: all that a node has, or the default of the cluster
    gpus_per_node: int = 0
    exclude: tuple[str, ...] = ()  # nodes
    scheduler: str | None = None  # the runners take jobs that name it, beside those that name none
    start_one_worker_per_node: bool = True
    max_parallel_jobs: int | None = None

    @classmethod
    def recorded(cls, values: Mapping[str, Any]) -> Self:
        """Read what `record` wrote: of a newer Torc, without what this one does not know."""
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(**{**known, "exclude": tuple(known.get("exclude") or ())})

    def record(self) -> dict[str, Any]:
        """Write what the store keeps of it."""
        return {"type": self.type, **asdict(self)}

    @property
    def elsewhere(self) -> str | None:
        """Other clusters than this machine's that it is asked of, in the scheduler's words."""
        return None

    @property
    def says_memory(self) -> bool:
        """Return whether memory is asked for in the user's own words."""
        return False

    @property
    def leaves_gpus(self) -> bool:
        """Return whether GPUs are asked for in the user's own words, so that Torc asks for none beside them."""
        return False
