"""Which further allocations jobs that wait need, made from those that were asked for before, as large as the jobs have become. Pure.

`allocation_planning` plans whole workflows; this is for what is left over: retries that need more memory or time, jobs whose
allocation died, and more nodes while work waits (autoscaling).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from torc.planning.reserve import (
    END_SECONDS,
    START_SECONDS,
    memory_for_jobs,
    memory_with_headroom,
    time_for_jobs,
)
from torc.schedulers.request import AllocationRequest
from torc.workflow.packing import how_many_fit
from torc.workflow.resources import Capacity, ResourceRequest

#: of whole nodes nobody knows what they have: so many CPUs are thought to be there
_CPUS_OF_A_NODE = 64
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class WaitingGroup:
    """Ready jobs that ask for the same, and whose runners may take them (None: any)."""

    scheduler: str | None
    num_jobs: int
    request: ResourceRequest


def fits(asked: AllocationRequest, job: ResourceRequest) -> bool:
    """Return whether an allocation can run a job from its start."""
    return (
        job.num_nodes <= asked.num_nodes
        and job.runtime_seconds <= time_for_jobs(asked.walltime_seconds)
        and (not asked.memory_bytes_per_node or job.memory_bytes <= memory_for_jobs(asked.memory_bytes_per_node))
        and (asked.cpus_per_node is None or job.num_cpus <= asked.cpus_per_node)
        and (asked.leaves_gpus or job.num_gpus <= asked.gpus_per_node)
    )


def grown(asked: AllocationRequest, job: ResourceRequest) -> AllocationRequest:
    """Return an allocation like another one that can run a job: larger where it has to be."""
    memory = asked.memory_bytes_per_node
    if memory and job.memory_bytes > memory_for_jobs(memory):
        memory = memory_with_headroom(job.memory_bytes)
    return replace(
        asked,
        num_nodes=max(asked.num_nodes, job.num_nodes),
        walltime_seconds=max(asked.walltime_seconds, job.runtime_seconds + START_SECONDS + END_SECONDS),
        memory_bytes_per_node=memory,
        cpus_per_node=None if asked.cpus_per_node is None else max(asked.cpus_per_node, job.num_cpus),
        gpus_per_node=asked.gpus_per_node if asked.leaves_gpus else max(asked.gpus_per_node, job.num_gpus),
    )


def nodes_for(asked: AllocationRequest, jobs: Sequence[WaitingGroup]) -> int:
    """Count the nodes that run some jobs within the time of such an allocation."""
    node = Capacity(
        asked.cpus_per_node or _CPUS_OF_A_NODE,
        memory_for_jobs(asked.memory_bytes_per_node) if asked.memory_bytes_per_node else _NO_LIMIT,
        max(asked.gpus_per_node, *(group.request.num_gpus for group in jobs)) if jobs else 0,
    )
    needed = 0.0
    for group in jobs:
        at_once = max(1, how_many_fit(group.request._replace(num_nodes=1), node))
        if asked.max_parallel_jobs is not None:
            at_once = min(at_once, asked.max_parallel_jobs)
        rounds = max(1, time_for_jobs(asked.walltime_seconds) // max(1, group.request.runtime_seconds))
        needed += group.num_jobs * group.request.num_nodes / (at_once * rounds)
    return max(1, ceil(needed - 1e-9)) if jobs else 0


def further(
    waiting: Sequence[WaitingGroup], known: Mapping[str | None, AllocationRequest], max_nodes: int
) -> list[AllocationRequest]:
    """Return the allocations that jobs that wait need, at most `max_nodes` nodes; of each kind as many as there is work for.

    `known`: what was asked for before, by scheduler. Jobs that any runner may take go to the smallest that can hold them, or else
    to the one that has to grow least.
    """
    groups: dict[str | None, list[WaitingGroup]] = {}
    for group in sorted(waiting, key=lambda group: group.request, reverse=True):
        for name in _home(group, known):
            groups.setdefault(name, []).append(group)
    made: list[AllocationRequest] = []
    left = max_nodes
    for name, members in groups.items():
        request = known[name]
        for group in members:
            request = grown(request, group.request)
        number = min(ceil(nodes_for(request, members) / request.num_nodes), left // request.num_nodes)
        made += [request] * number
        left -= number * request.num_nodes
    return made


def _home(group: WaitingGroup, known: Mapping[str | None, AllocationRequest]) -> list[str | None]:
    """Return the name of the known request that is for some jobs, or nothing; without a scheduler, the name is None."""
    if group.scheduler is not None:
        return [group.scheduler] if group.scheduler in known else []

    def cost(name: str | None) -> tuple[bool, float, int, int]:
        asked = known[name]
        larger = grown(asked, group.request)
        return (
            not fits(asked, group.request),
            larger.num_nodes * larger.walltime_seconds,
            larger.gpus_per_node,
            len(name or ""),
        )

    return sorted(known, key=cost)[:1]


def corrected(
    asked: AllocationRequest, number: int, waiting: Sequence[WaitingGroup], num_unfinished: int
) -> tuple[AllocationRequest, int]:
    """Return an allocation of an action, and how many, as they are of use: retries may need more than the action asks for, and be few.

    What can hold some of the jobs that wait stays as it is.
    """
    own = [group for group in waiting if group.scheduler in {None, asked.scheduler}]
    number = max(1, min(number, num_unfinished))
    if not own or any(fits(asked, group.request) for group in own):
        return asked, number
    for group in own:
        asked = grown(asked, group.request)
    return asked, max(1, min(number, ceil(nodes_for(asked, own) / asked.num_nodes)))


def nodes_to_add(num_ready: int, nodes_to_come: int, nodes_open: int, max_nodes: int, backlog: int) -> int:
    """Return how many nodes are added: one for each `backlog` ready jobs that no node to come will take, within the limit."""
    uncovered = num_ready - backlog * nodes_to_come
    wanted = ceil(uncovered / backlog) if uncovered > 0 else 0
    return max(0, min(wanted, max_nodes - nodes_open))
