"""The whole communication of a runner in one transaction: report, unblock, claim, renew the lease."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from torc.api.runs import Assignment, Exchange, ExchangeReply, GivenUp, JobAttempt
from torc.operations.actions import (
    finish_actions,
    fire,
    fire_for_runner,
    fire_reached,
    holds_jobs_back,
    let_go,
    start_actions,
    take_due,
    unfinished,
)
from torc.operations.attempt_reports import ReportContext, take_reports
from torc.operations.dispatch import Tx, answers
from torc.operations.late_results import known_runner, take_late
from torc.operations.lost_runners import RunnerLoss, lose
from torc.operations.row_mapping import capacity_of, workflow_row
from torc.operations.runs import LEASE_SECONDS, expire_leases, renew_leases
from torc.operations.spending import within_budget
from torc.planning.scheduler_types import is_in_allocation
from torc.store import files, fingerprints, runners, workflows
from torc.store.claims import ClaimRequest, choose
from torc.store.json_columns import loads
from torc.store.transitions import ClaimedJob, Transitions
from torc.workflow.exit_codes import counted
from torc.workflow.lifecycle import may_start_jobs
from torc.workflow.packing import Candidate
from torc.workflow.resources import Pool
from torc.workflow.states import JobEvent, State

_MOST_INPUTS = 100
#: nothing more happens to jobs in these by itself
_AT_REST = frozenset({State.COMPLETED, State.FAILED, State.CANCELED, State.TERMINATED, State.DISABLED})


@answers(Exchange)
def exchange(tx: Tx, request: Exchange) -> ExchangeReply:
    """Apply what a runner reports, and return what it must do next."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    found = known_runner(tx, workflow, request)
    run_id, runner_id = (found.run_id, request.runner_id) if found else (workflow["run_id"], None)
    moves = Transitions(tx.db, tx.dialect, workflow["id"])
    context = ReportContext(tx, workflow, loads(workflow["settings"], {}), request, moves, run_id, runner_id)
    if found is None or not found.is_active:
        take_late(context, found)
        return ExchangeReply(done=True, lease_seconds=0.0, runner_is_lost=True)
    if _is_overtaken(request, found.last_exchange):
        return ExchangeReply(done=False, lease_seconds=LEASE_SECONDS)
    if runners.others_are_late(tx.db, tx.dialect, workflow["id"], request.runner_id, tx.now):
        if (
            found.lease_expires_at < tx.now
        ):  # its own lease has passed too: the store was away, and all were silent for that
            renew_leases(tx, workflow["id"])
        else:
            expire_leases(tx, workflow, but=request.runner_id)
    completed, failed = take_reports(context)
    start_actions(tx, request.runner_id, request.actions_started)
    finish_actions(tx, workflow["id"], request.actions_finished)
    if request.held is not None:
        _take_back(context, request.held)
    if workflow["has_job_actions"]:
        moves.finish(tx.now, tx.actor, has_job_actions=True)
        fire_reached(tx, workflow)
    if not (request.finished or request.started or request.actions_finished or request.stopping):
        fire_for_runner(tx, workflow, request.runner_id)
    reply = _give_work(context, found.kind, loads(found.labels, {}))
    if is_in_allocation(found.kind) and not reply.assignments:
        is_busy = found.allocation_id is not None and runners.hold_jobs_in(tx.db, tx.dialect, found.allocation_id)
        reply = reply.model_copy(update={"idle_around": not is_busy})
    renewal = runners.Renewal(
        id=request.runner_id,
        lease=tx.now + LEASE_SECONDS,
        completed=completed,
        failed=failed,
        number=max(request.number, found.last_exchange),
    )
    runners.renew(tx.db, tx.dialect, renewal)
    return reply


def _is_overtaken(request: Exchange, last: int) -> bool:
    """Return whether this exchange, or a later one of the runner, was already answered: networks delay and repeat messages.

    The runner no longer waits for it and has since reported everything again. What it says about held jobs is out of date: applying it
    would take back running jobs, and assign work to nobody.
    """
    return 0 < request.number < last or (request.number == last > 0 and not request.asked_again)


def _give_work(context: ReportContext, kind: str, labels: Mapping[str, str]) -> ExchangeReply:
    tx, request, workflow = context.tx, context.request, context.workflow
    firings = unfinished(tx, workflow["id"])
    assignments: list[Assignment] = []
    next_due: float | None = None
    if may_start_jobs(workflow) and not (request.stopping or holds_jobs_back(firings, request.runner_id)):
        next_due = context.moves.wake_due(tx.now)
        assignments = _claim(context, kind, labels)
        if not assignments and is_in_allocation(kind) and _take_up_interrupted(context):
            assignments = _claim(context, kind, labels)
    context.moves.finish(tx.now, tx.actor)
    counts = workflows.counts_of(tx.db, tx.dialect, workflow["id"])
    done = not any(state in counts for state in (State.READY, State.PENDING, State.RUNNING))
    to_be_continued = done and State.TERMINATED in counts and context.moves.has_interrupted()
    if done and not to_be_continued and counts.keys() <= _AT_REST:
        fire(tx, workflow, "on_workflow_complete")
    if done or request.stopping:
        fire(tx, workflow, "on_worker_complete", f"runner:{request.runner_id}")
        firings = unfinished(tx, workflow["id"])
    actions = take_due(tx, workflow["id"], request.runner_id, firings)
    ours = any(firing.is_for(request.runner_id) for firing in firings)
    if done and not ours and not to_be_continued and workflows.end_run(tx.db, tx.dialect, workflow["id"], tx.now):
        tx.event(workflow["id"], "run_ended", run_id=workflow["run_id"])
    # what was given to nobody before runs nowhere
    was_begun = bool(actions) or any(item.attempt > 1 for item in assignments)
    left = runners.given_up_beside(tx.db, tx.dialect, request.runner_id) if was_begun else []
    stopping = runners.canceled_jobs(tx.db, tx.dialect, request.runner_id)
    return ExchangeReply(
        assignments=assignments,
        cancel=[JobAttempt(job_id=job.id, attempt=job.attempt) for job in stopping],
        actions=actions,
        done=done and not ours,
        given_up=[GivenUp(runner_id=other.id, pid=other.pid, process_started=other.process_started) for other in left],
        waiting=counts.get(State.READY, 0),
        stuck=_is_stuck(context, counts, bool(assignments or firings or next_due is not None)),
        due_seconds=None if next_due is None else max(0.0, next_due - tx.now),
        lease_seconds=LEASE_SECONDS,
    )


def _take_back(context: ReportContext, held: Sequence[JobAttempt]) -> None:
    """Return jobs to ready that a runner does not know of.

    They were assigned in a reply that did not arrive, or their end was reported to a store that crashed and forgot it.
    """
    tx, request = context.tx, context.request
    known = {(item.job_id, item.attempt) for item in held}
    unknown_jobs = [
        job for job in runners.given_jobs(tx.db, tx.dialect, request.runner_id) if (job.id, job.attempt) not in known
    ]
    context.moves.apply(JobEvent.RELEASED, [job.id for job in unknown_jobs if job.state == State.PENDING])
    forgotten = [job.id for job in unknown_jobs if job.state == State.RUNNING]
    if forgotten:
        lose(
            tx,
            context.workflow,
            request.runner_id,
            context.moves.now(forgotten),
            context.moves,
            RunnerLoss("report lost"),
        )
    let_go(tx, context.workflow["id"], request.runner_id, known=request.held_actions, is_here=True)


def _take_up_interrupted(context: ReportContext) -> bool:
    """Resume jobs interrupted by the end of another allocation: a runner with room continues them at once."""
    request, tx = context.request, context.tx
    if not request.limit or capacity_of(request.free).is_full:
        return False
    if State.TERMINATED not in workflows.counts_of(tx.db, tx.dialect, context.workflow["id"]):
        return False
    return bool(context.moves.apply(JobEvent.RESUMED, context.moves.interrupted()))


def _is_stuck(context: ReportContext, counts: Mapping[State, int], something_happens: bool) -> bool:
    """Return whether ready jobs are waiting for a larger runner, and for nothing else."""
    if something_happens or context.request.stopping or context.request.limit == 0:
        return False
    return State.READY in counts and not (State.PENDING in counts or State.RUNNING in counts)


def _claim(context: ReportContext, kind: str, labels: Mapping[str, str]) -> list[Assignment]:
    """Claim jobs for this runner: `torc run` takes all; others take jobs without a scheduler and those of their own."""
    request, tx = context.request, context.tx
    wanted = ClaimRequest(
        capacity_of(request.free),
        request.limit,
        capacity_of(request.total or request.free),
        request.claim_ahead,
        request.ignore_resources,
        context.settings.get("jobs_sort_method") or "none",
        labels.get("scheduler"),
        kind == "local",
        ends=is_in_allocation(kind),
    )
    chosen = choose(tx.db, tx.dialect, context.workflow["id"], wanted)
    if chosen and context.workflow["charged_to"] is not None:
        total = wanted.total
        chosen = within_budget(tx, context.workflow, chosen, total.nodes[0] if isinstance(total, Pool) else total)
    if not chosen:
        return []
    claimed = context.moves.claim([job.id for job in chosen], request.runner_id)
    outputs = files.written_by(tx.db, tx.dialect, [job.id for job in claimed.values() if job.has_outputs])
    inputs = _inputs(tx, list(claimed)) if is_in_allocation(kind) else {}
    sets = {job.input_set_id for job in claimed.values() if job.input_set_id is not None}
    data = fingerprints.user_data_hashes(tx.db, tx.dialect, sets)
    return [_assignment(claimed[job.id], job, outputs.get(job.id, []), inputs.get(job.id, []), data) for job in chosen]


def _assignment(
    job: ClaimedJob, candidate: Candidate, outputs: list[str], inputs: list[str], data: Mapping[int, str]
) -> Assignment:
    previous = job.recovery.get("return_code")
    return Assignment(
        job_id=job.id,
        name=job.name,
        attempt=job.attempt,
        **job.fields,
        outputs=outputs,
        inputs=inputs,
        recovery_script=job.recovery.get("script"),
        previous_return_code=None if previous is None else counted(previous),
        request=candidate.request,
        user_data_hash=None if job.input_set_id is None else data.get(job.input_set_id),
    )


def _inputs(tx: Tx, ids: Sequence[int]) -> dict[int, list[str]]:
    """Return what other jobs have written for these, not more than a look at each is worth."""
    found: dict[int, list[str]] = defaultdict(list)
    for job_id, path in files.written_for(tx.db, tx.dialect, ids):
        if len(found[job_id]) < _MOST_INPUTS:
            found[job_id].append(path)
    return found
