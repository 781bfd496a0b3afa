"""The seam to clusters: what is asked of one, and what a module for a scheduler has to do. Values and protocols only.

`torc.schedulers.slurm` does it for Slurm. Recording, following and attributing (`torc.planning.allocations`) know no
scheduler; docs/other-schedulers.md shows how PBS or Flux would be added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from torc.planning.allocations import Observation

RequestT_contra = TypeVar("RequestT_contra", contravariant=True)


class OpenAllocation(NamedTuple):
    """An allocation that the cluster was, or may have been, asked for."""

    mark: str  # unique: by it what was submitted and not reported is found
    cluster_job_id: str | None  # None: nobody knows whether it was submitted
    created_at: float
    elsewhere: str | None = None  # other clusters that it was to be asked of, in the scheduler's words


class Submitted(NamedTuple):
    """The cluster's id of an allocation."""

    cluster_job_id: str
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one poll has brought, by mark. Who is not in it was not spoken of, which says nothing."""

    observations: Mapping[str, Observation]
    found: Mapping[str, str]  # mark -> id of the cluster, of those that had none
    surplus: tuple[str, ...] = ()  # ids of the cluster that a mark has beside the first: submitted twice
    uncertain: frozenset[str] = (
        frozenset()
    )  # marks that may be on a cluster that gave no answer: neither gone nor to be submitted again


class Scheduler(Protocol[RequestT_contra]):
    """What a scheduler does for us. Each raises `Unavailable` when it cannot say, which never means "gone"; `Invalid` when refused."""

    def render(self, request: RequestT_contra, mark: str, allocation_id: int) -> str:
        """Write what is submitted, as people can read it."""
        ...

    def problems(self, request: RequestT_contra) -> Sequence[str]:
        """Say why the cluster would never give this, as far as it tells; nothing where it cannot be asked."""
        ...

    def default_memory(self, request: RequestT_contra) -> int | None:
        """Return the bytes of a node's memory that this gets without asking for any; None: all of it, or nobody knows."""
        ...

    def submit(self, script: str) -> Submitted:
        """Ask for an allocation, once. `details["uncertain"]` of Unavailable tells that it may have been heard."""
        ...

    def look(self, asked: Collection[OpenAllocation]) -> PollResult:
        """Ask queue and accounting for all of these, with one command each."""
        ...

    def cancel(self, ids: Collection[str]) -> None:
        """End allocations, waiting or running; those that are over are no error."""
        ...
