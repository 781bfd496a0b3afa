"""Reset, cancel and disable jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torc.api.jobs import ActOnJobs
from torc.api.workflows import CancelWorkflow, Change, Changes, InitializeWorkflow, ResetWorkflow, Workflow
from torc.errors import Conflict, NotFound
from torc.operations.dispatch import DryRun, Tx, answers
from torc.operations.input_hashes import keep_fingerprints
from torc.operations.row_mapping import grow_version, workflow_of, workflow_row
from torc.operations.runs import end_runners
from torc.operations.workflows import refuse_while_running
from torc.store import attempts, gates, user_data
from torc.store import jobs as job_rows
from torc.store import runners as runner_rows
from torc.store import workflows as workflow_rows
from torc.store.transitions import JobStatus, Transitions
from torc.workflow.states import FINISHED, HELD, UNSUCCESSFUL, JobEvent, State, moves


def changes_of(
    tx: Tx, workflow_id: int, before: Mapping[int, State], reasons: Mapping[int, str], limit: int, *, applied: bool
) -> Changes:
    """Compare the states of jobs with what they were."""
    now = job_rows.states(tx.db, tx.dialect, workflow_id)
    changed = sorted(job for job, state in before.items() if job in now and (now[job] is not state or job in reasons))
    names = job_rows.names(tx.db, tx.dialect, changed[:limit])
    run_id = workflow_row(tx, workflow_id)["run_id"]
    return Changes(
        applied=applied,
        run_id=run_id,
        changes=[
            Change(
                job_id=job,
                job_name=names[job],
                state=before[job],
                new_state=now[job],
                reason=reasons.get(job, "follows from the others"),
            )
            for job in changed[:limit]
        ],
        total=len(changed),
    )


@answers(ResetWorkflow)
def reset_workflow(tx: Tx, request: ResetWorkflow) -> Changes:
    """Reset all jobs, or the unsuccessful ones and everything downstream."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    if not request.force:
        refuse_while_running(tx, row["id"], "reset")
    before = job_rows.states(tx.db, tx.dialect, row["id"])
    end_runners(tx, row, "the workflow was reset")
    if request.failed_only:
        roots = [job for job, state in before.items() if state in UNSUCCESSFUL]
        chosen = _behind(tx, roots, before)
        unsuccessful = set(roots)
        reasons = {
            job: f"was {before[job]}" if job in unsuccessful else "is behind a job that is reset" for job in chosen
        }
    else:
        chosen = {job for job, state in before.items() if state is not State.DISABLED}
        reasons = {job: "all jobs are reset" for job in chosen if before[job] in FINISHED | {State.PENDING_FAILED}}
    return reset_jobs(tx, row["id"], chosen, before, reasons, request)


def _behind(tx: Tx, roots: Collection[int], before: Mapping[int, State]) -> set[int]:
    """Return jobs and those downstream, except disabled ones."""
    asked = set(roots)
    return {
        job for job in gates.downstream(tx.db, tx.dialect, roots) if job in asked or before[job] is not State.DISABLED
    }


def reset_jobs(
    tx: Tx,
    workflow_id: int,
    chosen: Collection[int],
    before: Mapping[int, State],
    reasons: Mapping[int, str],
    request: ResetWorkflow | ActOnJobs,
) -> Changes:
    """Return the chosen jobs to ready or blocked in a new run."""
    make_due(tx, workflow_id, chosen, before, forget_all=isinstance(request, ResetWorkflow) and not request.failed_only)
    changes = changes_of(tx, workflow_id, before, reasons, request.limit, applied=not request.dry_run)
    if request.dry_run:
        raise DryRun(changes)
    tx.event(workflow_id, "workflow_reset", num_jobs=changes.total)
    return changes


def make_due(
    tx: Tx, workflow_id: int, chosen: Collection[int], before: Mapping[int, State], *, forget_all: bool = False
) -> None:
    """Make jobs ready or blocked for a new run, and clear the ephemeral user data that they write (or all of it).

    While runners work on other jobs, the run continues with these, and their results so far are no longer current. Runners that hold
    some of these jobs lose everything that they hold.
    """
    workflow = workflow_row(tx, workflow_id)
    end_runners(tx, workflow, "jobs that it ran were reset", holding=[job for job in chosen if before[job] in HELD])
    moves = Transitions(tx.db, tx.dialect, workflow_id)
    if len(chosen) == moves.num_enabled() and all(before[job] is not State.DISABLED for job in chosen):
        moves.reset_all()
    else:
        moves.reset(chosen)
    moves.finish(tx.now, tx.actor)
    goes_on = bool(workflow["is_begun"]) and runner_rows.num_active(tx.db, workflow_id) > 0
    if goes_on:
        attempts.outdate(tx.db, tx.dialect, workflow["run_id"], chosen)
    changes = {"is_begun": goes_on, "is_canceled": False, "ended_at": None}
    workflow_rows.update(tx.db, workflow_id, changes)
    grow_version(tx, workflow_id)
    forgotten = user_data.ephemeral(tx.db, tx.dialect, workflow_id, None if forget_all else chosen)
    if forgotten:
        keep_fingerprints(tx, workflow_id, reading=forgotten)
        user_data.clear(tx.db, tx.dialect, forgotten)


@answers(InitializeWorkflow)
def initialize_workflow(tx: Tx, request: InitializeWorkflow) -> Workflow:
    """Make uninitialized jobs blocked or ready."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    moved = Transitions(tx.db, tx.dialect, row["id"])
    moved.initialize(list(job_rows.states(tx.db, tx.dialect, row["id"], State.UNINITIALIZED)))
    moved.finish(tx.now, tx.actor)
    return workflow_of(tx, row)


@answers(CancelWorkflow)
def cancel_workflow(tx: Tx, request: CancelWorkflow) -> Workflow:
    """Cancel every unfinished job."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    moved = Transitions(tx.db, tx.dialect, row["id"])
    canceled = moved.cancel_all(reason=f"canceled by {tx.actor}")
    moved.finish(tx.now, tx.actor, has_job_actions=bool(row["has_job_actions"]))
    if canceled:
        ended_at = tx.now if row["ended_at"] is None else row["ended_at"]
        workflow_rows.update(tx.db, row["id"], {"is_canceled": True, "ended_at": ended_at})
        grow_version(tx, row["id"])
        tx.event(row["id"], "workflow_canceled", num_jobs=len(canceled))
    return workflow_of(tx, workflow_row(tx, row["id"]))


_ACTIONS = {"cancel": JobEvent.CANCELED, "disable": JobEvent.DISABLED}


@answers(ActOnJobs)
def act_on_jobs(tx: Tx, request: ActOnJobs) -> Changes:
    """Apply one action to many jobs, all or none."""
    row = workflow_row(tx, request.workflow_id, lock=True)
    moved = Transitions(tx.db, tx.dialect, row["id"])
    jobs = moved.now(request.job_ids)
    before = job_rows.states(tx.db, tx.dialect, row["id"])
    for job_id in request.job_ids:
        if job_id not in jobs or job_id not in before:
            raise NotFound(f"workflow {row['id']} has no job {job_id}", hint=f"torc jobs list {row['id']}")
    reasons = dict.fromkeys(request.job_ids, f"{request.action} by {tx.actor}")
    if request.action in _ACTIONS:
        event = _ACTIONS[request.action]
        _refuse_unable(request.job_ids, jobs, event, request.action)
        moved.apply(event, request.job_ids, reason=f"{request.action} by {tx.actor}")
        moved.finish(tx.now, tx.actor, has_job_actions=bool(row["has_job_actions"]))
        grow_version(tx, row["id"])
        changes = changes_of(tx, row["id"], before, reasons, request.limit, applied=not request.dry_run)
        if request.dry_run:
            raise DryRun(changes)
        return changes
    chosen: Collection[int] = list(request.job_ids)
    if request.action == "run-again":
        chosen = _behind(tx, request.job_ids, before)
    if request.action == "enable":
        _refuse_unless(request.job_ids, jobs, {State.DISABLED}, "enabled")
    _refuse_held(chosen, before)
    return reset_jobs(tx, row["id"], chosen, before, reasons, request)


def _refuse_unable(ids: Sequence[int], jobs: Mapping[int, JobStatus], event: JobEvent, action: str) -> None:
    for job_id in ids:
        if jobs[job_id].state not in moves(event):
            raise Conflict(f"job {job_id} is {jobs[job_id].state}: it cannot {action}", hint="nothing was changed")


def _refuse_unless(ids: Sequence[int], jobs: Mapping[int, JobStatus], states: Collection[State], done: str) -> None:
    for job_id in ids:
        if jobs[job_id].state not in states:
            raise Conflict(f"job {job_id} is {jobs[job_id].state}: it cannot be {done}", hint="nothing was changed")


def _refuse_held(ids: Collection[int], before: Mapping[int, State]) -> None:
    for job_id in ids:
        if before[job_id] in HELD:
            raise Conflict(f"job {job_id} is {before[job_id]}", hint="cancel it, or wait until it has ended")
