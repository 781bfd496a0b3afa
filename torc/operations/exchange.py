"""The whole conversation of a runner in one transaction: report, unblock, claim, renew the lease."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

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
from torc.store.attempt_content import user_data_hashes
from torc.store.claims import ClaimRequest, choose
from torc.store.json_columns import loads
from torc.store.transitions import Transitions
from torc.workflow.exit_codes import counted
from torc.workflow.lifecycle import may_start_jobs
from torc.workflow.packing import Candidate
from torc.workflow.resources import Pool
from torc.workflow.states import Event, State

_RENEW = (
    "UPDATE runner SET lease_expires_at = :lease, num_completed = num_completed + :completed, "
    "num_failed = num_failed + :failed, last_exchange = :number WHERE id = :id"
)
_OTHERS_LATE = "SELECT 1 FROM runner WHERE workflow_id = :workflow_id AND is_active AND id <> :id AND lease_expires_at < :now LIMIT 1"
_GIVEN = "SELECT id, attempt, state FROM job WHERE runner_id = :id AND state IN ('pending', 'running')"
_BUSY_AROUND = "SELECT 1 FROM job j JOIN runner r ON r.id = j.runner_id WHERE r.allocation_id = :allocation_id AND r.is_active LIMIT 1"
_STOPPING = "SELECT id, attempt FROM job WHERE runner_id = :id AND state = 'canceled'"
_COUNTS = "SELECT state, count FROM job_count WHERE workflow_id = :id AND count > 0"
_INTERRUPTED = "SELECT 1 FROM job WHERE workflow_id = :id AND state = 'terminated' AND NOT counted LIMIT 1"
_ALL_INTERRUPTED = "SELECT id FROM job WHERE workflow_id = :id AND state = 'terminated' AND NOT counted"
_END_RUN = "UPDATE workflow SET ended_at = :now, updated_at = :now WHERE id = :id AND ended_at IS NULL AND is_begun"
#: how runners end that have ended what they had running themselves
_ENDED_ALL = "('finished', 'stopped', 'failed', 'died')"
_GIVEN_UP = (
    "SELECT o.id, o.pid, o.process_started FROM runner o JOIN runner r ON r.host = o.host AND r.boot_id = o.boot_id "
    "WHERE r.id = :id AND o.workflow_id = r.workflow_id AND o.id <> r.id AND NOT o.is_active "
    f"AND coalesce(o.end_reason, '') NOT IN {_ENDED_ALL} ORDER BY o.id"
)
_MOST_INPUTS = 100
#: nothing more happens to jobs in these by itself
_AT_REST = frozenset({State.COMPLETED, State.FAILED, State.CANCELED, State.TERMINATED, State.DISABLED})


@answers(Exchange)
def exchange(tx: Tx, request: Exchange) -> ExchangeReply:
    """Take in what a runner reports and give it what to do next."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    ours = {"id": request.runner_id, "workflow_id": workflow["id"], "now": tx.now}
    found = known_runner(tx, workflow, request)
    run_id, runner_id = (found[1], request.runner_id) if found else (workflow["run_id"], None)
    moves = Transitions(tx.db, tx.dialect, workflow["id"])
    context = ReportContext(tx, workflow, loads(workflow["settings"], {}), request, moves, run_id, runner_id)
    if found is None or not found[0]:
        take_late(context, found)
        return ExchangeReply(done=True, lease_seconds=0.0, runner_is_lost=True)
    if _is_overtaken(request, found[8]):
        return ExchangeReply(done=False, lease_seconds=LEASE_SECONDS)
    if tx.dialect.fetch(tx.db, _OTHERS_LATE, ours):
        if found[6] < tx.now:  # its own lease has passed too: the store was away, and all were silent for that
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
    reply = _give_work(context, found[2], loads(found[3], {}))
    if found[2] == "slurm" and not reply.assignments:
        around = {"allocation_id": found[4]}
        is_idle = not (found[4] and tx.dialect.fetch(tx.db, _BUSY_AROUND, around))
        reply = reply.model_copy(update={"idle_around": is_idle})
    lease = {
        "id": request.runner_id,
        "lease": tx.now + LEASE_SECONDS,
        "completed": completed,
        "failed": failed,
        "number": max(request.number, found[8]),
    }
    tx.dialect.run(tx.db, _RENEW, lease)
    return reply


def _is_overtaken(request: Exchange, last: int) -> bool:
    """Return whether a later exchange of the runner has been answered, or this one before: a network delays and repeats.

    The runner has stopped waiting for it and has told all of it again since. What it says of what the runner holds is
    history: acted on, it would take back what runs, and give work to nobody.
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
        if not assignments and kind == "slurm" and _take_up_interrupted(context):
            assignments = _claim(context, kind, labels)
    context.moves.finish(tx.now, tx.actor)
    counts = {State(row[0]): row[1] for row in tx.dialect.fetch(tx.db, _COUNTS, {"id": workflow["id"]})}
    done = not any(state in counts for state in (State.READY, State.PENDING, State.RUNNING))
    to_be_continued = done and State.TERMINATED in counts and _is_interrupted(context)
    if done and not to_be_continued and counts.keys() <= _AT_REST:
        fire(tx, workflow, "on_workflow_complete")
    if done or request.stopping:
        fire(tx, workflow, "on_worker_complete", f"runner:{request.runner_id}")
        firings = unfinished(tx, workflow["id"])
    actions = take_due(tx, workflow["id"], request.runner_id, firings)
    ours = any(firing.is_for(request.runner_id) for firing in firings)
    ended = {"id": workflow["id"], "now": tx.now}
    if done and not ours and not to_be_continued and tx.dialect.run(tx.db, _END_RUN, ended):
        tx.event(workflow["id"], "run_ended", run_id=workflow["run_id"])
    # what was given to nobody before runs nowhere
    was_begun = bool(actions) or any(item.attempt > 1 for item in assignments)
    left = tx.dialect.fetch(tx.db, _GIVEN_UP, {"id": request.runner_id}) if was_begun else []
    stopping = tx.dialect.fetch(tx.db, _STOPPING, {"id": request.runner_id})
    return ExchangeReply(
        assignments=assignments,
        cancel=[JobAttempt(job_id=row[0], attempt=row[1]) for row in stopping],
        actions=actions,
        done=done and not ours,
        given_up=[GivenUp(runner_id=row[0], pid=row[1], process_started=row[2]) for row in left],
        waiting=counts.get(State.READY, 0),
        stuck=_is_stuck(context, counts, bool(assignments or firings or next_due is not None)),
        due_seconds=None if next_due is None else max(0.0, next_due - tx.now),
        lease_seconds=LEASE_SECONDS,
    )


def _take_back(context: ReportContext, held: Sequence[JobAttempt]) -> None:
    """Make due again what a runner does not know of.

    It was given in an answer that did not arrive; or its end was reported to a store that crashed and forgot it.
    """
    tx, request = context.tx, context.request
    known = {(item.job_id, item.attempt) for item in held}
    given = tx.dialect.fetch(tx.db, _GIVEN, {"id": request.runner_id})
    unknown_jobs = [row for row in given if (row[0], row[1]) not in known]
    context.moves.apply(Event.RELEASED, [row[0] for row in unknown_jobs if row[2] == State.PENDING])
    forgotten = [row[0] for row in unknown_jobs if row[2] == State.RUNNING]
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
    """Make jobs due again that the end of another allocation has interrupted: a runner with room goes on with them at once."""
    request, tx = context.request, context.tx
    if not request.limit or capacity_of(request.free).is_full:
        return False
    counts = {row[0] for row in tx.dialect.fetch(tx.db, _COUNTS, {"id": context.workflow["id"]})}
    if State.TERMINATED not in counts:
        return False
    found = [row[0] for row in tx.dialect.fetch(tx.db, _ALL_INTERRUPTED, {"id": context.workflow["id"]})]
    return bool(context.moves.apply(Event.RESUMED, found))


def _is_interrupted(context: ReportContext) -> bool:
    """Return whether a terminated job is to be continued, so that the run has not come to its end."""
    return bool(context.tx.dialect.fetch(context.tx.db, _INTERRUPTED, {"id": context.workflow["id"]}))


def _is_stuck(context: ReportContext, counts: Mapping[State, int], something_happens: bool) -> bool:
    """Return whether ready jobs wait for a larger runner, and for nothing else."""
    if something_happens or context.request.stopping or context.request.limit == 0:
        return False
    return State.READY in counts and not (State.PENDING in counts or State.RUNNING in counts)


def _claim(context: ReportContext, kind: str, labels: Mapping[str, str]) -> list[Assignment]:
    """Claim what this runner may take: `torc run` takes all; others what no scheduler is named for, or their own."""
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
        ends=kind == "slurm",
    )
    chosen = choose(tx.db, tx.dialect, context.workflow["id"], wanted)
    if chosen and context.workflow["charged_to"] is not None:
        total = wanted.total
        chosen = within_budget(tx, context.workflow, chosen, total.nodes[0] if isinstance(total, Pool) else total)
    if not chosen:
        return []
    rows = context.moves.claim([job.id for job in chosen], request.runner_id)
    outputs = _outputs(tx, [row[0] for row in rows if row[6]])
    inputs = _inputs(tx, [row[0] for row in rows]) if kind == "slurm" else {}
    by_id = {row[0]: row for row in rows}
    data = user_data_hashes(tx.db, tx.dialect, {row[10] for row in rows if row[10] is not None})
    return [_assignment(by_id[job.id], job, outputs.get(job.id, []), inputs.get(job.id, []), data) for job in chosen]


def _assignment(row: Any, job: Candidate, outputs: list[str], inputs: list[str], data: Mapping[int, str]) -> Assignment:
    recovery = loads(row[8], {})
    previous = recovery.get("return_code")
    return Assignment(
        job_id=row[0],
        name=row[1],
        attempt=row[2],
        command=row[3],
        invocation_script=row[4],
        env=loads(row[5], {}),
        outputs=outputs,
        inputs=inputs,
        supports_termination=bool(row[7]),
        keep_background_processes=bool(row[9]),
        recovery_script=recovery.get("script"),
        previous_return_code=None if previous is None else counted(previous),
        request=job.request,
        user_data_hash=data.get(row[10]),
    )


def _inputs(tx: Tx, ids: Sequence[int]) -> dict[int, list[str]]:
    """Return what other jobs have written for these, not more than a look at each is worth."""
    found: dict[int, list[str]] = defaultdict(list)
    query = (
        "SELECT j.id, f.path FROM job j JOIN input_file i ON i.input_set_id = j.input_set_id JOIN file f ON f.id = i.file_id "
        f"WHERE f.producer_job_id IS NOT NULL AND j.id IN {tx.dialect.id_list}"
    )
    for job_id, path in tx.dialect.fetch(tx.db, query, {"ids": tx.dialect.ids(ids)}):
        if len(found[job_id]) < _MOST_INPUTS:
            found[job_id].append(path)
    return found


def _outputs(tx: Tx, ids: Sequence[int]) -> dict[int, list[str]]:
    if not ids:
        return {}
    found: dict[int, list[str]] = defaultdict(list)
    query = f"SELECT producer_job_id, path FROM file WHERE producer_job_id IN {tx.dialect.id_list} ORDER BY id"
    for job_id, path in tx.dialect.fetch(tx.db, query, {"ids": tx.dialect.ids(ids)}):
        found[job_id].append(path)
    return found
