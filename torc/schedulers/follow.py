"""Follows one workflow on a cluster: looks at its allocations, submits those that have become due, cancels those that nobody needs.

Every step may be cut off and begun again by anybody, anywhere: what is to be done is in the store. Not for asking again for what
was lost (`autoscaling`, and `torc.automation`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torc.api.allocations import (
    Allocation,
    DueScheduling,
    ListAllocations,
    ListDueScheduling,
    ListWaitingJobs,
    WaitingJobs,
)
from torc.api.base import Torc
from torc.api.workflows import GetWorkflow, Workflow
from torc.errors import Invalid, Unavailable
from torc.planning.allocations import AllocationState
from torc.planning.reserve import least_time_for
from torc.planning.scheduler_types import SCHEDULER_TYPES
from torc.schedulers.base import Scheduler
from torc.schedulers.polling import PollPace, poll
from torc.schedulers.registry import type_of_due
from torc.schedulers.request import AllocationRequest
from torc.schedulers.resubmission import WaitingGroup, corrected
from torc.schedulers.submission import cancel, submit
from torc.units import human_bytes, human_duration
from torc.workflow.resources import ResourceRequest
from torc.workflow.states import State

_log = logging.getLogger(__name__)
#: jobs in these may still need a runner; one that was interrupted is terminated, and goes on
_TO_DO = (
    State.READY,
    State.BLOCKED,
    State.UNINITIALIZED,
    State.PENDING,
    State.RUNNING,
    State.PENDING_FAILED,
    State.TERMINATED,
)


class FollowStep(NamedTuple):
    """How a step went."""

    workflow: Workflow
    open: list[Allocation]  # that have not ended
    submitted: list[Allocation]  # in this step
    changed: list[Allocation]

    @property
    def to_come(self) -> int:
        """Count the allocations whose runners have not spoken yet."""
        return sum(is_to_come(item) for item in self.open)


@dataclass(slots=True)
class Follower:
    """Follows a workflow. Steps cost nothing while no look at the cluster is due."""

    torc: Torc
    workflow_id: int
    cluster: Scheduler
    pace: PollPace = field(default_factory=PollPace)
    before_looking: Callable[[], object] | None = None  # takes in what runners have left, before they are given up
    _refused: set[int] = field(default_factory=set)  # firings that cannot be carried out, told once

    def step(self) -> FollowStep:
        """Do what is due. A cluster that cannot answer is asked again later."""
        changed: list[Allocation] = []
        submitted: list[Allocation] = []
        try:
            if self.pace.is_due():
                if self.before_looking is not None:
                    self.before_looking()
                changed = poll(self.torc, self.cluster, [self.workflow_id]).changed
                self.pace.looked(changed=bool(changed))
            submitted = self._carry_out()
            workflow = self.torc.send(GetWorkflow(workflow_id=self.workflow_id))
            if not has_work(workflow) and cancel_useless(self.torc, self.workflow_id, self.cluster):
                self.pace.looked(changed=True)
        except Unavailable as error:
            self.pace.failed(error)
            workflow = self.torc.send(GetWorkflow(workflow_id=self.workflow_id))
        if submitted:
            self.pace.looked(changed=True)
        return FollowStep(workflow, open_allocations(self.torc, self.workflow_id), submitted, changed)

    def _carry_out(self) -> list[Allocation]:
        made: list[Allocation] = []
        for item in due_for(self.torc, self.workflow_id, self.cluster):
            try:
                made += carry_out(self.torc, self.workflow_id, item, self.cluster)
            except Invalid as error:
                if item.firing_id not in self._refused:
                    _log.error("action %d: %s", item.action_id, error.message)
                self._refused.add(item.firing_id)
        return made


def waiting_jobs(torc: Torc, workflow_id: int) -> list[WaitingGroup]:
    """Return the ready jobs, by what they ask for and for whom they are."""
    return [
        WaitingGroup(
            found.scheduler,
            found.num_jobs,
            _as_it_must_fit(found),
        )
        for found in torc.send(ListWaitingJobs(workflow_id=workflow_id))
    ]


def _as_it_must_fit(found: WaitingJobs) -> ResourceRequest:
    request = ResourceRequest.of(found)
    least = least_time_for(request.runtime_seconds, saves_work=found.supports_termination)
    return request._replace(runtime_seconds=least)


def as_submitted(
    asked: AllocationRequest,
    number: int,
    waiting: Sequence[WaitingGroup],
    num_unfinished: int,
    problems: Callable[[AllocationRequest], Sequence[str]],
    default_memory: Callable[[AllocationRequest], int | None],
) -> tuple[AllocationRequest, int, str | None]:
    """Return what is submitted where a scheduler asks for `asked`, how many times, and what was changed about it, in words.

    A dry run shows this, and it is what is submitted. Raises Invalid where jobs need more than the cluster gives (`problems`).
    """
    given = with_default_memory(asked, default_memory)
    request, number = corrected(given, number, waiting, num_unfinished)
    if request == given:
        return asked, number, None
    changed = "; ".join(
        f"{what} {_shown(name, new)} instead of {_shown(name, old)}"
        + (" (the default of the cluster)" if old != getattr(asked, name) else "")
        for name, what in _SIZES
        if (new := getattr(request, name)) != (old := getattr(given, name))
    )
    if request.memory_bytes_per_node == given.memory_bytes_per_node:
        request = replace(request, memory_bytes_per_node=asked.memory_bytes_per_node)
    name = asked.scheduler or asked.name
    if found := problems(request):
        raise Invalid(
            f"no job that is ready fits into an allocation of {SCHEDULER_TYPES[asked.type].noun} {name}, and a larger one "
            f"({changed}) is not available: {'; '.join(found)}",
            hint="ask for less in the jobs' resource requirements, or name another partition",
        )
    return request, number, f"allocations of {name} get {changed}: otherwise no ready job would fit"


def with_default_memory(
    asked: AllocationRequest, default_memory: Callable[[AllocationRequest], int | None]
) -> AllocationRequest:
    """Return an allocation with the memory that it gets: the default of the cluster, where it asks for none."""
    memory = default_memory(asked)
    return asked if memory is None else replace(asked, memory_bytes_per_node=memory)


_SIZES = (
    ("walltime_seconds", "a walltime of"),
    ("num_nodes", "nodes:"),
    ("cpus_per_node", "CPUs of each node:"),
    ("memory_bytes_per_node", "memory of each node:"),
    ("gpus_per_node", "GPUs of each node:"),
)


def _shown(name: str, value: int) -> str:
    if name == "walltime_seconds":
        return human_duration(value)
    return human_bytes(value) if name == "memory_bytes_per_node" else str(value)


def due_for(torc: Torc, workflow_id: int, cluster: Scheduler) -> list[DueScheduling]:
    """Return what is due to be asked of a scheduler."""
    return [
        item for item in torc.send(ListDueScheduling(workflow_id=workflow_id)) if type_of_due(item) == cluster.type.name
    ]


def carry_out(torc: Torc, workflow_id: int, due: DueScheduling, cluster: Scheduler) -> list[Allocation]:
    """Submit what an action asks for; nothing, when somebody else did. Raises Invalid and Unavailable."""
    request = cluster.request_of(
        due.scheduler or "",
        due.fields,
        job_name=due.job_name,
        defaults=due.defaults,
        settings=due.settings,
    )
    workflow = torc.send(GetWorkflow(workflow_id=workflow_id))
    unfinished = sum(workflow.counts[state] for state in _TO_DO)
    waiting = waiting_jobs(torc, workflow_id)
    request, number, changed = as_submitted(
        request, due.num_allocations, waiting, unfinished, cluster.problems, cluster.default_memory
    )
    if changed is not None:
        _log.warning("%s", changed)
    made = submit(torc, workflow_id, [request] * number, cluster, firing_id=due.firing_id)
    if made:
        _log.info("submitted %d x %s: %s", len(made), due.scheduler, told(made))
    return made


def carry_out_due(torc: Torc, workflow_id: int, cluster: Scheduler) -> list[Allocation]:
    """Submit all that is due: for runners in allocations, while nobody follows from outside. Raises Invalid and Unavailable."""
    return [
        made for item in due_for(torc, workflow_id, cluster) for made in carry_out(torc, workflow_id, item, cluster)
    ]


def has_work(workflow: Workflow) -> bool:
    """Return whether jobs are left that may still need a runner."""
    return workflow.ended_at is None and any(workflow.counts[state] for state in _TO_DO)


def cancel_useless(torc: Torc, workflow_id: int, cluster: Scheduler) -> list[Allocation]:
    """Cancel the allocations that still wait in the queue, once. Raises Unavailable."""
    waiting = [
        item
        for item in open_allocations(torc, workflow_id)
        if item.state is not AllocationState.RUNNING and item.cancel_requested_at is None
    ]
    if not waiting:
        return []
    _log.info("no work is left: cancels %s", told(waiting))
    return cancel(torc, workflow_id, cluster, allocation_ids=[item.id for item in waiting], queued_only=True)


def is_to_come(item: Allocation) -> bool:
    """Return whether runners may still come out of an allocation: it waits, or has begun and none has spoken."""
    if item.state is AllocationState.ENDED or item.cancel_requested_at is not None:
        return False
    return item.state is not AllocationState.RUNNING or item.num_runners == 0


def open_allocations(torc: Torc, workflow_id: int) -> list[Allocation]:
    """Return the allocations of a workflow that have not ended."""
    return torc.send(ListAllocations(workflow_id=workflow_id, active_only=True, limit=10_000)).items


def told(items: Sequence[Allocation]) -> str:
    """Name allocations by the cluster's ids."""
    names = [item.cluster_job_id or f"(allocation {item.id}: {item.reason or 'not submitted yet'})" for item in items]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
