"""What attempts run, as it stands in the tables: what results of other times are compared with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import Connection

from torc.store.dialect import Dialect
from torc.workflow.staleness import hash_of_texts

_EXECUTED = "SELECT id, name, command, invocation_script, env, input_set_id FROM job WHERE id IN "
_READ = (
    "SELECT i.input_set_id, u.name, u.data FROM input_user_data i JOIN user_data u ON u.id = i.user_data_id "
    "WHERE i.input_set_id IN "
)
_WRITTEN = (
    "SELECT producer_job_id, min(CASE WHEN data IS NULL THEN 0 ELSE 1 END) FROM user_data WHERE producer_job_id IN "
)


class Executed(NamedTuple):
    """What makes up what a job runs. `env` is as the driver gives JSON."""

    id: int
    name: str
    command: str
    invocation_script: str | None
    env: Any
    input_set_id: int | None


def executed(db: Connection, dialect: Dialect, ids: Collection[int]) -> list[Executed]:
    """Return what jobs would run now."""
    if not ids:
        return []
    return [Executed(*row) for row in dialect.fetch(db, _EXECUTED + dialect.id_list, {"ids": dialect.ids(ids)})]


def user_data_hashes(db: Connection, dialect: Dialect, input_sets: Collection[int]) -> dict[int, str]:
    """Return a hash of the user data in each of some input sets; none for those without any."""
    if not input_sets:
        return {}
    found: dict[int, dict[str, str | None]] = defaultdict(dict)
    for input_set, name, data in dialect.fetch(db, _READ + dialect.id_list, {"ids": dialect.ids(input_sets)}):
        found[input_set][name] = data
    return {input_set: hash_of_texts(texts) for input_set, texts in found.items()}


def written_data(db: Connection, dialect: Dialect, ids: Collection[int]) -> dict[int, bool]:
    """Return of those jobs that write user data whether all of it is there."""
    if not ids:
        return {}
    query = f"{_WRITTEN}{dialect.id_list} GROUP BY producer_job_id"
    return {row[0]: bool(row[1]) for row in dialect.fetch(db, query, {"ids": dialect.ids(ids)})}
