"""Asks for allocations: recorded in the store, then submitted, then reported, so that a kill between two of these loses nothing.

What was recorded and not reported is found by its mark (`polling`), or submitted again when the cluster surely knows nothing of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from torc.api.allocations import (
    Allocation,
    CancelAllocations,
    ListFailedNodes,
    NewAllocation,
    RecordAllocations,
    ReportSubmissions,
    Submission,
)
from torc.api.base import Torc
from torc.errors import Invalid, Unavailable
from torc.planning.allocations import DEFERRED, AllocationState, again_after_seconds
from torc.schedulers.base import Scheduler, Submitted
from torc.schedulers.registry import type_of
from torc.schedulers.request import AllocationRequest

_log = logging.getLogger(__name__)
#: what was recorded so long ago and is nowhere to be found was never submitted: no submission takes so long
SURELY_NOT_SECONDS = 180.0


def submit(
    torc: Torc,
    workflow_id: int,
    requests: Sequence[AllocationRequest],
    cluster: Scheduler,
    *,
    firing_id: int | None = None,
) -> list[Allocation]:
    """Ask the cluster for allocations, and give them as they are recorded; those of a firing only once.

    Those that the cluster refused have ended, with its words as the reason; those that it would not have now are put off, with its
    words, too. Raises Unavailable when the cluster could not be asked. What was put off or not asked is submitted by whoever follows.
    """
    avoided = [found.node for found in torc.send(ListFailedNodes(workflow_id=workflow_id)) if found.is_excluded]
    asked = [replace(request, exclude=tuple(dict.fromkeys([*request.exclude, *avoided]))) for request in requests]
    for at, request in enumerate(asked):  # what cannot be written is refused before anything is recorded
        cluster.render(request, f"mark{at}", 0)
    recorded = torc.send(
        RecordAllocations(
            workflow_id=workflow_id, allocations=[new_allocation(request) for request in asked], firing_id=firing_id
        )
    )
    return submit_recorded(torc, recorded, cluster)


def submit_recorded(
    torc: Torc, recorded: Iterable[Allocation], cluster: Scheduler, *, age: float = 0.0
) -> list[Allocation]:
    """Submit what is recorded and not submitted, at least `age` seconds ago. Raises Unavailable.

    When one is put off, so are those after it that ask for the same place and account: they would be, too.
    """
    made: list[Allocation] = []
    full: dict[tuple[str | None, ...], str] = {}
    for item in recorded:
        if item.state is not AllocationState.SUBMITTING or item.cluster_job_id is not None:
            made.append(item)
        elif time.time() - item.created_at >= age:
            place = (item.account, item.partition, item.qos)
            made.append(_submit(torc, item, cluster, full.get(place)))
            if made[-1].cluster_state == DEFERRED and made[-1].reason:
                full[place] = made[-1].reason
    return made


def due_again(items: Iterable[Allocation], now: float, *, at_once: bool = False) -> list[Allocation]:
    """Return the allocations that the cluster has put off and that it may be asked for again; `at_once`: room may have been made."""
    return [
        item
        for item in items
        if item.cluster_state == DEFERRED
        and item.state is AllocationState.SUBMITTING
        and item.cancel_requested_at is None
        if at_once or now - (item.seen_at or 0.0) >= again_after_seconds(item.created_at, item.seen_at or 0.0)
    ]


def _submit(torc: Torc, item: Allocation, cluster: Scheduler, full: str | None = None) -> Allocation:
    request = request_of(item, cluster)
    if full is not None:
        return _report(torc, item, Submission(allocation_id=item.id, deferred=full))
    try:
        done = _ask_for(item, request, cluster)
    except Unavailable as error:
        if error.details.get("uncertain") is False:  # it was surely not heard, and lists are to say why it is not there
            _report(torc, item, Submission(allocation_id=item.id, deferred=error.message))
        raise
    except Invalid as error:
        words = str(error.details.get("words") or error.message)
        if cluster.refusal_of(words).is_passing:
            told = Submission(allocation_id=item.id, deferred=words)
        else:
            told = Submission(allocation_id=item.id, error=words)
    else:
        told = Submission(allocation_id=item.id, cluster_job_id=done.cluster_job_id, cluster=done.cluster)
    reported = _report(torc, item, told)
    own = told.cluster_job_id
    if own is not None and (reported.cancel_requested_at is not None or reported.cluster_job_id != own):
        cluster.cancel([own])  # it is not wanted any more, or somebody else has submitted it meanwhile
    return reported


def _report(torc: Torc, item: Allocation, told: Submission) -> Allocation:
    return torc.send(ReportSubmissions(workflow_id=item.workflow_id, submissions=[told]))[0]


def _ask_for(item: Allocation, request: AllocationRequest, cluster: Scheduler) -> Submitted:
    """Submit an allocation; where too few nodes are left without those that failed, with them. Raises Invalid and Unavailable."""
    try:
        return cluster.submit(cluster.render(request, item.mark, item.id))
    except Invalid as refused:
        if not request.exclude or cluster.refusal_of(str(refused.details.get("words") or "")).is_passing:
            raise
        try:
            done = cluster.submit(cluster.render(replace(request, exclude=()), item.mark, item.id))
        except Invalid:
            raise refused from None
    _log.warning(
        "without nodes that failed (%s) the cluster has none for allocation %d: it may get them",
        ", ".join(request.exclude),
        item.id,
    )
    return done


def cancel(
    torc: Torc,
    workflow_id: int,
    cluster: Scheduler,
    *,
    allocation_ids: Collection[int] | None = None,
    queued_only: bool = False,
) -> list[Allocation]:
    """Cancel allocations that have not ended; marked first, so that a kill in between is made good by whoever follows."""
    ids = None if allocation_ids is None else list(allocation_ids)
    marked = torc.send(CancelAllocations(workflow_id=workflow_id, allocation_ids=ids, queued_only=queued_only))
    known = [item.cluster_job_id for item in marked if item.cluster_job_id and type_of(item) == cluster.type.name]
    if known:
        cluster.cancel(known)
    return marked


def new_allocation(request: AllocationRequest) -> NewAllocation:
    """Return what is recorded of a request."""
    return NewAllocation(
        name=request.name[:200],
        scheduler=request.scheduler,
        num_nodes=request.num_nodes,
        walltime_seconds=request.walltime_seconds,
        partition=request.partition,
        account=request.account,
        qos=request.qos,
        cpus_per_node=request.cpus_per_node,
        memory_bytes_per_node=request.memory_bytes_per_node,
        gpus_per_node=request.gpus_per_node,
        request=request.record(),
    )


def request_of(item: NewAllocation, cluster: Scheduler) -> AllocationRequest:
    """Return the request that was recorded."""
    return cluster.recorded({**item.request, "name": item.name, "walltime_seconds": item.walltime_seconds})
