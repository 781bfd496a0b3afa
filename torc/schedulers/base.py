"""What a batch scheduler has to do for Torc: a protocol, and what not every scheduler can. Values and protocols only.

Recording, submitting once, polling, following, scaling and asking again (`submission`, `polling`, `follow`, `autoscaling`,
`resubmission`) are the same for all schedulers, and know them through this. `registry` finds the one that is meant. What is asked
inside an allocation is in `inside_job`. docs/other-schedulers.md shows how another one is added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from torc.planning.allocations import Observation
from torc.planning.scheduler_types import SchedulerType
from torc.schedulers.allocation_planning import AllocationPlanOptions, PlannedAllocation
from torc.schedulers.partitions import Cluster
from torc.schedulers.request import AllocationRequest


class Capability(StrEnum):
    """What a scheduler may be able to tell. One that cannot is not asked, and the user sees less."""

    DISCOVERY = "discovery"  # partitions and nodes of the cluster: `cluster`, `plan_for`, `node_addresses`
    START_ESTIMATE = "start_estimate"  # `expected_start`
    QUEUE_POSITION = "queue_position"  # `queue_positions`


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


class SubmissionRefusal(NamedTuple):
    """What a refusal means. `is_passing`: the same request may be taken later. Else `hint` says what to change."""

    is_passing: bool
    hint: str


class QueuePosition(NamedTuple):
    """Where a job stands among those that wait for the same partitions: 1 is next."""

    place: int
    of: int
    partitions: tuple[str, ...]

    def __str__(self) -> str:
        return f"place {self.place:,} of {self.of:,} in {','.join(self.partitions)}"


class DescribedCluster(NamedTuple):
    """A cluster to plan for, and where its description comes from, for people."""

    cluster: Cluster
    source: str


class NodeNeeds(NamedTuple):
    """What jobs need of an allocation beyond what it had. None: that was enough."""

    memory_bytes: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    nodes: int | None = None
    walltime_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one poll has brought, by mark. Who is not in it was not spoken of, which says nothing."""

    observations: Mapping[str, Observation]
    found: Mapping[str, str]  # mark -> id of the cluster, of those that had none
    surplus: tuple[str, ...] = ()  # ids of the cluster that a mark has beside the first: submitted twice
    uncertain: frozenset[str] = (
        frozenset()
    )  # marks that may be on a cluster that gave no answer: neither gone nor to be submitted again


class Scheduler(Protocol):
    """What a scheduler does for us. Each raises `Unavailable` when it cannot say, which never means "gone"; `Invalid` when refused.

    Requests that it is given are those that it made.
    """

    @property
    def type(self) -> SchedulerType:
        """Its names."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can tell; the functions for the rest are never called."""
        ...

    # -- requests: pure ------------------------------------------------------------------------------------------

    def request_of(
        self,
        name: str,
        fields: Mapping[str, Any],
        *,
        job_name: str,
        defaults: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> AllocationRequest:
        """Return what a scheduler of a spec stands for. Raises Invalid.

        `defaults` are those of the spec, `settings` those of the action that asks for it.
        """
        ...

    def recorded(self, values: Mapping[str, Any]) -> AllocationRequest:
        """Read a request from what was recorded of it."""
        ...

    def fields_of(self, planned: PlannedAllocation, cluster: Cluster, options: AllocationPlanOptions) -> dict[str, Any]:
        """Write a planned allocation as a spec has it."""
        ...

    def check(self, request: AllocationRequest) -> None:
        """Raise Invalid for what the user wrote and Torc cannot have."""
        ...

    def left_out(self, request: AllocationRequest) -> list[str]:
        """Say which options of the user do not hold, and why; empty: all do."""
        ...

    def settings_for(self, needs: NodeNeeds) -> list[str]:
        """Say how a spec asks for what jobs need, such as `mem: 8192M`."""
        ...

    def render(self, request: AllocationRequest, mark: str, allocation_id: int) -> str:
        """Write what is submitted, as people can read it."""
        ...

    def refusal_of(self, words: str) -> SubmissionRefusal:
        """Return what the scheduler's words mean when it has refused a submission."""
        ...

    # -- commands of the cluster ---------------------------------------------------------------------------------

    def problems(self, request: AllocationRequest) -> Sequence[str]:
        """Say why the cluster would never give this, as far as it tells; nothing where it cannot be asked."""
        ...

    def default_memory(self, request: AllocationRequest) -> int | None:
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

    # -- capabilities --------------------------------------------------------------------------------------------

    def cluster(self) -> Cluster:
        """Ask the cluster of this machine what it has."""
        ...

    def plan_for(self, environ: Mapping[str, str], profile: str | None) -> DescribedCluster:
        """Return the cluster to plan for: that of a profile, else the one here. Raises NotFound, too."""
        ...

    def node_addresses(self) -> list[frozenset[str]]:
        """Return by which names and addresses the cluster knows each of its nodes."""
        ...

    def expected_start(self, script: str) -> float | None:
        """Return when this would start, without submitting it; None: the scheduler does not foresee it. Raises Invalid, if never."""
        ...

    def queue_positions(self, ids: Collection[str]) -> dict[str, QueuePosition]:
        """Return where allocations stand in the queue; those that do not wait are left out."""
        ...
