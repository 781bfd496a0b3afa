"""What a job asks for, what a node has, and whether the one fits into the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ResourceRequest(NamedTuple):
    """What one attempt needs. Values of this type are the requirement classes that jobs share."""

    num_cpus: int = 1
    num_gpus: int = 0
    num_nodes: int = 1
    memory_bytes: int = 1 << 20
    runtime_seconds: int = 3600


@dataclass(frozen=True, slots=True)
class Capacity:
    """What is free on a node. `runtime_seconds` is the time until it goes away (None: it stays)."""

    num_cpus: int
    memory_bytes: int
    num_gpus: int = 0
    runtime_seconds: float | None = None

    def fits(self, request: ResourceRequest) -> bool:
        """Tell whether the request can start here now."""
        return (
            request.num_cpus <= self.num_cpus
            and request.memory_bytes <= self.memory_bytes
            and request.num_gpus <= self.num_gpus
            and request.num_nodes <= 1
            and (self.runtime_seconds is None or request.runtime_seconds <= self.runtime_seconds)
        )

    def take(self, request: ResourceRequest) -> Capacity:
        """Give what is left after the request. The caller has asked `fits` before."""
        return Capacity(
            self.num_cpus - request.num_cpus,
            self.memory_bytes - request.memory_bytes,
            self.num_gpus - request.num_gpus,
            self.runtime_seconds,
        )

    def give_back(self, request: ResourceRequest) -> Capacity:
        """Give what is free once the request has ended."""
        return Capacity(
            self.num_cpus + request.num_cpus,
            self.memory_bytes + request.memory_bytes,
            self.num_gpus + request.num_gpus,
            self.runtime_seconds,
        )
