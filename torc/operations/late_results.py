"""Results that come late: of a runner that was given up, or to a store that is older than they are.

A result counts when its attempt was given up and nobody has begun another, or when the store has forgotten the attempt
because it was restored from a backup; but never when the job has become another one since, or when user data that the
attempt wrote was lost with the store. Otherwise the attempt is recorded and nothing moves. (job, attempt) counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import RowMapping

from torc.api.runs import Delivered, DeliverResults, Exchange, Finished, NodeCapacity
from torc.errors import Conflict
from torc.failures.retry import DIED, RUNNER_LOST
from torc.operations.actions import finish_actions
from torc.operations.attempt_reports import ReportContext, take_finished, take_reports
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import workflow_row
from torc.operations.runs import begin
from torc.store.attempt_content import executed, user_data_hashes, written_data
from torc.store.json_columns import loads
from torc.store.transitions import JobStatus, Transitions
from torc.workflow.staleness import attempt_fingerprint
from torc.workflow.states import State

RUNNER = (
    "SELECT is_active, run_id, kind, labels, allocation_id, started_at, lease_expires_at, end_reason, last_exchange "
    "FROM runner "
    "WHERE id = :id AND workflow_id = :workflow_id"
)
#: whether an attempt that is recorded was given up with its runner, and nothing is known of its end
_RECORDED = f"SELECT job_id, attempt, reason = '{RUNNER_LOST}' AND detail IS NULL FROM attempt WHERE job_id IN "
_FORGET_LOSS = f"DELETE FROM attempt WHERE job_id = :job_id AND attempt = :attempt AND reason = '{RUNNER_LOST}'"
_SET_ATTEMPT = "UPDATE job SET attempt = :attempt WHERE id = :job_id"
#: ends of a runner that leave open what its jobs did. After others, such as a reset, somebody wants them to run anew
_OPEN_ENDS = frozenset({DIED, "lease ended", "finished", "stopped", "failed"})
_OF_ALLOCATIONS = "allocation ended"
_NOTHING = NodeCapacity(num_cpus=0, memory_bytes=0)
_MOST_NAMED = 1000
_DUE = frozenset({State.READY, State.BLOCKED})


@answers(DeliverResults)
def deliver_results(tx: Tx, request: DeliverResults) -> Delivered:
    """Take in what a runner has left behind."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    runner = known_runner(tx, workflow, request)
    moves = Transitions(tx.db, tx.dialect, workflow["id"])
    settings = loads(workflow["settings"], {})
    run_id, runner_id = (runner[1], request.runner_id) if runner else (workflow["run_id"], None)
    said = Exchange(**{name: getattr(request, name) for name in type(request).model_fields}, free=_NOTHING)
    reports = ReportContext(tx, workflow, settings, said, moves, run_id, runner_id)
    outdated = 0
    if runner is None or not runner[0]:
        counted, outdated = take_late(reports, runner)
    else:
        counted = sum(take_reports(reports))
        finish_actions(tx, workflow["id"], request.actions_finished)
        moves.finish(tx.now, tx.actor, has_job_actions=bool(workflow["has_job_actions"]))
    if counted:
        tx.event(workflow["id"], "results_taken_in", runner_id=request.runner_id, number=counted)
    return Delivered(num_counted=counted, num_recorded=len(request.finished) - counted, num_outdated=outdated)


def known_runner(tx: Tx, workflow: RowMapping, request: Exchange | DeliverResults) -> Any:
    """Return the row (`RUNNER`) of who reports; None: this store does not know it, or only another one of that number.

    Raises Conflict where the workflow is another one of that number.
    """
    if request.workflow_created_at not in {None, workflow["created_at"]}:
        raise Conflict(
            f"workflow {workflow['id']} of this store is not the one that runner {request.runner_id} works for",
            hint="the store was replaced: restore the one that it had (torc server restore)",
        )
    found = tx.dialect.fetch(tx.db, RUNNER, {"id": request.runner_id, "workflow_id": workflow["id"]})
    if not found or request.runner_started_at not in {None, found[0][5]}:
        return None
    return found[0]


def take_late(reports: ReportContext, runner: Any) -> tuple[int, int]:
    """Apply results of attempts that nobody makes any more, and record the others.

    Returns how many counted, and how many did not because what they are of has changed.
    """
    left = {(item.attempt, item.job_id): item for item in reversed(reports.request.finished)}  # the first one counts
    counted = 0
    outdated = _outdated(reports, list(left.values()))
    for item in outdated:
        del left[item.attempt, item.job_id]
    while left:
        jobs = reports.moves.now({item.job_id for item in left.values()})
        recorded = _recorded(reports.tx, jobs)
        now: dict[int, Finished] = {}
        for _, item in sorted(left.items(), key=lambda entry: entry[0]):
            job = jobs.get(item.job_id)
            if job is not None and item.job_id not in now and _counts(reports, runner, item, job, recorded):
                now[item.job_id] = item
        if not now:
            break
        reports = _begun(reports)
        _apply(reports, now.values())
        counted += len(now)
        for item in now.values():
            del left[item.attempt, item.job_id]
    if left:
        take_finished(reports, left.values(), reports.moves.now({item.job_id for item in left.values()}), {})
    workflow = reports.workflow
    reports.moves.finish(reports.tx.now, reports.tx.actor, has_job_actions=bool(workflow["has_job_actions"]))
    if outdated:
        jobs_of = sorted({item.job_id for item in outdated})
        runner_id = reports.request.runner_id
        reports.tx.event(workflow["id"], "results_outdated", runner_id=runner_id, job_ids=jobs_of[:_MOST_NAMED])
    return counted, len(outdated)


def _outdated(reports: ReportContext, items: Collection[Finished]) -> list[Finished]:
    """Return the results that could count, or will when others have, and must not: what they are of is not what is stored.

    Those of attempts before the present one are history, and are recorded: their jobs may have been edited since.
    """
    tx, jobs = reports.tx, reports.moves.now({item.job_id for item in items})
    recorded = _recorded(tx, jobs)
    at_stake = [
        item
        for item in items
        if item.job_id in jobs
        and jobs[item.job_id].state in _DUE
        and item.attempt >= jobs[item.job_id].attempt
        and recorded.get((item.job_id, item.attempt), True)
    ]
    ids = {item.job_id for item in at_stake}
    now = _fingerprints(tx, reports.workflow, {item.job_id for item in at_stake if item.fingerprint is not None})
    written = written_data(tx.db, tx.dialect, ids)

    def is_lost(item: Finished) -> bool:
        """Return whether what it wrote to the store is not there: that was lost when the store was, and the attempt with it."""
        if item.outcome != "succeeded" or item.job_id not in written:
            return False
        return item.attempt > jobs[item.job_id].attempt or not written[item.job_id]

    return [
        item
        for item in at_stake
        if (item.fingerprint is not None and item.fingerprint != now[item.job_id]) or is_lost(item)
    ]


def _fingerprints(tx: Tx, workflow: RowMapping, ids: Collection[int]) -> dict[int, str]:
    """Return what jobs would report if they ran now."""
    rows = executed(tx.db, tx.dialect, ids)
    shared = loads(workflow["env"], {})
    data = user_data_hashes(tx.db, tx.dialect, {row.input_set_id for row in rows if row.input_set_id is not None})
    return {
        row.id: attempt_fingerprint(
            row.name,
            row.command,
            row.invocation_script,
            {**shared, **loads(row.env, {})},
            None if row.input_set_id is None else data.get(row.input_set_id),
        )
        for row in rows
    }


def _recorded(tx: Tx, ids: Collection[int]) -> dict[tuple[int, int], bool]:
    rows = tx.dialect.fetch(tx.db, _RECORDED + tx.dialect.id_list, {"ids": tx.dialect.ids(ids)})
    return {(row[0], row[1]): bool(row[2]) for row in rows}


def _counts(
    reports: ReportContext, runner: Any, item: Finished, job: JobStatus, recorded: Mapping[tuple[int, int], bool]
) -> bool:
    is_open = recorded.get((item.job_id, item.attempt), True)  # no row: given up before its start was reported
    if not is_open or job.state is not State.READY:
        return False
    if item.attempt == job.attempt:
        end = "" if runner is None else runner[7] or ""
        return end in _OPEN_ENDS or end.startswith(_OF_ALLOCATIONS)
    # a number that the store never gave: it is older than the attempt, as far as the workflow is surely the same
    return item.attempt > job.attempt and reports.request.workflow_created_at is not None


def _begun(reports: ReportContext) -> ReportContext:
    """Begin the run, where the store is from before it."""
    if reports.workflow["is_begun"]:
        return reports
    begin(reports.tx, reports.workflow["id"])
    workflow = workflow_row(reports.tx, reports.workflow["id"])
    return reports._replace(workflow=workflow, run_id=workflow["run_id"])


def _apply(reports: ReportContext, items: Collection[Finished]) -> None:
    """Give jobs back to the runners that made these attempts, and record how the attempts ended."""
    tx, moves = reports.tx, reports.moves
    attempts = [{"job_id": item.job_id, "attempt": item.attempt} for item in items]
    tx.dialect.run_many(tx.db, _FORGET_LOSS, attempts)
    moves.claim([item.job_id for item in items], reports.request.runner_id)
    tx.dialect.run_many(tx.db, _SET_ATTEMPT, attempts)
    jobs = moves.now([item.job_id for item in items])
    take_finished(reports, items, jobs, jobs)
