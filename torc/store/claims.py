"""Which ready jobs a runner gets: found through one partial index, flat however many jobs have finished.

For each requirement class that has ready jobs and fits, the jobs are read in order of priority, as far as they are needed;
`core.packing` fills the capacity from the classes merged. Nothing reads a job that cannot be given. `store.jobs` marks what
was chosen as claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from typing import NamedTuple

from sqlalchemy import Connection

from torc.core.packing import Candidate, SortMethod, how_many_fit, offer_key, pack_sorted
from torc.core.resources import Capacity, ResourceRequest
from torc.store.dialect import Dialect

#: both databases find this in the index `job_ready` alone
_FIRST = (
    "(SELECT {column} FROM job j WHERE j.workflow_id = :workflow_id AND j.requirement_id = r.id AND state = 'ready' "
    "ORDER BY order_key, id LIMIT 1)"
)
_CLASSES = (
    f"SELECT * FROM (SELECT id, {_FIRST.format(column='id')} AS first_id, {_FIRST.format(column='-order_key')} AS priority, "
    "num_cpus, num_gpus, num_nodes, memory_bytes, runtime_seconds FROM requirement r WHERE r.workflow_id = :workflow_id) c "
    "WHERE first_id IS NOT NULL"
)
_NEXT = (
    "SELECT id, -order_key FROM job WHERE workflow_id = :workflow_id AND requirement_id = :class AND state = 'ready' "
    "ORDER BY order_key, id LIMIT :n"
)


class Wanted(NamedTuple):
    """What a runner can take now, and what it may take ahead for when something ends."""

    free: Capacity
    limit: int
    total: Capacity
    ahead: int = 0
    ignore_resources: bool = False
    method: SortMethod = "none"

    def can_hold(self, request: ResourceRequest) -> bool:
        """Tell whether a job with this request could be taken, now or ahead."""
        if self.ignore_resources:
            return True
        return self.free.fits(request) or (self.ahead > 0 and self.total.fits(request))


class Class(NamedTuple):
    """A requirement class with ready jobs."""

    id: int
    first_id: int  # of the job that comes first
    priority: int  # of that job
    request: ResourceRequest


def choose(db: Connection, dialect: Dialect, workflow_id: int, wanted: Wanted) -> list[Candidate]:
    """Choose ready jobs for a runner, in the order of offering. The caller has locked the workflow."""
    if wanted.limit <= 0 and wanted.ahead <= 0:
        return []
    rows = dialect.fetch(db, _CLASSES, {"workflow_id": workflow_id})
    classes = [Class(row[0], row[1], row[2], ResourceRequest(*row[3:])) for row in rows]
    classes = [found for found in classes if wanted.can_hold(found.request)]
    offered: Iterator[Candidate] = _Streams(db, dialect, workflow_id, wanted).merged(classes)
    seen: list[Candidate] = []

    def watched() -> Iterator[Candidate]:
        for candidate in offered:
            seen.append(candidate)
            yield candidate

    chosen = pack_sorted(watched(), wanted.free, wanted.limit, ignore_resources=wanted.ignore_resources)
    return chosen + _ahead(wanted, chosen, seen, offered)


def _ahead(
    wanted: Wanted, chosen: Sequence[Candidate], passed: Sequence[Candidate], offered: Iterator[Candidate]
) -> list[Candidate]:
    """Choose jobs to be started as others end: those that were passed over, then the next ones."""
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
    """Reads the ready jobs of classes in order of offering."""

    def __init__(self, db: Connection, dialect: Dialect, workflow_id: int, wanted: Wanted) -> None:
        self.db, self.dialect, self.workflow_id, self.wanted = db, dialect, workflow_id, wanted

    def merged(self, classes: Sequence[Class]) -> Iterator[Candidate]:
        """Give the jobs of some classes; of most of many classes, no more than the first job is ever read."""
        if not classes:
            return iter(())
        if len(classes) == 1:
            return self._all(classes[0])
        return merge(*map(self._lazily, classes), key=lambda job: offer_key(job, self.wanted.method))

    def _lazily(self, found: Class) -> Iterator[Candidate]:
        yield Candidate(found.first_id, found.request, found.priority)
        rest = self._all(found)
        next(rest)
        yield from rest

    def _all(self, found: Class) -> Iterator[Candidate]:
        """Give the jobs of a class, no more than can be needed of it: for so many there is room, or they go ahead."""
        wanted, request = self.wanted, found.request
        most = wanted.limit
        if not wanted.ignore_resources:
            most = min(most, how_many_fit(request, wanted.free))
        values = {"workflow_id": self.workflow_id, "class": found.id, "n": max(1, most + wanted.ahead)}
        for job_id, priority in self.dialect.fetch(self.db, _NEXT, values):
            yield Candidate(job_id, request, priority)
