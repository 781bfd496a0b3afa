"""Gates: counted down when their prerequisites finish, and up again when these are reset; and which jobs are behind them.

A gate is stored with its number of unfinished prerequisites (`remaining`), so that a finished job touches one row per gate instead of
one per dependent job. Each job records whether it was counted off, which makes counting idempotent. Every function is one or two
statements over sets. Job states are changed by `torc.store.transitions`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection

from torc.store.dialect import Dialect
from torc.store.id_blocks import take_ids
from torc.workflow.states import State

_COUNT = "UPDATE gate SET remaining = remaining - :n WHERE id = :gate"
_PREREQUISITES = (
    "SELECT p.gate_id, p.job_id FROM gate g JOIN gate_prerequisite p ON p.gate_id = g.id "
    "WHERE g.workflow_id = :id ORDER BY p.gate_id, p.job_id"
)
_CAUSES = (
    "SELECT p.gate_id, q.name, q.state FROM gate_prerequisite p JOIN job q ON q.id = p.job_id WHERE {which} "
    "AND q.counted AND q.state NOT IN ('completed', 'disabled') ORDER BY p.gate_id, p.job_id DESC"
)
#: its stage is one more than that of the last of them; not known where one of theirs is not
_ADD = (
    "INSERT INTO gate (id, workflow_id, total, remaining, stage) "
    "SELECT :id, :workflow_id, :total, sum(CASE WHEN j.counted THEN 0 ELSE 1 END), "
    "CASE WHEN sum(CASE WHEN j.gate_id IS NULL OR g.stage IS NOT NULL THEN 0 ELSE 1 END) > 0 THEN NULL "
    "ELSE 1 + max(CASE WHEN j.gate_id IS NULL THEN 0 ELSE g.stage END) END "
    "FROM job j LEFT JOIN gate g ON g.id = j.gate_id WHERE j.id IN {ids}"
)
_ADD_PREREQUISITE = "INSERT INTO gate_prerequisite (job_id, gate_id) VALUES (:job, :gate)"


class Prerequisite(NamedTuple):
    """A job that a gate waits for until it is counted off."""

    gate_id: int
    job_id: int


def prerequisites(db: Connection, dialect: Dialect, workflow_id: int) -> list[Prerequisite]:
    """Return what the gates of a workflow wait for, by gate and job."""
    return list(map(Prerequisite._make, dialect.fetch(db, _PREREQUISITES, {"id": workflow_id})))


def count_off(db: Connection, dialect: Dialect, jobs: Collection[int]) -> list[int]:
    """Count jobs off their gates; return the gates that are now open."""
    held = _held(db, dialect, jobs)
    if held:
        dialect.run_many(db, _COUNT, [{"gate": gate, "n": n} for gate, n, _ in held])
    return [gate for gate, n, remaining in held if remaining == n]


def count_on(db: Connection, dialect: Dialect, jobs: Collection[int]) -> list[int]:
    """Count jobs on again at their gates; return those gates."""
    held = _held(db, dialect, jobs)
    if held:
        dialect.run_many(db, _COUNT, [{"gate": gate, "n": -n} for gate, n, _ in held])
    return [gate for gate, _, _ in held]


def open_all(db: Connection, dialect: Dialect, workflow_id: int) -> None:
    """Open every gate of a workflow whose jobs are all counted off."""
    query = "UPDATE gate SET remaining = 0 WHERE workflow_id = :id AND remaining <> 0"
    dialect.run(db, query, {"id": workflow_id})


def shut_all(db: Connection, dialect: Dialect, workflow_id: int, but: Collection[int]) -> set[int]:
    """Count all jobs of a workflow on again at their gates, except some. Returns the gates that are open then."""
    values = {"id": workflow_id}
    dialect.run(db, "UPDATE gate SET remaining = total WHERE workflow_id = :id AND remaining <> total", values)
    count_off(db, dialect, but)
    rows = dialect.fetch(db, "SELECT id FROM gate WHERE workflow_id = :id AND remaining = 0", values)
    return {row[0] for row in rows}


def _held(db: Connection, dialect: Dialect, jobs: Collection[int]) -> list[tuple[int, int, int]]:
    if not jobs:
        return []
    query = (
        "SELECT p.gate_id, count(*), g.remaining FROM gate_prerequisite p JOIN gate g ON g.id = p.gate_id "
        f"WHERE p.job_id IN {dialect.id_list} GROUP BY p.gate_id, g.remaining ORDER BY p.gate_id"
    )
    return dialect.fetch(db, query, {"ids": dialect.ids(jobs)})


def downstream(db: Connection, dialect: Dialect, jobs: Collection[int]) -> set[int]:
    """Return the jobs behind some jobs, those themselves included, one layer of gates at a time."""
    found, layer = set(jobs), set(jobs)
    query = (
        "SELECT DISTINCT j.id FROM job j JOIN gate_prerequisite p ON p.gate_id = j.gate_id "
        f"WHERE p.job_id IN {dialect.id_list}"
    )
    while layer:
        layer = {row[0] for row in dialect.fetch(db, query, {"ids": dialect.ids(layer)})} - found
        found |= layer
    return found


def open_of(db: Connection, dialect: Dialect, gates: Collection[int]) -> set[int]:
    """Return those of some gates that are open."""
    if not gates:
        return set()
    query = f"SELECT id FROM gate WHERE id IN {dialect.id_list} AND remaining = 0"
    return {row[0] for row in dialect.fetch(db, query, {"ids": dialect.ids(gates)})}


def behind(db: Connection, dialect: Dialect, gates: Collection[int], state: State) -> list[int]:
    """Return the jobs in a state behind some gates."""
    if not gates:
        return []
    query = f"SELECT id FROM job WHERE gate_id IN {dialect.id_list} AND state = :state"
    return [row[0] for row in dialect.fetch(db, query, {"ids": dialect.ids(gates), "state": state.value})]


def spoiled_behind(db: Connection, dialect: Dialect, jobs: Collection[int]) -> dict[str, list[int]]:
    """Return the blocked jobs to be canceled because of some unsuccessful jobs, with the reason."""
    which = f"p.job_id IN {dialect.id_list}"
    causes = _causes(db, dialect, which, jobs)
    return _fallen(db, dialect, causes)


def spoiled_among(db: Connection, dialect: Dialect, jobs: Collection[int]) -> dict[str, list[int]]:
    """Return those of some jobs to be canceled because of any prerequisite, with the reason, whatever their state."""
    if not jobs:
        return {}
    which = f"p.gate_id IN (SELECT gate_id FROM job WHERE id IN {dialect.id_list})"
    causes = _causes(db, dialect, which, jobs)
    return _fallen(db, dialect, causes, set(jobs))


class _Obstacle(NamedTuple):
    """An unsuccessful job that a gate waits for, or would wait for."""

    gate_id: int
    name: str
    state: str


def _causes(db: Connection, dialect: Dialect, which: str, jobs: Collection[int]) -> dict[int, _Obstacle]:
    rows = dialect.fetch(db, _CAUSES.format(which=which), {"ids": dialect.ids(jobs)})
    return {cause.gate_id: cause for cause in map(_Obstacle._make, rows)}


def _fallen(
    db: Connection, dialect: Dialect, causes: dict[int, _Obstacle], among: set[int] | None = None
) -> dict[str, list[int]]:
    """Return the jobs behind the gates of `causes` with the reason: blocked ones, or those `among` some."""
    found: dict[str, list[int]] = defaultdict(list)
    if not causes:
        return found
    blocked = "AND state = 'blocked' " if among is None else ""
    query = (
        f"SELECT id, gate_id FROM job WHERE gate_id IN {dialect.id_list} {blocked}AND cancel_on_blocking_job_failure"
    )
    for job, gate in dialect.fetch(db, query, {"ids": dialect.ids(causes)}):
        if among is None or job in among:
            cause = causes[gate]
            end = "failed" if cause.state == State.FAILED else f"was {cause.state}"
            found[f"prerequisite {cause.name} {end}"].append(job)
    return found


def add(db: Connection, dialect: Dialect, workflow_id: int, prerequisites: Collection[int]) -> int | None:
    """Add a gate for some jobs; None if there are none."""
    if not prerequisites:
        return None
    gate = take_ids(db, "gate")
    values = {"id": gate, "workflow_id": workflow_id, "ids": dialect.ids(prerequisites), "total": len(prerequisites)}
    dialect.run(db, _ADD.format(ids=dialect.id_list), values)
    dialect.run_many(db, _ADD_PREREQUISITE, [{"job": job, "gate": gate} for job in sorted(prerequisites)])
    return gate
