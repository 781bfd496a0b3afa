"""Change a stored workflow to match an edited spec. Jobs, files and user data are matched by name and keep their ids.

Not for deciding what runs again: `reinitialization` does, from the reasons given here and from what it finds itself. Gates,
Input sets and actions are created again; the states of jobs are settled afterwards, by `settle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import RowMapping

from torc.api.workflows import Change
from torc.errors import Conflict
from torc.operations.dispatch import Tx
from torc.operations.input_hashes import keep_fingerprints
from torc.operations.row_mapping import grow_version
from torc.spec.plan import Plan
from torc.store import jobs, plan_replacement
from torc.store.plan_replacement import StoredObjects
from torc.store.transitions import Transitions
from torc.workflow.states import JobEvent, State


class ReplacedJobs(NamedTuple):
    """What became of the jobs: ids of new ones, those that are gone, and why others have to run again."""

    added: list[int]
    removed: list[Change]
    reasons: dict[int, str]
    new_actions: bool


def amend(tx: Tx, workflow: RowMapping, plan: Plan) -> ReplacedJobs:
    """Change what is stored to what the plan says. Raises Conflict while a runner holds a job."""
    workflow_id: int = workflow["id"]
    holding = jobs.first_held(tx.db, tx.dialect, workflow_id)
    if holding is not None:
        raise Conflict(f"job {holding.id} ({holding.name}) is held by a runner", hint="wait until it has ended")
    keep_fingerprints(tx, workflow_id)
    stored = plan_replacement.stored_objects(tx.db, tx.dialect, workflow_id)
    ids = plan_replacement.ids_for(tx.db, tx.dialect, workflow_id, plan, stored)
    plan_replacement.put_workflow(tx.db, workflow_id, plan)
    plan_replacement.put_shared(tx.db, plan, ids)
    added = plan_replacement.put_jobs(tx.db, plan, ids, stored)
    plan_replacement.remove_links(tx.db, workflow_id)
    removed = _remove_jobs(tx, plan, stored)
    plan_replacement.put_links(tx.db, tx.dialect, plan, ids)
    plan_replacement.remove_unused(tx.db, tx.dialect, ids)
    plan_replacement.put_mentions(tx.db, tx.dialect, plan, ids)
    new_actions = plan_replacement.put_actions(tx.db, tx.dialect, plan, ids)
    jobs.recount(tx.db, workflow_id)
    grow_version(tx, workflow_id)
    return ReplacedJobs(added, removed, _reasons(plan, stored), new_actions)


def _remove_jobs(tx: Tx, plan: Plan, stored: StoredObjects) -> list[Change]:
    """Remove the jobs that the plan does not have."""
    names = {job.name for job in plan.jobs}
    gone = [job for name, job in stored.jobs.items() if name not in names]
    if gone:
        plan_replacement.remove_jobs(tx.db, tx.dialect, [job.id for job in gone])
    return [
        Change(job_id=job.id, job_name=job.name, state=job.state, new_state=None, reason="removed from the spec")
        for job in gone
    ]


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
        old = stored.jobs.get(job.name)
        if old is None:
            continue
        gate, inputs = old.gate_id, old.input_set_id
        shape = (gate, inputs, job.gate, job.input_set)
        if shape not in known:
            known[shape] = _difference(
                nothing if inputs is None else stored.reads.get(inputs, nothing),
                nothing if job.input_set is None else reads[job.input_set],
                nothing if gate is None else stored.waits.get(gate, nothing),
                nothing if job.gate is None else waits[job.gate],
            )
        reason = known[shape]
        if reason is not None:
            reasons[old.id] = reason
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
    unfinished = jobs.states(tx.db, tx.dialect, workflow_id, State.READY, State.BLOCKED)
    moves.apply(
        JobEvent.RESET_BLOCKED, moves.shut_among([job for job, state in unfinished.items() if state is State.READY])
    )
    moves.cancel_spoiled([job for job, state in unfinished.items() if state is State.BLOCKED])
    moves.apply(JobEvent.GATE_OPENED, jobs.blocked_behind_nothing(tx.db, tx.dialect, workflow_id))
    moves.finish(tx.now, tx.actor)
