"""Asks for more while work waits: for the whole of a run (`Autoscaler`), or for retries that nobody there can take (`StrandedJobs`).

What was asked for is in the store, so a scaler may be ended and begun again at any time, and two do not ask twice for long: each
looks at what is open before it asks. Not for the first plan of a workflow (`workflow_plans`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torc.api.allocations import Allocation, ListAllocations
from torc.api.base import Torc
from torc.api.runs import StartRun
from torc.api.workflows import GetWorkflow, Workflow
from torc.errors import NotFound, Unavailable
from torc.schedulers.base import Scheduler
from torc.schedulers.follow import (
    Follower,
    FollowStep,
    has_work,
    is_to_come,
    told,
    waiting_jobs,
    with_default_memory,
)
from torc.schedulers.registry import type_of
from torc.schedulers.request import AllocationRequest
from torc.schedulers.resubmission import WaitingGroup, fits, further, nodes_to_add
from torc.schedulers.submission import request_of, submit
from torc.schedulers.workflow_plans import described
from torc.workflow.resources import ResourceRequest

_log = logging.getLogger(__name__)
DEFAULT_THRESHOLD, DEFAULT_COOLDOWN, DEFAULT_STRANDED = 5, 1800.0, 7200.0
_ALL = 1 << 30


def known_requests(
    torc: Torc, workflow_id: int, cluster: Scheduler, only: str | None = None
) -> dict[str | None, AllocationRequest]:
    """Return what can be asked for: the workflow's schedulers, and of those without one what was asked for last."""
    workflow = torc.send(GetWorkflow(workflow_id=workflow_id))
    defaults = workflow.settings.get(cluster.type.defaults_field) or {}
    found: dict[str | None, AllocationRequest] = {}
    last = torc.send(ListAllocations(workflow_id=workflow_id, limit=1000)).items
    for item in reversed([item for item in last if type_of(item) == cluster.type.name]):
        found[item.scheduler] = replace(request_of(item, cluster), exclude=())
    for scheduler in described(torc, workflow_id, cluster):
        before = found.get(scheduler.name)
        settings = (
            {}
            if before is None
            else {
                "start_one_worker_per_node": before.start_one_worker_per_node,
                "max_parallel_jobs": before.max_parallel_jobs,
            }
        )
        found[scheduler.name] = cluster.request_of(
            scheduler.name,
            scheduler.fields,
            job_name=f"{workflow.name}-{scheduler.name}",
            defaults=defaults,
            settings=settings,
        )
    if only is not None:
        if only not in found:
            raise NotFound(
                f"workflow {workflow_id} has no {cluster.type.noun} `{only}`", hint=f"torc {cluster.type.commands} list"
            )
        return {only: found[only]}
    return found


def ask_again(
    torc: Torc,
    workflow_id: int,
    cluster: Scheduler,
    *,
    max_nodes: int = _ALL,
    only: str | None = None,
) -> list[Allocation]:
    """Submit what the ready jobs need, of at most so many nodes. Raises Unavailable."""
    waiting = waiting_jobs(torc, workflow_id)
    known = {
        name: with_default_memory(request, cluster.default_memory)
        for name, request in known_requests(torc, workflow_id, cluster, only).items()
    }
    requests = further(waiting, known, max_nodes)
    if not requests:
        return []
    made = submit(torc, workflow_id, requests, cluster)
    _log.info("%d jobs wait: submitted %s", sum(group.num_jobs for group in waiting), told(made))
    return made


def most_nodes_before(torc: Torc, workflow_id: int) -> int:
    """Return the nodes that the workflow has asked for in its largest run, at least one: nobody wants more for what is left."""
    runs: dict[int, int] = {}
    for item in torc.send(ListAllocations(workflow_id=workflow_id, limit=10_000)).items:
        runs[item.run_id] = runs.get(item.run_id, 0) + item.num_nodes
    return max(runs.values(), default=1)


@dataclass(slots=True)
class Autoscaler:
    """Keeps asking for nodes while there is ready work that waits."""

    torc: Torc
    workflow_id: int
    cluster: Scheduler
    max_nodes: int
    backlog: int
    scheduler: str | None = None
    follower: Follower = field(init=False)

    def __post_init__(self) -> None:
        self.follower = Follower(self.torc, self.workflow_id, self.cluster)

    def step(self) -> tuple[FollowStep, list[Allocation]]:
        """Look, and ask for what is wanting. Returns what was submitted, too."""
        self.torc.send(StartRun(workflow_id=self.workflow_id))
        followed = self.follower.step()
        if not has_work(followed.workflow):
            return followed, followed.submitted
        waiting = waiting_jobs(self.torc, self.workflow_id)
        to_come = sum(item.num_nodes for item in followed.open if is_to_come(item))
        number = nodes_to_add(
            sum(group.num_jobs for group in waiting),
            to_come,
            sum(item.num_nodes for item in followed.open),
            self.max_nodes,
            self.backlog,
        )
        made: list[Allocation] = []
        if number:
            try:
                made = ask_again(self.torc, self.workflow_id, self.cluster, max_nodes=number, only=self.scheduler)
            except Unavailable as error:
                self.follower.pace.failed(error)
        return followed, [*followed.submitted, *made]

    def run(
        self, say: Callable[[Workflow, Sequence[Allocation], Sequence[Allocation]], None], seconds: float
    ) -> Workflow:
        """Scale until no work is left."""
        while True:
            followed, made = self.step()
            say(followed.workflow, followed.open, made)
            if not has_work(followed.workflow) and not any(is_to_come(item) for item in followed.open):
                return followed.workflow
            time.sleep(min(seconds, max(1.0, self.follower.pace.wait())))


@dataclass(slots=True)
class StrandedJobs:
    """Adds allocations for ready jobs that nothing open can take: many, or some for long; then rests for a while."""

    torc: Torc
    workflow_id: int
    cluster: Scheduler
    threshold: int = DEFAULT_THRESHOLD
    cooldown: float = DEFAULT_COOLDOWN
    patience: float = DEFAULT_STRANDED
    clock: Callable[[], float] = time.monotonic
    _since: float | None = None
    _asked_at: float | None = None
    _defaults: dict[AllocationRequest, int] = field(default_factory=dict)

    def step(self, open_: Sequence[Allocation]) -> list[Allocation]:
        """Look at what waits, and ask for what it needs. Raises Unavailable."""
        now = self.clock()
        waiting = waiting_jobs(self.torc, self.workflow_id)
        stranded = stranded_of(waiting, open_, self.cluster, self._default_memory)
        number = sum(group.num_jobs for group in stranded)
        if not number:
            self._since = None
            return []
        self._since = now if self._since is None else self._since
        rests = self._asked_at is not None and now - self._asked_at < self.cooldown
        if rests or (number < self.threshold and now - self._since < self.patience):
            return []
        known: Mapping[str | None, AllocationRequest] = {
            name: with_default_memory(request, self.cluster.default_memory)
            for name, request in known_requests(self.torc, self.workflow_id, self.cluster).items()
        }
        requests = further(stranded, known, most_nodes_before(self.torc, self.workflow_id))
        if not requests:
            return []
        made = submit(self.torc, self.workflow_id, requests, self.cluster)
        _log.info("%d jobs are stranded: submitted %s", number, told(made))
        self._asked_at, self._since = now, None
        return made

    def _default_memory(self, request: AllocationRequest) -> int | None:
        """Ask the cluster once for each kind of request: this is looked at every few seconds."""
        found = self._defaults.get(request) or self.cluster.default_memory(request)
        if found is not None:
            self._defaults[request] = found
        return found


def stranded_of(
    waiting: Sequence[WaitingGroup],
    open_: Sequence[Allocation],
    cluster: Scheduler,
    default_memory: Callable[[AllocationRequest], int | None],
) -> list[WaitingGroup]:
    """Return the ready jobs that no open allocation can take: too large, or for others."""
    asked = [
        (item.scheduler, request_of(item, cluster))
        for item in open_
        if item.cancel_requested_at is None and type_of(item) == cluster.type.name
    ]

    def holds(request: AllocationRequest, job: ResourceRequest) -> bool:
        return fits(request, job) and fits(with_default_memory(request, default_memory), job)

    return [
        group
        for group in waiting
        if not any(group.scheduler in {None, name} and holds(request, group.request) for name, request in asked)
    ]
