"""What jobs and files that are added or changed later write and read: by path, with the rules of a spec."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sqlalchemy import RowMapping

from torc.errors import Conflict
from torc.operations.dispatch import Tx
from torc.operations.outputs import refuse_shared_outputs
from torc.spec.expansion.paths import WrittenPaths, placing, written
from torc.store import files, gates, inputs, jobs, runners

_ELSEWHERE = "name a path of its own, or bring in an edited spec: torc workflows reinitialize {} --spec SPEC"


class _StoredFiles:
    """The files of a workflow, by place. Files are indexes here, jobs are ids."""

    def __init__(self, tx: Tx, workflow: RowMapping, read: Collection[int] = ()) -> None:
        stored = files.used(tx.db, tx.dialect, workflow["id"])
        place = placing(workflow["directory"])
        self.ids = [file.id for file in stored]
        self.paths = [file.path for file in stored]
        self.places = [place(path) for path in self.paths]
        self.producer = {at: file.producer_job_id for at, file in enumerate(stored) if file.producer_job_id is not None}
        first: dict[str, int] = {}  # what was stored before paths were compared may have two writers for one
        for at in self.producer:
            first.setdefault(self.places[at], at)
        known = set(read)
        self.read = [at for at, file in enumerate(stored) if file.is_read or file.id in known]
        producer = {at: self.producer[at] for at in first.values()}
        self.written: WrittenPaths = written(self.places, producer, self.read)
        for at in self.producer.keys() - producer.keys():
            self.written.producer[at] = self.producer[at]


def writers_of(tx: Tx, workflow: RowMapping, file_ids: Sequence[int], job_id: int) -> set[int]:
    """Return the jobs that write what a new job reads, whose outputs are stored already."""
    if not file_ids:
        return set()
    found = _StoredFiles(tx, workflow, file_ids)
    wanted = set(file_ids)
    read = [at for at, number in enumerate(found.ids) if number in wanted]
    return {job for at in read for job in found.written.writers(at, job_id)}


def check_places(tx: Tx, workflow: RowMapping, file_ids: Collection[int]) -> None:
    """Raise Conflict when files that are new to a job, or have a new path, are not only for those who know of each other.

    Everything is stored already: files, producers, and who waits for whom.
    """
    if not file_ids:
        return
    found = _StoredFiles(tx, workflow)
    changed = {at for at, number in enumerate(found.ids) if number in set(file_ids)}
    writers = {found.producer[at] for at in changed if at in found.producer}
    behind: dict[int, set[int]] = {}

    def waits(job: int, for_job: int) -> bool:
        if for_job not in behind:
            behind[for_job] = gates.downstream(tx.db, tx.dialect, [for_job])
        return job in behind[for_job]

    _check_writers(tx, workflow, found, changed, waits)
    suspects = {
        at: known
        for at in found.read
        if (known := [job for job in found.written.writers(at) if at in changed or job in writers])
    }
    for reader, at in _readers(tx, found, suspects):
        for job in found.written.writers(at, reader):
            if job not in suspects[at]:
                continue
            if job == reader:
                raise Conflict(
                    f"job `{jobs.name_of(tx.db, job)}` would wait for itself: it would read {found.paths[at]} and write it",
                    hint="a job cannot read what it writes",
                )
            if not waits(reader, job):
                raise Conflict(
                    f"{found.paths[at]} is read by job `{jobs.name_of(tx.db, reader)}`, which does not wait for "
                    f"`{jobs.name_of(tx.db, job)}`, and that one would write it",
                    hint=_ELSEWHERE.format(workflow["id"]),
                )
    if writers and runners.num_active(tx.db, workflow["id"]):
        refuse_shared_outputs(tx, workflow)


def _check_writers(
    tx: Tx, workflow: RowMapping, found: _StoredFiles, changed: set[int], waits: Callable[[int, int], bool]
) -> None:
    """Raise Conflict where two jobs write the same file, or one inside what the other writes without waiting for it."""
    places = {found.places[at] for at in changed if at in found.producer}
    at_place: dict[str, int] = {}
    for at, job in found.producer.items():
        place = found.places[at]
        if place in places and found.producer[at_place.setdefault(place, at)] != job:
            other = at_place[place]
            raise Conflict(
                f"two jobs would write the same file: `{jobs.name_of(tx.db, found.producer[other])}` writes {found.paths[other]}, "
                f"and `{jobs.name_of(tx.db, job)}` {found.paths[at]}",
                hint=_ELSEWHERE.format(workflow["id"]),
            )
    for pair in found.written.nested:
        if not changed & {pair.folder, pair.inside}:
            continue
        if not waits(pair.inside_job, pair.folder_job) and not waits(pair.folder_job, pair.inside_job):
            raise Conflict(
                f"two jobs would write the same file: {found.paths[pair.inside]} of `{jobs.name_of(tx.db, pair.inside_job)}` lies in "
                f"{found.paths[pair.folder]}, which `{jobs.name_of(tx.db, pair.folder_job)}` writes",
                hint=f"let one of them wait for the other (`depends_on`); or {_ELSEWHERE.format(workflow['id'])}",
            )


def _readers(tx: Tx, found: _StoredFiles, at: Collection[int]) -> list[tuple[int, int]]:
    """Return (job, file) of those who read some files."""
    at_of = {found.ids[index]: index for index in at}
    return [(reader.job_id, at_of[reader.number]) for reader in inputs.readers(tx.db, tx.dialect, "file", at_of)]
