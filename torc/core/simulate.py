"""A workflow run in memory: the same table of states, on given nodes, with given runtimes and endings.

For expected makespans and peaks, for what-if questions, and for tests, where a simulated and a stored run must agree.
Event-driven: time jumps from one end of a job to the next. Not for predicting a queue's waiting times.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from torc.core.board import Board
from torc.core.graph import Graph
from torc.core.packing import SortKey, SortMethod, sort_key
from torc.core.resources import Capacity, ResourceRequest
from torc.core.states import Event, State

UNLIMITED = Capacity(num_cpus=1 << 62, memory_bytes=1 << 62, num_gpus=1 << 62)

#: (job, number of the attempt from 1) -> (seconds that it takes, how it ends)
Endings = Callable[[int, int], tuple[float, Event]]


@dataclass(frozen=True, slots=True)
class Workload:
    """All that is known of the jobs of a workflow, by index."""

    graph: Graph
    requests: Sequence[ResourceRequest]  # the requirement classes
    request_of: Sequence[int]  # the class of each job
    priorities: Sequence[int]
    cancels: Sequence[bool]  # cancel_on_blocking_job_failure of each job
    method: SortMethod = "none"

    def request(self, job: int) -> ResourceRequest:
        """Give what the job asks for."""
        return self.requests[self.request_of[job]]


@dataclass(frozen=True, slots=True)
class Use:
    """What runs at one moment, or at most."""

    num_jobs: int = 0
    num_cpus: int = 0
    memory_bytes: int = 0
    num_gpus: int = 0

    def plus(self, request: ResourceRequest, times: int = 1) -> Use:
        """Give the use with one more such job (`times` = 1) or one less (-1)."""
        nodes = times * request.num_nodes
        return Use(
            self.num_jobs + times,
            self.num_cpus + nodes * request.num_cpus,
            self.memory_bytes + nodes * request.memory_bytes,
            self.num_gpus + nodes * request.num_gpus,
        )

    def maximum(self, other: Use) -> Use:
        """Give the larger of each."""
        return Use(
            max(self.num_jobs, other.num_jobs),
            max(self.num_cpus, other.num_cpus),
            max(self.memory_bytes, other.memory_bytes),
            max(self.num_gpus, other.num_gpus),
        )


@dataclass(frozen=True, slots=True)
class Simulation:
    """How a simulated run went. Times are seconds since its start."""

    makespan_seconds: float
    states: Sequence[State]
    starts: Sequence[float]  # of the last attempt of each job; -1 where there was none
    ends: Sequence[float]
    attempts: Sequence[int]
    peak: Use
    unplaced: tuple[int, ...]  # jobs that were ready and for which no node had room to the end


@dataclass(slots=True)
class _Node:
    """A node and what is free on it."""

    free: Capacity
    leaves_at: float = inf
    num_jobs: int = 0

    def has_room(self, request: ResourceRequest, now: float) -> bool:
        if self.leaves_at == inf:
            return self.free.fits(request)
        return replace(self.free, runtime_seconds=self.leaves_at - now).fits(request)


@dataclass(slots=True)
class _Queue:
    """The ready jobs of one requirement class."""

    request: ResourceRequest  # of a single node
    key: SortKey
    jobs: list[tuple[int, int]] = field(default_factory=list)  # a heap of (-priority, job)
    #: Nodes before this one have no room for the class, and will have none until a job ends on one of them.
    first_node: int = 0


class _Run:
    """One simulation under way."""

    def __init__(self, workload: Workload, nodes: Sequence[Capacity], slots: int | None, board: Board) -> None:
        self.workload = workload
        self.board = board
        self.slots = inf if slots is None else slots
        self.ignores_resources = slots is not None
        self.nodes = [
            _Node(replace(node, runtime_seconds=None), inf if node.runtime_seconds is None else node.runtime_seconds)
            for node in nodes
        ]
        self.queues = [
            _Queue(request._replace(num_nodes=1), sort_key(request, workload.method)) for request in workload.requests
        ]
        self.waiting: set[int] = set()  # classes with ready jobs
        self.places: dict[int, list[int]] = {}  # running job -> its nodes
        self.running: list[tuple[float, int, Event]] = []  # a heap of (end, job, how)
        self.use = self.peak = Use()
        self.starts = array("d", [-1.0]) * len(workload.graph)
        self.ends = array("d", [-1.0]) * len(workload.graph)
        self.attempts = array("q", [0]) * len(workload.graph)

    def enqueue(self, job: int) -> None:
        number = self.workload.request_of[job]
        queue = self.queues[number]
        if not queue.jobs:  # nobody kept its first node up to date
            queue.first_node = 0
        heapq.heappush(queue.jobs, (-self.workload.priorities[job], job))
        self.waiting.add(number)

    def start_what_fits(self, now: float, ending: Endings) -> None:
        """Start jobs in the order of offering (`packing.offer_key`), passing over classes that nothing has room for."""
        if len(self.places) >= self.slots:
            return
        heads = [self._head(number) for number in self.waiting if self.queues[number].first_node < len(self.nodes)]
        heapq.heapify(heads)
        while heads and len(self.places) < self.slots:
            number = heads[0][-1]
            place = self._find_place(number, now)
            if place is None:
                heapq.heappop(heads)
                continue
            queue = self.queues[number]
            _, job = heapq.heappop(queue.jobs)
            self._start(job, place, now, ending)
            if queue.jobs:
                heapq.heapreplace(heads, self._head(number))
            else:
                heapq.heappop(heads)
                self.waiting.discard(number)

    def _head(self, number: int) -> tuple[int, SortKey, int, int]:
        queue = self.queues[number]
        priority, job = queue.jobs[0]
        return priority, queue.key, job, number

    def _find_place(self, number: int, now: float) -> list[int] | None:
        if self.ignores_resources:
            return []
        queue, count = self.queues[number], self.workload.requests[number].num_nodes
        place: list[int] = []
        for at in range(queue.first_node, len(self.nodes)):
            if self.nodes[at].has_room(queue.request, now):
                place.append(at)
                if len(place) == count:
                    queue.first_node = place[0]
                    return place
        queue.first_node = place[0] if place else len(self.nodes)
        return None

    def _start(self, job: int, place: list[int], now: float, ending: Endings) -> None:
        self.attempts[job] += 1
        seconds, event = ending(job, self.attempts[job])
        end = now + seconds
        for at in place:
            node = self.nodes[at]
            node.free = node.free.take(self.workload.request(job))
            if end > node.leaves_at:
                end, event = node.leaves_at, Event.INTERRUPTED
        self.places[job] = place
        self.starts[job] = now
        heapq.heappush(self.running, (end, job, event))
        self.use = self.use.plus(self.workload.request(job))
        self.board.apply(Event.CLAIMED, (job,))
        self.board.apply(Event.STARTED, (job,))

    def end_next(self) -> float:
        """End all jobs that end at the next moment, and give that moment."""
        self.peak = self.peak.maximum(self.use)
        now = self.running[0][0]
        freed = len(self.nodes)
        while self.running and self.running[0][0] == now:
            _, job, event = heapq.heappop(self.running)
            request = self.workload.request(job)
            for at in self.places.pop(job):
                self.nodes[at].free = self.nodes[at].free.give_back(request)
                freed = min(freed, at)
            self.use = self.use.plus(request, -1)
            self.ends[job] = now
            for move in self.board.apply(event, (job,)):
                if move.state is State.READY:
                    self.enqueue(move.job)
        for number in self.waiting:
            self.queues[number].first_node = min(self.queues[number].first_node, freed)
        return now


def simulate(
    workload: Workload,
    nodes: Sequence[Capacity] | None = None,
    *,
    ending: Endings | None = None,
    max_parallel_jobs: int | None = None,
    states: Sequence[State] | None = None,
) -> Simulation:
    """Run a workload to its end.

    `nodes` None: everything that is ready runs at once. `ending` None: each job takes the runtime that it asks for, and
    succeeds. With `max_parallel_jobs` resources are ignored. `states` None: from the beginning; jobs that a runner
    holds in given states begin again. A node takes no job that asks for more time than the node has left, and
    interrupts what still runs when it leaves. Never ends when `ending` retries a job for ever.
    """
    if nodes is None:
        nodes = (UNLIMITED,) * max((request.num_nodes for request in workload.requests), default=1)
    if ending is None:
        ending = _as_requested(workload)
    board = Board(workload.graph, workload.cancels, states)
    board.apply(Event.RELEASED, [job for job, state in enumerate(board.states) if state is State.PENDING])
    board.apply(Event.RETRIED, [job for job, state in enumerate(board.states) if state is State.RUNNING])
    run = _Run(workload, nodes, max_parallel_jobs, board)
    for job, state in enumerate(board.states):
        if state is State.READY:
            run.enqueue(job)
    now = 0.0
    run.start_what_fits(now, ending)
    while run.running:
        now = run.end_next()
        run.start_what_fits(now, ending)
    return Simulation(
        makespan_seconds=now,
        states=board.states,
        starts=run.starts,
        ends=run.ends,
        attempts=run.attempts,
        peak=run.peak,
        unplaced=tuple(job for job, state in enumerate(board.states) if state is State.READY),
    )


def _as_requested(workload: Workload) -> Endings:
    def ending(job: int, attempt: int) -> tuple[float, Event]:
        return float(workload.request(job).runtime_seconds), Event.SUCCEEDED

    return ending
