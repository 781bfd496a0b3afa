"""Which ready jobs a runner gets: found through one partial index, flat however many jobs have finished.

For each requirement class that fits, the first jobs in order of priority are looked up; `core.packing` merges the classes
and fills the capacity. Nothing reads a job that cannot be given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from typing import NamedTuple

from sqlalchemy import Connection, text

from torc.core.packing import Candidate, SortMethod, how_many_fit, offer_key, pack_sorted
from torc.core.resources import Capacity, ResourceRequest
from torc.store.dialect import Dialect

_PAGE = 256
#: PostgreSQL and SQLite both read (workflow_id, requirement_id, order_key, id) from the index alone
_READY = text(
    "SELECT id, priority FROM job WHERE workflow_id = :workflow_id AND requirement_id = :class AND state = 'ready' "
    "ORDER BY order_key, id LIMIT :n"
)
_CLASSES = text(
    "SELECT id, num_cpus, num_gpus, num_nodes, memory_bytes, runtime_seconds FROM requirement r "
    "WHERE workflow_id = :workflow_id AND EXISTS (SELECT 1 FROM job WHERE workflow_id = :workflow_id "
    "AND requirement_id = r.id AND state = 'ready')"
)


class Wanted(NamedTuple):
    """What a runner can take now, and what it may take ahead for when something ends."""

    free: Capacity
    limit: int
    total: Capacity
    ahead: int = 0
    ignore_resources: bool = False
    method: SortMethod = "none"


class Offer(NamedTuple):
    """The chosen jobs in order, and whether ready jobs were left because nothing here can ever hold them."""

    jobs: list[Candidate]
    num_classes: int


def choose(db: Connection, workflow_id: int, wanted: Wanted) -> Offer:
    """Choose ready jobs for a runner. The caller holds the right to change the workflow."""
    if wanted.limit <= 0 and wanted.ahead <= 0:
        return Offer([], 0)
    classes = _classes(db, workflow_id)
    fitting = [
        (number, request) for number, request in classes if wanted.ignore_resources or _could_fit(wanted, request)
    ]
    most = wanted.limit + wanted.ahead
    streams = [_stream(db, workflow_id, number, request, most, wanted) for number, request in fitting]
    offered = list(_merged(streams, wanted.method, most * max(1, min(len(streams), 8))))
    chosen = pack_sorted(offered, wanted.free, wanted.limit, ignore_resources=wanted.ignore_resources)
    if wanted.ahead:
        taken = {job.id for job in chosen}
        rest = (job for job in offered if job.id not in taken)
        chosen += [job for job in rest if wanted.ignore_resources or wanted.total.fits(job.request)][: wanted.ahead]
    return Offer(chosen, len(classes))


def _could_fit(wanted: Wanted, request: ResourceRequest) -> bool:
    return how_many_fit(request, wanted.free) > 0 or (wanted.ahead > 0 and wanted.total.fits(request))


def _classes(db: Connection, workflow_id: int) -> list[tuple[int, ResourceRequest]]:
    return [(row[0], ResourceRequest(*row[1:])) for row in db.execute(_CLASSES, {"workflow_id": workflow_id})]


def _stream(
    db: Connection, workflow_id: int, number: int, request: ResourceRequest, most: int, wanted: Wanted
) -> Iterator[Candidate]:
    """Give the ready jobs of a class in order, read when the first one is asked for."""
    fits = most if wanted.ignore_resources else min(most, how_many_fit(request, wanted.free) + wanted.ahead)
    rows = db.execute(_READY, {"workflow_id": workflow_id, "class": number, "n": min(fits, most)}).all()
    for job_id, priority in rows:
        yield Candidate(job_id, request, priority)


def _merged(streams: Sequence[Iterable[Candidate]], method: SortMethod, most: int) -> Iterator[Candidate]:
    if len(streams) == 1:
        yield from streams[0]
        return
    for count, candidate in enumerate(merge(*streams, key=lambda job: offer_key(job, method))):
        if count >= most and count >= _PAGE:
            return
        yield candidate


def take(db: Connection, dialect: Dialect, ids: Sequence[int], runner_id: int) -> None:
    """Mark chosen jobs as claimed by a runner; each begins a new attempt."""
    db.execute(
        text(
            "UPDATE job SET state = 'pending', runner_id = :runner_id, attempt = attempt + 1, started_at = NULL, "
            "fingerprint = NULL "
            f"WHERE id IN {dialect.id_list} AND state = 'ready'"
        ),
        {"runner_id": runner_id, "ids": dialect.ids(ids)},
    )
