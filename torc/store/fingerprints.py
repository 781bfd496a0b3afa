"""What results depend on beside files: what jobs execute, the user data that they read, and the fingerprints kept of both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from torc.spec.plan import EXECUTED_FIELDS
from torc.store.conditions import Conditions
from torc.store.dialect import Dialect
from torc.store.job_fields import loaded
from torc.store.json_columns import loads
from torc.workflow.staleness import hash_of_texts

_JOBS = (
    f"SELECT id, name, input_set_id, fingerprint, {', '.join(field.name for field in EXECUTED_FIELDS)} FROM job WHERE "
)
_KEEP = "UPDATE job SET fingerprint = :fingerprint WHERE id = :id"


class ExecutedJob(NamedTuple):
    """What a job executes, and the fingerprint that is kept of it."""

    id: int
    name: str
    input_set_id: int | None
    fingerprint: str | None
    executed: dict[str, Any]  # by name of the field


def without(
    db: Connection,
    dialect: Dialect,
    workflow_id: int,
    *,
    job: int | None = None,
    reading: Collection[int] | None = None,
) -> list[ExecutedJob]:
    """Return the jobs that have completed or are held by a runner, and have no fingerprint kept.

    `job`: only this one. `reading`: only those that read some user data.
    """
    where = Conditions("workflow_id = :workflow_id AND fingerprint IS NULL", workflow_id=workflow_id)
    where.add("state IN ('completed', 'pending', 'running')")
    if job is not None:
        where.add("id = :job", job=job)
    if reading is not None:
        sets = f"SELECT input_set_id FROM input_user_data WHERE user_data_id IN {dialect.id_list}"
        where.add(f"input_set_id IN ({sets})", ids=dialect.ids(reading))
    return _jobs(dialect.fetch(db, f"{_JOBS}{where}", where.values))


def kept(db: Connection, dialect: Dialect, workflow_id: int) -> list[ExecutedJob]:
    """Return the jobs that have a fingerprint kept."""
    return _jobs(dialect.fetch(db, f"{_JOBS}workflow_id = :id AND fingerprint IS NOT NULL", {"id": workflow_id}))


def of_jobs(db: Connection, dialect: Dialect, ids: Collection[int]) -> list[ExecutedJob]:
    """Return some jobs."""
    return _jobs(dialect.fetch(db, f"{_JOBS}id IN {dialect.id_list}", {"ids": dialect.ids(ids)})) if ids else []


def _jobs(rows: Sequence[Any]) -> list[ExecutedJob]:
    return [
        ExecutedJob(
            number,
            name,
            inputs,
            fingerprint,
            {field.name: loaded(field, value) for field, value in zip(EXECUTED_FIELDS, values, strict=True)},
        )
        for number, name, inputs, fingerprint, *values in rows
    ]


def keep(db: Connection, dialect: Dialect, fingerprints: Mapping[int, str]) -> None:
    """Keep fingerprints of jobs."""
    dialect.run_many(db, _KEEP, [{"id": job, "fingerprint": fingerprint} for job, fingerprint in fingerprints.items()])


def data_read(db: Connection, dialect: Dialect, input_sets: Collection[int]) -> dict[int, dict[str, Any]]:
    """Return the user data of some input sets, by name."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for input_set, name, text in _texts_read(db, dialect, input_sets):
        found[input_set][name] = loads(text)
    return found


def user_data_hashes(db: Connection, dialect: Dialect, input_sets: Collection[int]) -> dict[int, str]:
    """Return a hash of the user data in each of some input sets; none for those without any."""
    found: dict[int, dict[str, str | None]] = defaultdict(dict)
    for input_set, name, text in _texts_read(db, dialect, input_sets):
        found[input_set][name] = text
    return {input_set: hash_of_texts(texts) for input_set, texts in found.items()}


def _texts_read(db: Connection, dialect: Dialect, input_sets: Collection[int]) -> Iterable[tuple[int, str, str | None]]:
    if not input_sets:
        return ()
    query = (
        "SELECT i.input_set_id, u.name, u.data FROM input_user_data i "
        f"JOIN user_data u ON u.id = i.user_data_id WHERE i.input_set_id IN {dialect.id_list}"
    )
    return dialect.fetch(db, query, {"ids": dialect.ids(input_sets)})
