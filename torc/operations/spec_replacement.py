"""Make a stored workflow what an edited spec says. Jobs, files and user data are matched by name and keep their ids.

Not for deciding what runs again: `reinitialization` does, from the reasons given here and from what it finds itself. Gates,
input sets and actions are made anew; the states of jobs are settled afterwards, by `settle`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, text

from torc.api.workflows import Change
from torc.errors import Conflict
from torc.operations.dispatch import Tx
from torc.operations.input_hashes import keep_fingerprints
from torc.operations.row_mapping import grow_version
from torc.operations.spec_replacement_rows import (
    STATIC,
    PlanIds,
    StoredObjects,
    drop_unused,
    link,
    put_actions,
    put_jobs,
    put_mentions,
    put_shared,
    put_workflow,
    recount,
    unlink,
)
from torc.spec.plan import Plan
from torc.store.id_blocks import take_ids
from torc.store.transitions import Transitions
from torc.workflow.states import Event


class ReplacedJobs(NamedTuple):
    """What became of the jobs: ids of new ones, those that are gone, and why others have to run again."""

    added: list[int]
    removed: list[Change]
    reasons: dict[int, str]
    new_actions: bool


def amend(tx: Tx, workflow: RowMapping, plan: Plan) -> ReplacedJobs:
    """Change what is stored to what the plan says. Raises Conflict while a runner holds a job."""
    workflow_id: int = workflow["id"]
    held = text("SELECT id, name FROM job WHERE workflow_id = :id AND runner_id IS NOT NULL LIMIT 1")
    holding = tx.db.execute(held, {"id": workflow_id}).first()
    if holding:
        raise Conflict(f"job {holding[0]} ({holding[1]}) is held by a runner", hint="wait until it has ended")
    keep_fingerprints(tx, workflow_id)
    stored = _stored(tx, workflow_id)
    ids = _ids(tx, workflow_id, plan, stored)
    put_workflow(tx, workflow_id, plan)
    put_shared(tx, workflow_id, plan, ids)
    added = put_jobs(tx, workflow_id, plan, ids, stored)
    removed = unlink(tx, workflow_id, plan, stored)
    link(tx, workflow_id, plan, ids)
    drop_unused(tx, workflow_id, ids)
    put_mentions(tx, workflow_id, plan, ids)
    new_actions = put_actions(tx, workflow_id, plan, ids)
    recount(tx, workflow_id)
    grow_version(tx, workflow_id)
    return ReplacedJobs(added, removed, _reasons(plan, stored), new_actions)


# -- what was there ---------------------------------------------------------------------------------------------


def _stored(tx: Tx, workflow_id: int) -> StoredObjects:
    key = {"id": workflow_id}
    columns = ", ".join(("id", "state", "gate_id", "input_set_id", *STATIC))
    rows = tx.dialect.fetch(tx.db, f"SELECT name, {columns} FROM job WHERE workflow_id = :id ORDER BY id", key)
    reads: dict[int, set[str]] = defaultdict(set)
    for what, table in (("file", "file"), ("user data", "user_data")):
        query = (
            f"SELECT i.input_set_id, t.name FROM input_{table} i JOIN {table} t ON t.id = i.{table}_id "
            "WHERE t.workflow_id = :id"
        )
        for number, name in tx.dialect.fetch(tx.db, query, key):
            reads[number].add(f"{what} {name}")
    waits: dict[int, set[str]] = defaultdict(set)
    query = "SELECT p.gate_id, j.name FROM gate_prerequisite p JOIN job j ON j.id = p.job_id WHERE j.workflow_id = :id"
    for number, name in tx.dialect.fetch(tx.db, query, key):
        waits[number].add(name)
    return StoredObjects(
        {row[0]: row for row in rows},
        {number: frozenset(names) for number, names in reads.items()},
        {number: frozenset(names) for number, names in waits.items()},
    )


def _ids(tx: Tx, workflow_id: int, plan: Plan, stored: StoredObjects) -> PlanIds:
    def of(table: str, things: Sequence[Any], kind: str | None = None) -> list[int]:
        where = " AND kind = :kind" if kind else ""
        query = text(f"SELECT name, id FROM {table} WHERE workflow_id = :id{where}")
        rows = tx.db.execute(query, {"id": workflow_id, "kind": kind} if kind else {"id": workflow_id})
        return _numbers(tx, table, [thing.name for thing in things], {name: number for name, number in rows})

    return PlanIds(
        jobs=_numbers(tx, "job", [job.name for job in plan.jobs], {name: row[1] for name, row in stored.jobs.items()}),
        files=of("file", plan.files),
        user_data=of("user_data", plan.user_data),
        requirements=of("requirement", plan.requirements),
        handlers=of("named", plan.failure_handlers, "failure_handler"),
        schedulers=of("named", plan.schedulers, "slurm_scheduler"),
    )


def _numbers(tx: Tx, table: str, names: Sequence[str], known: Mapping[str, int]) -> list[int]:
    new = [name for name in names if name not in known]
    fresh = dict(zip(new, count(take_ids(tx.db, table, len(new))), strict=False)) if new else {}
    return [known[name] if name in known else fresh[name] for name in names]


# -- what follows -----------------------------------------------------------------------------------------------


def _reasons(plan: Plan, stored: StoredObjects) -> dict[int, str]:
    """Return which jobs that stay read something else than before, or wait for jobs that they did not wait for."""
    reads = [
        frozenset([f"file {plan.files[at].name}" for at in members.files])
        | {f"user data {plan.user_data[at].name}" for at in members.user_data}
        for members in plan.input_sets
    ]
    waits = [frozenset(plan.jobs[at].name for at in members) for members in plan.gates]
    nothing: frozenset[str] = frozenset()
    known: dict[tuple[int | None, int | None, int | None, int | None], str | None] = {}
    reasons = {}
    for job in plan.jobs:
        row = stored.jobs.get(job.name)
        if row is None:
            continue
        gate, inputs = row[3], row[4]
        shape = (gate, inputs, job.gate, job.input_set)
        if shape not in known:
            known[shape] = _difference(
                stored.reads.get(inputs, nothing),
                nothing if job.input_set is None else reads[job.input_set],
                stored.waits.get(gate, nothing),
                nothing if job.gate is None else waits[job.gate],
            )
        reason = known[shape]
        if reason is not None:
            reasons[int(row[1])] = reason
    return reasons


def _difference(
    read: frozenset[str], reads: frozenset[str], waited: frozenset[str], waits: frozenset[str]
) -> str | None:
    for names, what in (
        (reads - read, "now reads"),
        (read - reads, "no longer reads"),
        (waits - waited, "now waits for"),
    ):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            return f"it {what} {min(names)}{more}"
    return None


def settle(tx: Tx, workflow_id: int, added: Sequence[int]) -> None:
    """Make the states of unfinished jobs what their new gates say."""
    moves = Transitions(tx.db, tx.dialect, workflow_id)
    moves.initialize(added)
    rows = tx.db.execute(
        text("SELECT id, state FROM job WHERE workflow_id = :id AND state IN ('ready', 'blocked')"), {"id": workflow_id}
    ).all()
    moves.apply(Event.RESET_BLOCKED, moves.shut_among([number for number, state in rows if state == "ready"]))
    moves.cancel_spoiled([number for number, state in rows if state == "blocked"])
    free = text(
        "SELECT j.id FROM job j LEFT JOIN gate g ON g.id = j.gate_id WHERE j.workflow_id = :id AND j.state = 'blocked' "
        "AND (g.id IS NULL OR g.remaining = 0)"
    )
    moves.apply(Event.GATE_OPENED, [row[0] for row in tx.db.execute(free, {"id": workflow_id})])
    moves.finish(tx.now, tx.actor)
