"""A simulated run of a workflow: the same state table, on given nodes, with given runtimes and outcomes.

For expected makespans and peaks, what-if questions, and tests that compare a simulated with a stored run. Event-driven: time
jumps from one job end to the next. Queue waiting times are not predicted.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from torc.workflow.graph import JobGraph
from torc.workflow.packing import SortKey, SortMethod, sort_key
from torc.workflow.progress import Progress
from torc.workflow.resources import Capacity, ResourceRequest
from torc.workflow.states import JobEvent, State

#: After this many requests that fit nowhere, check whether anything can fit.
_LOOK_ROUND = 32

UNLIMITED = Capacity(num_cpus=1 << 62, memory_bytes=1 << 62, num_gpus=1 << 62)

#: (job, attempt number from 1) -> (runtime in seconds, outcome)
Endings = Callable[[int, int], tuple[float, JobEvent]]


@dataclass(frozen=True, slots=True)
class Workload:
    """The jobs of a workflow, by index."""

    graph: JobGraph
    requests: Sequence[ResourceRequest]  # the requirement classes
    request_of: Sequence[int]  # the class of each job
    priorities: Sequence[int]
    cancels: Sequence[bool]  # cancel_on_blocking_job_failure of each job
    method: SortMethod = "none"

    def request(self, job: int) -> ResourceRequest:
        return self.requests[self.request_of[job]]


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """What is running at one moment, or at the peak."""

    num_jobs: int = 0
    num_cpus: int = 0
    memory_bytes: int = 0
    num_gpus: int = 0

    def plus(self, request: ResourceRequest, times: int = 1) -> ResourceUse:
        """Return the use with one more such job (`times` = 1) or one fewer (-1)."""
        nodes = times * request.num_nodes
        return ResourceUse(
            self.num_jobs + times,
            self.num_cpus + nodes * request.num_cpus,
            self.memory_bytes + nodes * request.memory_bytes,
            self.num_gpus + nodes * request.num_gpus,
        )

    def maximum(self, other: ResourceUse) -> ResourceUse:
        """Return the larger value of each."""
        return ResourceUse(
            max(self.num_jobs, other.num_jobs),
            max(self.num_cpus, other.num_cpus),
            max(self.memory_bytes, other.memory_bytes),
            max(self.num_gpus, other.num_gpus),
        )


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result of a simulated run. Times are in seconds since its start."""

    makespan_seconds: float
    states: Sequence[State]
    starts: Sequence[float]  # of each job's last attempt; -1 if it never started
    ends: Sequence[float]
    attempts: Sequence[int]
    peak: ResourceUse
    unplaced: tuple[int, ...]  # jobs that stayed ready because no node ever had room


@dataclass(slots=True)
class _SimulatedNode:
    """A node and its free capacity."""

    free: Capacity
    leaves_at: float = inf
    num_jobs: int = 0

    def has_room(self, request: ResourceRequest, now: float) -> bool:
        if self.leaves_at == inf:
            return self.free.fits(request)
        return replace(self.free, runtime_seconds=self.leaves_at - now).fits(request)


@dataclass(slots=True)
class _Queue:
    """The ready jobs that need the same resources."""

    request: ResourceRequest  # on each of the nodes
    num_nodes: int
    jobs: list[tuple[int, SortKey, int]] = field(default_factory=list)  # a heap of (-priority, key, job)
    #: Nodes before this one had no room for such jobs after the first `seen` entries of `frees`.
    first_node: int = 0
    seen: int = 0


class _Run:
    """A simulation in progress."""

    def __init__(self, workload: Workload, nodes: Sequence[Capacity], slots: int | None, board: Progress) -> None:
        self.workload = workload
        self.board = board
        self.slots = inf if slots is None else slots
        self.ignores_resources = slots is not None
        self.nodes = [
            _SimulatedNode(
                replace(node, runtime_seconds=None), inf if node.runtime_seconds is None else node.runtime_seconds
            )
            for node in nodes
        ]
        self.keys = [sort_key(request, workload.method) for request in workload.requests]
        self.queues: list[_Queue] = []
        self.queue_of = self._make_queues()  # the queue of each class
        #: heap of (-priority, key, job, queue) for the first job of each queue; entries that are no longer first are stale
        self.heads: list[tuple[int, SortKey, int, int]] = []
        #: heaps of (amount, queue) for all queues with jobs, including stale entries: CPUs, memory, GPUs
        self.smallest: tuple[list[tuple[int, int]], ...] = ([], [], [])
        self.frees: list[int] = []  # for each moment, the first node on which a job ended
        self.places: dict[int, list[int]] = {}  # running job -> its nodes
        self.running: list[tuple[float, int, JobEvent]] = []  # heap of (end, job, outcome)
        self.use = self.peak = ResourceUse()
        self.starts = array("d", [-1.0]) * len(workload.graph)
        self.ends = array("d", [-1.0]) * len(workload.graph)
        self.attempts = array("q", [0]) * len(workload.graph)

    def _make_queues(self) -> list[int]:
        """Create a queue for each distinct request. Runtime counts only if some node has limited time."""
        times_count = any(node.leaves_at < inf for node in self.nodes)
        numbers: dict[ResourceRequest, int] = {}
        queue_of = []
        for request in self.workload.requests:
            room = request if times_count else request.untimed
            if room not in numbers:
                numbers[room] = len(self.queues)
                self.queues.append(_Queue(room._replace(num_nodes=1), room.num_nodes))
            queue_of.append(numbers[room])
        return queue_of

    def enqueue(self, job: int) -> None:
        request = self.workload.request_of[job]
        number = self.queue_of[request]
        queue = self.queues[number]
        if not queue.jobs:
            for heap, amount in zip(self.smallest, _amounts(queue.request), strict=True):
                heapq.heappush(heap, (amount, number))
        heapq.heappush(queue.jobs, (-self.workload.priorities[job], self.keys[request], job))
        if queue.jobs[0][-1] == job:
            self._push_head(number)

    def _push_head(self, number: int) -> None:
        heapq.heappush(self.heads, (*self.queues[number].jobs[0], number))

    def start_what_fits(self, now: float, endings: Endings) -> None:
        """Start jobs in offering order (`packing.offer_key`), passing over those that fit nowhere."""
        passed_over: list[tuple[int, SortKey, int, int]] = []
        while self.heads and len(self.places) < self.slots:
            head = heapq.heappop(self.heads)
            *_, job, number = head
            queue = self.queues[number]
            if not queue.jobs or queue.jobs[0][-1] != job:
                continue
            place = self._find_place(number, now)
            if place is not None:
                heapq.heappop(queue.jobs)
                self._start(job, place, now, endings)
                if queue.jobs:
                    self._push_head(number)
                continue
            passed_over.append(head)
            if len(passed_over) % _LOOK_ROUND == 0 and not self._may_have_room(now):
                break
        for head in passed_over:
            heapq.heappush(self.heads, head)

    def _may_have_room(self, now: float) -> bool:
        """Return whether some node could take a job that requests the minimum of each resource over all ready jobs."""
        least = []
        for heap in self.smallest:
            while heap and not self.queues[heap[0][1]].jobs:
                heapq.heappop(heap)
            least.append(heap[0][0] if heap else 0)
        request = ResourceRequest(num_cpus=least[0], memory_bytes=least[1], num_gpus=least[2], runtime_seconds=0)
        return any(node.has_room(request, now) for node in self.nodes)

    def _find_place(self, number: int, now: float) -> list[int] | None:
        if self.ignores_resources:
            return []
        queue = self.queues[number]
        if queue.seen < len(self.frees):
            queue.first_node = min(queue.first_node, *self.frees[queue.seen :])
            queue.seen = len(self.frees)
        place: list[int] = []
        for at in range(queue.first_node, len(self.nodes)):
            if self.nodes[at].has_room(queue.request, now):
                place.append(at)
                if len(place) == queue.num_nodes:
                    queue.first_node = place[0]
                    return place
        queue.first_node = place[0] if place else len(self.nodes)
        return None

    def _start(self, job: int, place: list[int], now: float, endings: Endings) -> None:
        self.attempts[job] += 1
        seconds, event = endings(job, self.attempts[job])
        end = now + seconds
        for at in place:
            node = self.nodes[at]
            node.free = node.free.take(self.workload.request(job))
            if end > node.leaves_at:
                end, event = node.leaves_at, JobEvent.INTERRUPTED
        self.places[job] = place
        self.starts[job] = now
        heapq.heappush(self.running, (end, job, event))
        self.use = self.use.plus(self.workload.request(job))
        self.board.apply(JobEvent.CLAIMED, (job,))
        self.board.apply(JobEvent.STARTED, (job,))

    def end_next(self) -> float:
        """End all jobs that end at the next moment, and return that time."""
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
        self.frees.append(freed)
        return now


def _amounts(request: ResourceRequest) -> tuple[int, int, int]:
    return request.num_cpus, request.memory_bytes, request.num_gpus


def simulate(
    workload: Workload,
    nodes: Sequence[Capacity] | None = None,
    *,
    ending: Endings | None = None,
    max_parallel_jobs: int | None = None,
    states: Sequence[State] | None = None,
) -> Simulation:
    """Simulate a workload to its end.

    `nodes` None: everything that is ready runs at once. `ending` None: each job takes its requested runtime and succeeds.
    With `max_parallel_jobs`, resources are ignored. `states` None: from the beginning; jobs that a runner holds in the given
    states start again. A node takes no job that requests more time than the node has left, and interrupts running jobs when its
    time ends. Never returns if `ending` retries a job forever.
    """
    if nodes is None:
        nodes = (UNLIMITED,) * max((request.num_nodes for request in workload.requests), default=1)
    if ending is None:
        ending = _as_requested(workload)
    board = Progress(workload.graph, workload.cancels, states)
    board.apply(JobEvent.RELEASED, [job for job, state in enumerate(board.states) if state is State.PENDING])
    board.apply(JobEvent.RETRIED, [job for job, state in enumerate(board.states) if state is State.RUNNING])
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
    def ending(job: int, attempt: int) -> tuple[float, JobEvent]:
        return float(workload.request(job).runtime_seconds), JobEvent.SUCCEEDED

    return ending
