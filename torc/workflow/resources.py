"""Resource requests and capacities, and whether one fits into the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

#: assumed memory of a job that requests none: too small to limit any program, so it is never enforced
DEFAULT_MEMORY_BYTES = 1 << 20
#: likewise for the runtime
DEFAULT_RUNTIME_SECONDS = 3600
#: name of the requirement class of jobs that ask for nothing
DEFAULT_CLASS = "default"
#: a job that saves its work may start where this share of its runtime is left, or this many seconds
_LEAST_PART, _LEAST_PART_SECONDS = 0.1, 300.0


class ResourceRequest(NamedTuple):
    """What one attempt needs. Its distinct values are the requirement classes that jobs share."""

    num_cpus: int = 1
    num_gpus: int = 0
    num_nodes: int = 1
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    runtime_seconds: int = DEFAULT_RUNTIME_SECONDS

    @classmethod
    def of(cls, asked: object) -> ResourceRequest:
        """Return the request from an object that has these attributes."""
        return cls(*(getattr(asked, field) for field in cls._fields))

    @property
    def asks_memory(self) -> bool:
        return self.memory_bytes > DEFAULT_MEMORY_BYTES

    @property
    def untimed(self) -> ResourceRequest:
        """Return the request without its runtime, for jobs that save their work and resume elsewhere, for example."""
        return self._replace(runtime_seconds=0)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is free on a node. `runtime_seconds` is the time until it ends (None: unlimited)."""

    num_cpus: int
    memory_bytes: int
    num_gpus: int = 0
    runtime_seconds: float | None = None

    @classmethod
    def of_node(cls, fields: Mapping[str, Any]) -> Capacity:
        """Return what a whole node holds, from the data of a `NodeCapacity`."""
        return cls(fields["num_cpus"], fields["memory_bytes"], fields.get("num_gpus", 0))

    def fits(self, request: ResourceRequest) -> bool:
        return (
            request.num_cpus <= self.num_cpus
            and request.memory_bytes <= self.memory_bytes
            and request.num_gpus <= self.num_gpus
            and request.num_nodes <= 1
            and self.lasts_for(request)
        )

    def lasts_for(self, request: ResourceRequest) -> bool:
        """Return whether the request can finish before the node's time ends."""
        return self.runtime_seconds is None or request.runtime_seconds <= self.runtime_seconds

    def lasts_partly_for(self, request: ResourceRequest) -> bool:
        """Return whether a job that saves its work can make progress here, even if it may not finish."""
        least = min(_LEAST_PART_SECONDS, _LEAST_PART * request.runtime_seconds)
        return self.runtime_seconds is None or least <= self.runtime_seconds

    @property
    def is_full(self) -> bool:
        """Return whether nothing can fit: every request needs a CPU and some memory."""
        return self.num_cpus < 1 or self.memory_bytes < 1

    @property
    def slots(self) -> int:
        """Return the highest number of jobs that can run here at once."""
        return self.num_cpus

    def take(self, request: ResourceRequest) -> Capacity:
        """Return what is left after the request, which must fit."""
        return Capacity(
            self.num_cpus - request.num_cpus,
            self.memory_bytes - request.memory_bytes,
            self.num_gpus - request.num_gpus,
            self.runtime_seconds,
        )

    def give_back(self, request: ResourceRequest) -> Capacity:
        """Return what is free after the request has ended."""
        return Capacity(
            self.num_cpus + request.num_cpus,
            self.memory_bytes + request.memory_bytes,
            self.num_gpus + request.num_gpus,
            self.runtime_seconds,
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """What is free on the nodes of one runner: a job gets one of them, or as many as it requests."""

    nodes: tuple[Capacity, ...]

    def place(self, request: ResourceRequest) -> tuple[int, ...] | None:
        """Choose the nodes for a request: the fullest that fit, to keep whole nodes free; None if it does not fit."""
        of_each = request._replace(num_nodes=1)
        fitting = [at for at, node in enumerate(self.nodes) if node.fits(of_each)]
        if len(fitting) < request.num_nodes:
            return None
        fitting.sort(key=lambda at: (self.nodes[at].num_gpus, self.nodes[at].num_cpus, self.nodes[at].memory_bytes, at))
        return tuple(sorted(fitting[: request.num_nodes]))

    def fits(self, request: ResourceRequest) -> bool:
        return self.place(request) is not None

    def reserved_for(self, request: ResourceRequest, total: Pool) -> Pool:
        """Return what remains for other jobs while a multi-node request waits: all but the nodes that will be free first.

        Those are the emptiest nodes: as they receive no other jobs, they stay the emptiest.
        """
        of_each = request._replace(num_nodes=1)
        able = [at for at, node in enumerate(total.nodes) if node.fits(of_each)]
        able.sort(key=lambda at: (-self.nodes[at].num_cpus, -self.nodes[at].num_gpus, -self.nodes[at].memory_bytes, at))
        kept = set(able[: request.num_nodes])
        return Pool(
            tuple(Capacity(0, 0, 0, node.runtime_seconds) if at in kept else node for at, node in enumerate(self.nodes))
        )

    @property
    def is_full(self) -> bool:
        return all(node.is_full for node in self.nodes)

    @property
    def slots(self) -> int:
        """Return the highest number of jobs that can run here at once."""
        return sum(node.num_cpus for node in self.nodes)

    def take(self, request: ResourceRequest) -> Pool:
        """Return what is left after the request, which must fit."""
        return self.take_at(request, self.place(request) or ())

    def take_at(self, request: ResourceRequest, places: tuple[int, ...]) -> Pool:
        """Return what is left after the request on these nodes."""
        return Pool(tuple(node.take(request) if at in places else node for at, node in enumerate(self.nodes)))

    def give_back_at(self, request: ResourceRequest, places: tuple[int, ...]) -> Pool:
        """Return what is free after the request has ended on these nodes."""
        return Pool(tuple(node.give_back(request) if at in places else node for at, node in enumerate(self.nodes)))
