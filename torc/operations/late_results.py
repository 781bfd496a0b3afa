"""Late results: from a runner that was given up, or for a store that is older than they are.

A result counts if its attempt was given up and no other has started, or if the store has forgotten the attempt because it was restored
from a backup; but never if the job has been edited since, or if user data that the attempt wrote was lost with the store. Otherwise
the attempt is only recorded. Each (job, attempt) counts once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import RowMapping

from torc.api.runs import Delivered, DeliverResults, Exchange, Finished, NodeCapacity
from torc.errors import Conflict
from torc.failures.retry import DIED
from torc.operations.actions import finish_actions
from torc.operations.attempt_reports import ReportContext, take_finished, take_reports
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import workflow_row
from torc.operations.runs import begin
from torc.store import attempts, fingerprints, jobs, runners, user_data
from torc.store.json_columns import loads
from torc.store.runners import Reporter
from torc.store.transitions import JobStatus, Transitions
from torc.workflow.staleness import attempt_fingerprint
from torc.workflow.states import State

#: ends of a runner that leave open what its jobs did. After others, such as a reset, somebody wants them to run anew
_OPEN_ENDS = frozenset({DIED, "lease ended", "finished", "stopped", "failed"})
_OF_ALLOCATIONS = "allocation ended"
_NOTHING = NodeCapacity(num_cpus=0, memory_bytes=0)
_MOST_NAMED = 1000
_DUE = frozenset({State.READY, State.BLOCKED})


@answers(DeliverResults)
def deliver_results(tx: Tx, request: DeliverResults) -> Delivered:
    """Apply the results that a runner left behind."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    runner = known_runner(tx, workflow, request)
    moves = Transitions(tx.db, tx.dialect, workflow["id"])
    settings = loads(workflow["settings"], {})
    run_id, runner_id = (runner.run_id, request.runner_id) if runner else (workflow["run_id"], None)
    said = Exchange(**{name: getattr(request, name) for name in type(request).model_fields}, free=_NOTHING)
    reports = ReportContext(tx, workflow, settings, said, moves, run_id, runner_id)
    outdated = 0
    if runner is None or not runner.is_active:
        counted, outdated = take_late(reports, runner)
    else:
        counted = sum(take_reports(reports))
        finish_actions(tx, workflow["id"], request.actions_finished)
        moves.finish(tx.now, tx.actor, has_job_actions=bool(workflow["has_job_actions"]))
    if counted:
        tx.event(workflow["id"], "results_taken_in", runner_id=request.runner_id, number=counted)
    return Delivered(num_counted=counted, num_recorded=len(request.finished) - counted, num_outdated=outdated)


def known_runner(tx: Tx, workflow: RowMapping, request: Exchange | DeliverResults) -> Reporter | None:
    """Return who reports; None: this store does not know it, or only another one of that number.

    Raises Conflict where the workflow is another one of that number.
    """
    if request.workflow_created_at not in {None, workflow["created_at"]}:
        raise Conflict(
            f"workflow {workflow['id']} of this store is not the one that runner {request.runner_id} works for",
            hint="the store was replaced: restore the one that it had (torc server restore)",
        )
    found = runners.reporter(tx.db, tx.dialect, request.runner_id, workflow["id"])
    if found is None or request.runner_started_at not in {None, found.started_at}:
        return None
    return found


def take_late(reports: ReportContext, runner: Reporter | None) -> tuple[int, int]:
    """Apply results of attempts that nobody makes any more, and record the others.

    Returns how many counted, and how many did not because what they are of has changed.
    """
    left = {(item.attempt, item.job_id): item for item in reversed(reports.request.finished)}  # the first one counts
    counted = 0
    outdated = _outdated(reports, list(left.values()))
    for item in outdated:
        del left[item.attempt, item.job_id]
    while left:
        known = reports.moves.now({item.job_id for item in left.values()})
        is_open = attempts.open_ones(reports.tx.db, reports.tx.dialect, known)
        now: dict[int, Finished] = {}
        for _, item in sorted(left.items(), key=lambda entry: entry[0]):
            job = known.get(item.job_id)
            if job is not None and item.job_id not in now and _counts(reports, runner, item, job, is_open):
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
    tx, known = reports.tx, reports.moves.now({item.job_id for item in items})
    is_open = attempts.open_ones(tx.db, tx.dialect, known)
    at_stake = [
        item
        for item in items
        if item.job_id in known
        and known[item.job_id].state in _DUE
        and item.attempt >= known[item.job_id].attempt
        and is_open.get((item.job_id, item.attempt), True)
    ]
    ids = {item.job_id for item in at_stake}
    now = _fingerprints(tx, reports.workflow, {item.job_id for item in at_stake if item.fingerprint is not None})
    written = user_data.is_written(tx.db, tx.dialect, ids)

    def is_lost(item: Finished) -> bool:
        """Return whether what it wrote to the store is not there: that was lost when the store was, and the attempt with it."""
        if item.outcome != "succeeded" or item.job_id not in written:
            return False
        return item.attempt > known[item.job_id].attempt or not written[item.job_id]

    return [
        item
        for item in at_stake
        if (item.fingerprint is not None and item.fingerprint != now[item.job_id]) or is_lost(item)
    ]


def _fingerprints(tx: Tx, workflow: RowMapping, ids: Collection[int]) -> dict[int, str]:
    """Return what jobs would report if they ran now."""
    found = fingerprints.of_jobs(tx.db, tx.dialect, ids)
    shared = loads(workflow["env"], {})
    sets = {job.input_set_id for job in found if job.input_set_id is not None}
    data = fingerprints.user_data_hashes(tx.db, tx.dialect, sets)
    return {
        job.id: attempt_fingerprint(
            job.name,
            {**job.executed, "env": {**shared, **job.executed["env"]}},
            None if job.input_set_id is None else data.get(job.input_set_id),
        )
        for job in found
    }


def _counts(
    reports: ReportContext,
    runner: Reporter | None,
    item: Finished,
    job: JobStatus,
    is_open: Mapping[tuple[int, int], bool],
) -> bool:
    # no row: given up before its start was reported
    if not is_open.get((item.job_id, item.attempt), True) or job.state is not State.READY:
        return False
    if item.attempt == job.attempt:
        end = "" if runner is None else runner.end_reason or ""
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
    made = {item.job_id: item.attempt for item in items}
    attempts.forget_losses(tx.db, tx.dialect, made)
    moves.claim(list(made), reports.request.runner_id)
    jobs.set_attempts(tx.db, tx.dialect, made)
    known = moves.now(made)
    take_finished(reports, items, known, known)
