"""Which ready jobs a node gets, and in which order jobs are offered.

Greedy in offering order: jobs are taken by priority, then by size (according to the sort method), then by id. A job that does
not fit is passed over, and smaller jobs after it may still start, so that a node never idles for the sake of order. The exception
is a multi-node job that a pool of nodes could hold: small jobs would starve it, so it reserves the nodes that will be free first,
and jobs after it get the others. Claiming in the database is done by `torc.store.claims`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from torc.units import human_bytes, human_duration
from torc.workflow.resources import Capacity, Pool, ResourceRequest

SortMethod = Literal["none", "gpus_runtime_memory", "gpus_memory_runtime"]
SortKey = tuple[int, int, int]


class Candidate(NamedTuple):
    """A ready job on offer. `id` is the caller's identifier."""

    id: int
    request: ResourceRequest
    priority: int = 0
    goes_on: bool = False  # it saves its work and can resume elsewhere, so its runtime need not fit

    @property
    def needs(self) -> ResourceRequest:
        return self.request.untimed if self.goes_on else self.request


def sort_key(request: ResourceRequest, method: SortMethod) -> SortKey:
    """Return the sort key of a request within a priority, ascending: largest first, or equal for all with `none`."""
    if method == "gpus_runtime_memory":
        return -request.num_gpus, -request.runtime_seconds, -request.memory_bytes
    if method == "gpus_memory_runtime":
        return -request.num_gpus, -request.memory_bytes, -request.runtime_seconds
    return 0, 0, 0


def offer_key(candidate: Candidate, method: SortMethod = "none") -> tuple[int, SortKey, int]:
    """Return the sort key of a candidate, ascending: highest priority, then `sort_key`, then lowest id."""
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
    """Choose at most `limit` candidates, given in any order, that fit into the capacity together.

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
    """Choose like `pack`, from candidates in offering order; consumes no more of them than necessary.

    With the `total` of a pool, the first multi-node job that does not fit now reserves the nodes that it waits for: jobs after it
    get the others.
    """
    chosen: list[Candidate] = []
    too_large: set[ResourceRequest] = set()  # capacity only shrinks: what does not fit once never fits later
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
    """Return whether a job needs several nodes at once and the pool has enough: small jobs that pass it would starve it."""
    return isinstance(total, Pool) and request.num_nodes > 1 and total.fits(request)


def _reserved(capacity: Capacity | Pool, request: ResourceRequest, total: Capacity | Pool | None) -> Capacity | Pool:
    """Return what remains for other jobs next to a request that does not fit now."""
    if isinstance(capacity, Pool) and isinstance(total, Pool) and may_wait(request, total):
        return capacity.reserved_for(request, total)
    return capacity


def how_many_fit(request: ResourceRequest, capacity: Capacity | Pool) -> int:
    """Return how many jobs with this request can run concurrently on a node or pool; an upper bound for multi-node jobs."""
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
    """Return why a node or pool with this whole capacity can never start the request; None if it can.

    A job that saves its work and resumes elsewhere (`goes_on`) may start where it cannot finish.
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
