"""How many nodes jobs need, and for how long: nodes are packed over time, with jobs in sequence and side by side.

A node is filled with lanes: a lane has room for one job of a class and runs jobs one after another. Equal nodes are counted, not
listed, so the cost grows with the number of classes, not of jobs. Deterministic. What may start right now is decided by
`torc.workflow.packing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torc.workflow.packing import how_many_fit
from torc.workflow.resources import Capacity, ResourceRequest

Counts = Mapping[int, int]  # class -> jobs


@dataclass(frozen=True, slots=True)
class NodeLanes:
    """Equal lanes of a node: each runs the same jobs one after another."""

    room: ResourceRequest
    times: int
    jobs: tuple[tuple[int, int], ...]  # (class, jobs of it in each lane)
    seconds: int


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """The work of one node."""

    lanes: tuple[NodeLanes, ...]

    @property
    def seconds(self) -> int:
        """The time until the last lane ends."""
        return max(lane.seconds for lane in self.lanes)

    def counts(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for lane in self.lanes:
            for number, jobs in lane.jobs:
                found[number] = found.get(number, 0) + jobs * lane.times
        return found

    def peak(self) -> Capacity:
        """Return what is in use when all lanes are busy."""
        return Capacity(
            sum(lane.room.num_cpus * lane.times for lane in self.lanes),
            sum(lane.room.memory_bytes * lane.times for lane in self.lanes),
            sum(lane.room.num_gpus * lane.times for lane in self.lanes),
        )


@dataclass(frozen=True, slots=True)
class Packing:
    """The nodes, grouped by equal work: (load, number of nodes)."""

    loads: tuple[tuple[NodeLoad, int], ...]

    @property
    def num_nodes(self) -> int:
        return sum(times for _, times in self.loads)

    @property
    def seconds(self) -> int:
        """The time until the last node ends."""
        return max((load.seconds for load, _ in self.loads), default=0)

    def peak(self) -> Capacity:
        """Return the maximum of each resource over the nodes."""
        peaks = [load.peak() for load, _ in self.loads]
        return Capacity(
            max(peak.num_cpus for peak in peaks),
            max(peak.memory_bytes for peak in peaks),
            max(peak.num_gpus for peak in peaks),
        )


def pack_nodes(requests: Sequence[ResourceRequest], counts: Counts, node: Capacity, seconds: int) -> Packing:
    """Pack jobs onto equal nodes that are available for some time. Each class must fit a node and the time.

    `num_nodes` of requests is ignored: for multi-node jobs, one of their nodes is packed, and all are alike.
    """
    order = _largest_first(requests, counts, node)
    left = {number: counts[number] for number in order}
    loads: list[tuple[NodeLoad, int]] = []
    while left:
        load = _fill(requests, order, left, node, seconds)
        used = load.counts()
        times = min(left[number] // jobs for number, jobs in used.items())
        loads.append((load, times))
        for number, jobs in used.items():
            left[number] -= jobs * times
            if not left[number]:
                del left[number]
    return Packing(tuple(loads))


def shortest(
    requests: Sequence[ResourceRequest], counts: Counts, node: Capacity, most_nodes: int, between: tuple[int, int]
) -> Packing:
    """Pack jobs onto at most `most_nodes` nodes in the shortest time found; if even the longest does not suffice, in that."""
    low, high = between
    best = pack_nodes(requests, counts, node, high)
    if best.num_nodes > most_nodes:
        return best
    high = best.seconds
    while low < high:
        middle = (low + high) // 2
        tried = pack_nodes(requests, counts, node, middle)
        if tried.num_nodes <= most_nodes:
            best, high = tried, min(middle, tried.seconds)
        else:
            low = middle + 1
    return best


def _largest_first(requests: Sequence[ResourceRequest], counts: Counts, node: Capacity) -> list[int]:
    """Order classes by the share of a node that they take, then by time, so that small jobs fill the gaps left by large ones."""

    def share(number: int) -> tuple[float, int, int]:
        request = requests[number]
        dominant = max(
            request.num_cpus / node.num_cpus,
            request.memory_bytes / node.memory_bytes,
            request.num_gpus / node.num_gpus if node.num_gpus else 0.0,
        )
        return -dominant, -request.runtime_seconds, number

    return sorted((number for number, jobs in counts.items() if jobs > 0), key=share)


def _fill(
    requests: Sequence[ResourceRequest], order: Sequence[int], left: Counts, node: Capacity, seconds: int
) -> NodeLoad:
    """Fill one node with remaining jobs."""
    remaining, free, lanes = dict(left), node, list[NodeLanes]()
    for number in order:
        request = requests[number]._replace(num_nodes=1)
        while remaining.get(number):
            room = how_many_fit(request.untimed, free)
            if not room:
                break
            lane = _lanes(requests, order, remaining, number, min(room, remaining[number]), seconds)
            lanes.append(lane)
            for used, jobs in lane.jobs:
                remaining[used] -= jobs * lane.times
            free = _take(free, request, lane.times)
    return NodeLoad(tuple(lanes))


def _lanes(
    requests: Sequence[ResourceRequest],
    order: Sequence[int],
    remaining: Counts,
    number: int,
    most: int,
    seconds: int,
) -> NodeLanes:
    """Open as many equal lanes for a class as there is room and work for, and fill up their time with classes that fit in."""
    request = requests[number]
    runtime = max(1, request.runtime_seconds)
    each = min(max(1, seconds // runtime), remaining[number])
    times = min(most, remaining[number] // each)
    jobs, used = [(number, each)], each * runtime
    for other in order[order.index(number) + 1 :]:
        smaller = requests[other]
        fits = (
            smaller.num_cpus <= request.num_cpus
            and smaller.memory_bytes <= request.memory_bytes
            and smaller.num_gpus <= request.num_gpus
        )
        further = (
            min(remaining.get(other, 0) // times, (seconds - used) // max(1, smaller.runtime_seconds)) if fits else 0
        )
        if further > 0:
            jobs.append((other, further))
            used += further * max(1, smaller.runtime_seconds)
    return NodeLanes(request, times, tuple(jobs), used)


def _take(free: Capacity, request: ResourceRequest, times: int) -> Capacity:
    return Capacity(
        free.num_cpus - times * request.num_cpus,
        free.memory_bytes - times * request.memory_bytes,
        free.num_gpus - times * request.num_gpus,
    )
