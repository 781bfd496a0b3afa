"""Which of the ready jobs a node is given, and in which order jobs are offered.

Greedy in the order of offering: what does not fit is passed over, and smaller jobs behind it may still start. Not for
claiming, which is `torc.store.claims`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from torc.units import human_bytes, human_duration
from torc.workflow.resources import Capacity, Pool, ResourceRequest

SortMethod = Literal["none", "gpus_runtime_memory", "gpus_memory_runtime"]
SortKey = tuple[int, int, int]


class Candidate(NamedTuple):
    """A ready job on offer. The id is whatever the caller knows the job by."""

    id: int
    request: ResourceRequest
    priority: int = 0
    goes_on: bool = False  # it saves its work and goes on elsewhere: its time need not fit

    @property
    def needs(self) -> ResourceRequest:
        """Return what must fit."""
        return self.request.untimed if self.goes_on else self.request


def sort_key(request: ResourceRequest, method: SortMethod) -> SortKey:
    """Return what requests are ordered by within a priority, ascending: the largest first, or all alike for `none`."""
    if method == "gpus_runtime_memory":
        return -request.num_gpus, -request.runtime_seconds, -request.memory_bytes
    if method == "gpus_memory_runtime":
        return -request.num_gpus, -request.memory_bytes, -request.runtime_seconds
    return 0, 0, 0


def offer_key(candidate: Candidate, method: SortMethod = "none") -> tuple[int, SortKey, int]:
    """Return what candidates are offered by, ascending: highest priority, then `sort_key`, then lowest id."""
    return -candidate.priority, sort_key(candidate.request, method), candidate.id


def pack(
    candidates: Iterable[Candidate],
    capacity: Capacity | Pool,
    limit: int,
    *,
    method: SortMethod = "none",
    ignore_resources: bool = False,
    total: Capacity | Pool | None = None,
) -> list[Candidate]:
    """Choose at most `limit` candidates, in any order, that fit into the capacity together.

    With `ignore_resources` (--max-parallel-jobs) only the number counts.
    """
    ordered = sorted(candidates, key=lambda candidate: offer_key(candidate, method))
    return pack_sorted(ordered, capacity, limit, ignore_resources=ignore_resources, total=total)


def pack_sorted(
    candidates: Iterable[Candidate],
    capacity: Capacity | Pool,
    limit: int,
    *,
    ignore_resources: bool = False,
    total: Capacity | Pool | None = None,
) -> list[Candidate]:
    """Choose like `pack` from candidates in order of offering; takes no more of them than it needs to.

    With the `total` of several nodes, the first job of several nodes that does not fit now keeps the nodes that it waits
    for: those behind it get the others.
    """
    chosen: list[Candidate] = []
    too_large: set[ResourceRequest] = set()  # room only shrinks: what does not fit once does not fit later
    if limit <= 0 or (capacity.is_full and not ignore_resources):
        return chosen
    for candidate in candidates:
        request = candidate.needs
        if not ignore_resources:
            if request in too_large:
                continue
            if not capacity.fits(request):
                too_large.add(request)
                left = _reserved(capacity, request, total)
                if left is not capacity:
                    capacity, total = left, None
                continue
            capacity = capacity.take(request)
        chosen.append(candidate)
        if len(chosen) == limit or (capacity.is_full and not ignore_resources):
            break
    return chosen


def may_wait(request: ResourceRequest, total: Capacity | Pool) -> bool:
    """Return whether a job needs several nodes at once and these will do: it would starve behind small ones that pass it."""
    return isinstance(total, Pool) and request.num_nodes > 1 and total.fits(request)


def _reserved(capacity: Capacity | Pool, request: ResourceRequest, total: Capacity | Pool | None) -> Capacity | Pool:
    """Return what is left for others beside a request that does not fit now."""
    if isinstance(capacity, Pool) and isinstance(total, Pool) and may_wait(request, total):
        return capacity.reserved_for(request, total)
    return capacity


def how_many_fit(request: ResourceRequest, capacity: Capacity | Pool) -> int:
    """Return how many jobs with this request can run side by side on a node, or on several; of several nodes each, at most so many."""
    if isinstance(capacity, Pool):
        return sum(how_many_fit(request._replace(num_nodes=1), node) for node in capacity.nodes) // request.num_nodes
    if not capacity.fits(request):
        return 0
    pairs = (
        (capacity.num_cpus, request.num_cpus),
        (capacity.memory_bytes, request.memory_bytes),
        (capacity.num_gpus, request.num_gpus),
    )
    return min(free // asked for free, asked in pairs if asked)


def never_fits(request: ResourceRequest, capacity: Capacity | Pool, *, goes_on: bool = False) -> str | None:
    """Say why a node, or several, with this whole capacity can never start the request; None: it can.

    A job that saves its work and goes on elsewhere (`goes_on`) may begin where it cannot end.
    """
    if goes_on and isinstance(capacity, Capacity) and capacity.lasts_partly_for(request):
        request = request.untimed
    if capacity.fits(request):
        return None
    if isinstance(capacity, Pool):
        if request.num_nodes > len(capacity.nodes):
            return f"needs {request.num_nodes} nodes (there are {len(capacity.nodes)})"
        of_each = request._replace(num_nodes=1)
        return next((why for node in capacity.nodes if (why := never_fits(of_each, node, goes_on=goes_on))), None)
    problems = []
    if request.num_nodes > 1:
        problems.append(f"{request.num_nodes} nodes (this is one)")
    if request.num_cpus > capacity.num_cpus:
        problems.append(f"{request.num_cpus} CPUs (there are {capacity.num_cpus})")
    if request.memory_bytes > capacity.memory_bytes:
        problems.append(
            f"{human_bytes(request.memory_bytes)} of memory (there are {human_bytes(capacity.memory_bytes)})"
        )
    if request.num_gpus > capacity.num_gpus:
        problems.append(f"{request.num_gpus} GPUs (there are {capacity.num_gpus})")
    if capacity.runtime_seconds is not None and request.runtime_seconds > capacity.runtime_seconds:
        asked, left = human_duration(request.runtime_seconds), human_duration(capacity.runtime_seconds)
        problems.append(f"{asked} of time (there are {left})")
    return "needs " + ", ".join(problems)
