"""What jobs and files that are added or changed later write and read: by path, with the rules of a spec."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sqlalchemy import RowMapping, text

from torc.errors import Conflict
from torc.operations.dispatch import Tx
from torc.operations.outputs import refuse_shared_outputs
from torc.spec.expansion.paths import WrittenPaths, placing, written

_FILES = (
    "SELECT id, path, producer_job_id, EXISTS (SELECT 1 FROM input_file i WHERE i.file_id = file.id) FROM file "
    "WHERE workflow_id = :id ORDER BY id"
)
_DOWNSTREAM = text(
    "WITH RECURSIVE down(id) AS (SELECT CAST(:id AS BIGINT) "
    "UNION SELECT j.id FROM down JOIN gate_prerequisite p ON p.job_id = down.id JOIN job j ON j.gate_id = p.gate_id) "
    "SELECT id FROM down"
)
_READERS = (
    "SELECT j.id, i.file_id FROM input_file i JOIN job j ON j.input_set_id = i.input_set_id "
    "WHERE i.file_id IN {} ORDER BY i.file_id, j.id"
)
_ELSEWHERE = "name a path of its own, or bring in an edited spec: torc workflows reinitialize {} --spec SPEC"
_IS_ACTIVE = text("SELECT 1 FROM runner WHERE workflow_id = :id AND is_active LIMIT 1")


class _Files:
    """The files of a workflow, by place. Files are indexes here, jobs are ids."""

    def __init__(self, tx: Tx, workflow: RowMapping, read: Collection[int] = ()) -> None:
        rows = tx.dialect.fetch(tx.db, _FILES, {"id": workflow["id"]})
        place = placing(workflow["directory"])
        self.ids = [row[0] for row in rows]
        self.paths = [row[1] for row in rows]
        self.places = [place(path) for path in self.paths]
        self.producer = {at: row[2] for at, row in enumerate(rows) if row[2] is not None}
        first: dict[str, int] = {}  # what was stored before paths were compared may have two writers for one
        for at in self.producer:
            first.setdefault(self.places[at], at)
        known = set(read)
        self.read = [at for at, row in enumerate(rows) if row[3] or row[0] in known]
        producer = {at: self.producer[at] for at in first.values()}
        self.written: WrittenPaths = written(self.places, producer, self.read)
        for at in self.producer.keys() - producer.keys():
            self.written.producer[at] = self.producer[at]


def writers_of(tx: Tx, workflow: RowMapping, files: Sequence[int], job_id: int) -> set[int]:
    """Return the jobs that write what a new job reads, whose outputs are stored already."""
    if not files:
        return set()
    found = _Files(tx, workflow, files)
    wanted = set(files)
    read = [at for at, number in enumerate(found.ids) if number in wanted]
    return {job for at in read for job in found.written.writers(at, job_id)}


def check_places(tx: Tx, workflow: RowMapping, files: Collection[int]) -> None:
    """Raise Conflict when files that are new to a job, or have a new path, are not only for those who know of each other.

    Everything is stored already: files, producers, and who waits for whom.
    """
    if not files:
        return
    found = _Files(tx, workflow)
    changed = {at for at, number in enumerate(found.ids) if number in set(files)}
    writers = {found.producer[at] for at in changed if at in found.producer}
    behind: dict[int, set[int]] = {}

    def waits(job: int, for_job: int) -> bool:
        if for_job not in behind:
            behind[for_job] = {row[0] for row in tx.db.execute(_DOWNSTREAM, {"id": for_job})}
        return job in behind[for_job]

    _check_writers(tx, workflow, found, changed, waits)
    suspects = {
        at: jobs
        for at in found.read
        if (jobs := [job for job in found.written.writers(at) if at in changed or job in writers])
    }
    for reader, at in _readers(tx, found, suspects):
        for job in found.written.writers(at, reader):
            if job not in suspects[at]:
                continue
            if job == reader:
                raise Conflict(
                    f"job `{_name(tx, job)}` would wait for itself: it would read {found.paths[at]} and write it",
                    hint="a job cannot read what it writes",
                )
            if not waits(reader, job):
                raise Conflict(
                    f"{found.paths[at]} is read by job `{_name(tx, reader)}`, which does not wait for "
                    f"`{_name(tx, job)}`, and that one would write it",
                    hint=_ELSEWHERE.format(workflow["id"]),
                )
    if writers and tx.db.execute(_IS_ACTIVE, {"id": workflow["id"]}).first():
        refuse_shared_outputs(tx, workflow)


def _check_writers(
    tx: Tx, workflow: RowMapping, found: _Files, changed: set[int], waits: Callable[[int, int], bool]
) -> None:
    """Raise Conflict where two jobs write the same file, or one inside what the other writes without waiting for it."""
    places = {found.places[at] for at in changed if at in found.producer}
    at_place: dict[str, int] = {}
    for at, job in found.producer.items():
        place = found.places[at]
        if place in places and found.producer[at_place.setdefault(place, at)] != job:
            other = at_place[place]
            raise Conflict(
                f"two jobs would write the same file: `{_name(tx, found.producer[other])}` writes {found.paths[other]}, "
                f"and `{_name(tx, job)}` {found.paths[at]}",
                hint=_ELSEWHERE.format(workflow["id"]),
            )
    for pair in found.written.nested:
        if not changed & {pair.folder, pair.inside}:
            continue
        if not waits(pair.inside_job, pair.folder_job) and not waits(pair.folder_job, pair.inside_job):
            raise Conflict(
                f"two jobs would write the same file: {found.paths[pair.inside]} of `{_name(tx, pair.inside_job)}` lies in "
                f"{found.paths[pair.folder]}, which `{_name(tx, pair.folder_job)}` writes",
                hint=f"let one of them wait for the other (`depends_on`); or {_ELSEWHERE.format(workflow['id'])}",
            )


def _readers(tx: Tx, found: _Files, files: Collection[int]) -> list[tuple[int, int]]:
    """Return (job, file) of those who read some files."""
    at_of = {found.ids[at]: at for at in files}
    rows = tx.db.execute(text(_READERS.format(tx.dialect.id_list)), {"ids": tx.dialect.ids(at_of)}) if at_of else ()
    return [(job, at_of[file]) for job, file in rows]


def _name(tx: Tx, job: int) -> str:
    return str(tx.db.execute(text("SELECT name FROM job WHERE id = :id"), {"id": job}).scalar_one())
