"""Select ready jobs for a runner through one partial index, in time independent of the number of finished jobs.

For each requirement class that has ready jobs and fits, and each scheduler that they may be bound to, jobs are read in priority order,
as far as needed; `torc.workflow.packing` fills the capacity from the merged classes. Jobs that cannot be assigned are never
read. `torc.store.transitions` marks the chosen jobs as claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import NamedTuple

from sqlalchemy import Connection

from torc.store.dialect import Dialect
from torc.store.named import OF_SCHEDULERS
from torc.store.requirements import REQUEST_COLUMNS
from torc.workflow.packing import Candidate, SortMethod, how_many_fit, may_wait, offer_key, pack_sorted
from torc.workflow.resources import Capacity, Pool, ResourceRequest

#: both databases find this in the index `job_ready` alone; PostgreSQL wants `scheduler_id` in the order for that
_FIRST = (
    "(SELECT {column} FROM job j WHERE j.workflow_id = :workflow_id AND j.requirement_id = r.id AND j.scheduler_id {bound} "
    "AND state = 'ready' AND due_at IS NULL ORDER BY scheduler_id, order_key, id LIMIT 1)"
)


def _classes(tables: str, bound: str, scheduler: str) -> str:
    first, priority = (_FIRST.format(column=column, bound=bound) for column in ("id", "-order_key"))
    inner = f"SELECT r.id, {first} AS first_id, {priority} AS priority, {scheduler} AS scheduler_id, {REQUEST_COLUMNS} FROM {tables}"
    return f"SELECT * FROM ({inner}) c WHERE first_id IS NOT NULL"


_UNBOUND = _classes("requirement r WHERE r.workflow_id = :workflow_id", "IS NULL", "NULL")
_BOUND = _classes(
    f"named s CROSS JOIN requirement r WHERE s.workflow_id = :workflow_id AND s.kind {OF_SCHEDULERS} "
    "AND r.workflow_id = :workflow_id AND (:all_schedulers OR s.name = :scheduler)",
    "= s.id",
    "s.id",
)
_NEXT = (
    "SELECT id, -order_key FROM job WHERE workflow_id = :workflow_id AND requirement_id = :class AND scheduler_id {bound} "
    "AND state = 'ready' AND due_at IS NULL ORDER BY scheduler_id, order_key, id LIMIT :n"
)
_NEXT_UNBOUND, _NEXT_BOUND = _NEXT.format(bound="IS NULL"), _NEXT.format(bound="= :scheduler_id")


#: jobs that save their work and resume elsewhere, among the first of a class
_GOING_ON = (
    "SELECT id, priority FROM (SELECT id, -order_key AS priority, supports_termination FROM job WHERE workflow_id = :workflow_id "
    "AND requirement_id = :class AND scheduler_id {bound} AND state = 'ready' AND due_at IS NULL "
    "ORDER BY scheduler_id, order_key, id LIMIT 1000) c "
    "WHERE supports_termination ORDER BY priority DESC, id LIMIT :n"
)
_UNBOUND_ON, _BOUND_ON = _GOING_ON.format(bound="IS NULL"), _GOING_ON.format(bound="= :scheduler_id")


class ClaimRequest(NamedTuple):
    """What a runner can take now, and what it may claim ahead."""

    free: Capacity | Pool
    limit: int
    total: Capacity | Pool
    ahead: int = 0
    ignore_resources: bool = False
    method: SortMethod = "none"
    scheduler: str | None = None  # the jobs that are bound to it, beside those that are bound to none
    all_schedulers: bool = False  # jobs that are bound to any
    ends: bool = False  # its time and its nodes count, where the rest of its resources does not

    def can_hold(self, request: ResourceRequest) -> bool:
        """Return whether a job with this request could be taken, now or ahead."""
        if self.ignore_resources:
            return not self.ends or (self._node.lasts_for(request) and request.num_nodes == 1)
        return self.free.fits(request) or (self.ahead > 0 and self.total.fits(request)) or may_wait(request, self.total)

    def can_begin(self, request: ResourceRequest) -> bool:
        """Return whether a job that saves its work could start now, although its time does not fit."""
        if not self._node.lasts_partly_for(request):
            return False
        return request.num_nodes == 1 if self.ignore_resources else self.free.fits(request.untimed)

    @property
    def _node(self) -> Capacity:
        return self.free.nodes[0] if isinstance(self.free, Pool) else self.free


class ReadyClass(NamedTuple):
    """A requirement class with ready jobs."""

    id: int
    first_id: int  # of the job that comes first
    priority: int  # of that job
    scheduler_id: int | None  # that its jobs are bound to
    request: ResourceRequest
    goes_on: bool = False  # only those of its jobs that save their work and go on elsewhere


def choose(db: Connection, dialect: Dialect, workflow_id: int, wanted: ClaimRequest) -> list[Candidate]:
    """Choose ready jobs for a runner, in offering order. The caller has locked the workflow."""
    if wanted.limit <= 0 and wanted.ahead <= 0:
        return []
    rows = dialect.fetch(db, _UNBOUND, {"workflow_id": workflow_id})
    if wanted.scheduler is not None or wanted.all_schedulers:
        among = {"scheduler": wanted.scheduler or "", "all_schedulers": wanted.all_schedulers}
        rows += dialect.fetch(db, _BOUND, {"workflow_id": workflow_id, **among})
    classes = [
        ReadyClass(number, first, priority, scheduler, ResourceRequest(*asked))
        for number, first, priority, scheduler, *asked in rows
    ]
    classes = [
        found if wanted.can_hold(found.request) else found._replace(goes_on=True)
        for found in classes
        if wanted.can_hold(found.request) or wanted.can_begin(found.request)
    ]
    offered: Iterator[Candidate] = _Streams(db, dialect, workflow_id, wanted).merged(classes)
    seen: list[Candidate] = []

    def watched() -> Iterator[Candidate]:
        for candidate in offered:
            seen.append(candidate)
            yield candidate

    chosen = pack_sorted(
        watched(), wanted.free, wanted.limit, ignore_resources=wanted.ignore_resources, total=wanted.total
    )
    return chosen + _ahead(wanted, chosen, seen, offered)


def _ahead(
    wanted: ClaimRequest, chosen: Sequence[Candidate], passed: Sequence[Candidate], offered: Iterator[Candidate]
) -> list[Candidate]:
    """Choose jobs to start as others end: those that were passed over, then the next ones."""
    if wanted.ahead <= 0:
        return []
    taken = {job.id for job in chosen}
    more: list[Candidate] = []
    for part in (passed, offered):
        for job in part:
            if len(more) == wanted.ahead:
                return more
            if job.id not in taken and (wanted.ignore_resources or wanted.total.fits(job.request)):
                more.append(job)
    return more


class _Streams:
    """Reads the ready jobs of classes in offering order."""

    def __init__(self, db: Connection, dialect: Dialect, workflow_id: int, wanted: ClaimRequest) -> None:
        self.db, self.dialect, self.workflow_id, self.wanted = db, dialect, workflow_id, wanted

    def merged(self, classes: Sequence[ReadyClass]) -> Iterator[Candidate]:
        """Yield the jobs of some classes; for most of many classes, only the first job is ever read."""
        if not classes:
            return iter(())
        if len(classes) == 1:
            return self._all(classes[0])
        return merge(*map(self._lazily, classes), key=lambda job: offer_key(job, self.wanted.method))

    def _lazily(self, found: ReadyClass) -> Iterator[Candidate]:
        if found.goes_on:
            yield from self._all(found)
            return
        yield Candidate(found.first_id, found.request, found.priority)
        rest = self._all(found)
        next(rest)
        yield from rest

    def _all(self, found: ReadyClass) -> Iterator[Candidate]:
        """Yield the jobs of a class, no more than can be needed: those for which there is room, or that are claimed ahead."""
        wanted, request = self.wanted, found.request
        most = wanted.limit
        if not wanted.ignore_resources:
            needs = request.untimed if found.goes_on else request
            most = min(most, how_many_fit(needs, wanted.free))
        values = {"workflow_id": self.workflow_id, "class": found.id, "n": max(1, most + wanted.ahead)}
        query = _UNBOUND_ON if found.goes_on else _NEXT_UNBOUND
        if found.scheduler_id is not None:
            query, values = _BOUND_ON if found.goes_on else _NEXT_BOUND, {**values, "scheduler_id": found.scheduler_id}
        for job_id, priority in self.dialect.fetch(self.db, query, values):
            yield Candidate(job_id, request, priority, found.goes_on)
