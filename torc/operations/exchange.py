"""The whole conversation of a runner in one transaction: report, unblock, claim, renew the lease."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, text

from torc.api.runs import (
    Assignment,
    Exchange,
    ExchangeReply,
    Finished,
    JobAttempt,
    NodeCapacity,
)
from torc.core.resources import Capacity, ResourceRequest
from torc.core.retry import Decision, Outcome, decide, rules_of
from torc.core.states import HELD, Event, State
from torc.operations.actions import finish_actions, fire, fire_reached, holds_jobs_back, take_due, unfinished
from torc.operations.dispatch import Tx, answers
from torc.operations.rows import loads, workflow_row
from torc.operations.runs import LEASE_SECONDS, expire_leases
from torc.store.claims import Wanted, choose, take
from torc.store.jobs import End, JobNow, Moves

_RUNNER = text("SELECT is_active, run_id, lease_expires_at FROM runner WHERE id = :id AND workflow_id = :workflow_id")
_RENEW = text(
    "UPDATE runner SET lease_expires_at = :lease, num_completed = num_completed + :completed, "
    "num_failed = num_failed + :failed WHERE id = :id"
)
_OTHERS_LATE = text(
    "SELECT 1 FROM runner WHERE workflow_id = :workflow_id AND is_active AND id <> :id AND lease_expires_at < :now LIMIT 1"
)
_ATTEMPT = text(
    "INSERT INTO attempt (workflow_id, job_id, run_id, attempt, runner_id, state, return_code, reason, detail, rule, "
    "is_current, started_at, ended_at, wall_seconds, user_cpu_seconds, system_cpu_seconds, peak_memory_bytes, usage, "
    "stderr_tail) VALUES (:workflow_id, :job_id, :run_id, :attempt, :runner_id, :state, :return_code, :reason, :detail, "
    ":rule, :is_current, :started_at, :ended_at, :wall_seconds, :user_cpu_seconds, :system_cpu_seconds, "
    ":peak_memory_bytes, :usage, :stderr_tail) ON CONFLICT (job_id, attempt) DO NOTHING"
)
_STOPPING = text("SELECT id, attempt FROM job WHERE runner_id = :id AND state NOT IN ('pending', 'running')")
_LET_GO = text("UPDATE job SET runner_id = NULL WHERE id = :id AND runner_id = :runner_id AND state = 'canceled'")
_COUNTS = text(
    "SELECT state, count FROM job_count WHERE workflow_id = :id AND count > 0 "
    "AND state IN ('uninitialized', 'blocked', 'ready', 'pending', 'running', 'pending_failed')"
)
_INTERRUPTED = text("SELECT 1 FROM job WHERE workflow_id = :id AND state = 'terminated' AND NOT counted LIMIT 1")
_END_RUN = text(
    "UPDATE workflow SET ended_at = :now, updated_at = :now WHERE id = :id AND ended_at IS NULL AND is_begun"
)

_ATTEMPT_STATE = {
    "succeeded": State.COMPLETED,
    "failed": State.FAILED,
    "terminated": State.TERMINATED,
    "interrupted": State.TERMINATED,
    "canceled": State.CANCELED,
}


class _Context(NamedTuple):
    tx: Tx
    workflow: RowMapping
    settings: Mapping[str, Any]
    request: Exchange
    moves: Moves


@answers(Exchange)
def exchange(tx: Tx, request: Exchange) -> ExchangeReply:
    """Take in what a runner reports and give it what to do next."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    runner = tx.db.execute(_RUNNER, {"id": request.runner_id, "workflow_id": workflow["id"]}).first()
    moves = Moves(tx.db, tx.dialect, workflow["id"])
    context = _Context(tx, workflow, loads(workflow["settings"], {}), request, moves)
    if runner is None or not runner[0]:
        return _answer_lost(context)
    others = {"workflow_id": workflow["id"], "id": request.runner_id, "now": tx.now}
    if tx.db.execute(_OTHERS_LATE, others).first():
        expire_leases(tx, workflow, but=request.runner_id)
    completed, failed = _take_reports(context)
    finish_actions(tx, workflow["id"], request.actions_finished)
    moves.finish(tx.now, tx.actor, has_job_actions=bool(workflow["has_job_actions"]))
    fire_reached(tx, workflow)
    if not (request.finished or request.started or request.actions_finished or request.stopping):
        fire(tx, workflow, "on_worker_start", f"runner:{request.runner_id}")
    reply = _give_work(context)
    tx.db.execute(
        _RENEW,
        {"id": request.runner_id, "lease": tx.now + LEASE_SECONDS, "completed": completed, "failed": failed},
    )
    return reply


# -- what is reported -------------------------------------------------------------------------------------------


def _take_reports(context: _Context) -> tuple[int, int]:
    """Apply the reports; gives how many attempts succeeded and how many did not."""
    request, moves = context.request, context.moves
    if not (request.finished or request.started or request.released):
        return 0, 0
    ids = {item.job_id for part in (request.finished, request.started, request.released) for item in part}
    jobs = moves.now(ids)
    ours = {job.id: job for job in jobs.values() if job.runner_id == request.runner_id}
    finished = {item.job_id: item for item in request.finished}
    moves.start(
        {
            item.job_id: item.started_at
            for item in request.started
            if item.job_id not in finished and _is_at(ours, item.job_id, item.attempt, {State.PENDING})
        },
        jobs,
    )
    released = [i.job_id for i in request.released if _is_at(ours, i.job_id, i.attempt, {State.PENDING})]
    moves.apply(Event.RELEASED, released)
    for item in request.released:
        if item.job_id in ours and ours[item.job_id].state is State.CANCELED:
            context.tx.db.execute(_LET_GO, {"id": item.job_id, "runner_id": request.runner_id})
    return _take_finished(context, jobs, ours)


def _is_at(jobs: Mapping[int, JobNow], job_id: int, attempt: int, states: set[State] | frozenset[State]) -> bool:
    job = jobs.get(job_id)
    return job is not None and job.attempt == attempt and job.state in states


def _take_finished(context: _Context, jobs: Mapping[int, JobNow], ours: Mapping[int, JobNow]) -> tuple[int, int]:
    rows: list[dict[str, Any]] = []
    ends: dict[Event, dict[int, End]] = defaultdict(dict)
    completed = failed = 0
    for item in context.request.finished:
        if item.job_id not in jobs:
            continue  # deleted meanwhile
        is_current = _is_at(ours, item.job_id, item.attempt, HELD)
        decision = Decision(Event.CANCELED)
        if is_current:
            decision = _decide(context, item, ours[item.job_id])
            ends[decision.event][item.job_id] = _end(item, decision)
        elif item.job_id in ours and ours[item.job_id].state is State.CANCELED:
            is_current = True
            context.tx.db.execute(_LET_GO, {"id": item.job_id, "runner_id": context.request.runner_id})
        completed += is_current and item.outcome == "succeeded"
        failed += is_current and item.outcome != "succeeded"
        rows.append(_attempt_row(context, item, decision, is_current=is_current))
    if rows:
        context.tx.db.execute(_ATTEMPT, rows)
    for event, reported in ends.items():
        context.moves.end(event, reported, jobs)
    return completed, failed


def _decide(context: _Context, item: Finished, job: JobNow) -> Decision:
    outcome = Outcome(item.outcome, item.return_code, item.reason)
    if item.outcome not in {"failed", "terminated"}:
        return decide(outcome)
    rules: Any = ()
    used: dict[int, int] = {}
    if job.failure_handler_id is not None:
        found = context.tx.db.execute(
            text("SELECT fields FROM named WHERE id = :id"), {"id": job.failure_handler_id}
        ).scalar()
        rules = rules_of(loads(found, {}))
        counted = text(
            "SELECT rule, count(*) FROM attempt WHERE job_id = :job_id AND run_id = :run_id AND rule IS NOT NULL GROUP BY rule"
        )
        rows = context.tx.db.execute(counted, {"job_id": job.id, "run_id": context.workflow["run_id"]})
        used = {row[0]: row[1] for row in rows}
    return decide(outcome, rules, used, use_pending_failed=bool(context.settings.get("use_pending_failed")))


def _end(item: Finished, decision: Decision) -> End:
    recovery = None
    if decision.event is Event.RETRIED:
        recovery = json.dumps({"script": decision.recovery_script, "return_code": item.return_code})
    return End(item.return_code, item.detail or item.reason, item.started_at, recovery)


def _attempt_row(context: _Context, item: Finished, decision: Decision, *, is_current: bool) -> dict[str, Any]:
    usage = item.usage
    return {
        "workflow_id": context.workflow["id"],
        "job_id": item.job_id,
        "run_id": context.workflow["run_id"],
        "attempt": item.attempt,
        "runner_id": context.request.runner_id,
        "state": _ATTEMPT_STATE[item.outcome].value,
        "return_code": item.return_code,
        "reason": item.reason,
        "detail": item.detail,
        "rule": decision.rule,
        "is_current": is_current,
        "started_at": item.started_at,
        "ended_at": item.ended_at,
        "wall_seconds": item.wall_seconds,
        "user_cpu_seconds": usage.user_cpu_seconds,
        "system_cpu_seconds": usage.system_cpu_seconds,
        "peak_memory_bytes": usage.peak_memory_bytes,
        "usage": _more_usage(item),
        "stderr_tail": item.stderr_tail,
    }


def _more_usage(item: Finished) -> str | None:
    usage = item.usage
    more = {
        "read_bytes": usage.read_bytes,
        "written_bytes": usage.written_bytes,
        "average_memory_bytes": usage.average_memory_bytes,
        "max_processes": usage.max_processes,
    }
    known = {key: value for key, value in more.items() if value is not None}
    return json.dumps(known) if known else None


def _answer_lost(context: _Context) -> ExchangeReply:
    """A runner whose lease ended learns it; its reports are recorded and change nothing that has moved on."""
    _take_finished(context, context.moves.now({item.job_id for item in context.request.finished}), {})
    context.moves.finish(context.tx.now, context.tx.actor)
    return ExchangeReply(done=True, lease_seconds=0.0, runner_is_lost=True)


# -- what is given ----------------------------------------------------------------------------------------------


def _give_work(context: _Context) -> ExchangeReply:
    tx, request, workflow = context.tx, context.request, context.workflow
    firings = unfinished(tx, workflow["id"])
    chosen: list[int] = []
    if not (request.stopping or workflow["is_canceled"] or holds_jobs_back(firings, request.runner_id)):
        chosen = _claim(context)
    counts = {State(row[0]): row[1] for row in tx.db.execute(_COUNTS, {"id": workflow["id"]})}
    done = not any(state in counts for state in (State.READY, State.PENDING, State.RUNNING))
    goes_on = done and tx.db.execute(_INTERRUPTED, {"id": workflow["id"]}).first() is not None
    if done and not counts and not goes_on:
        fire(tx, workflow, "on_workflow_complete")
    if done or request.stopping:
        fire(tx, workflow, "on_worker_complete", f"runner:{request.runner_id}")
        firings = unfinished(tx, workflow["id"])
    actions = take_due(tx, workflow["id"], request.runner_id, firings)
    ours = any(firing.is_for(request.runner_id) for firing in firings)
    if done and not ours and not goes_on and tx.db.execute(_END_RUN, {"id": workflow["id"], "now": tx.now}).rowcount:
        tx.event(workflow["id"], "run_ended", run_id=workflow["run_id"])
    stopping = tx.db.execute(_STOPPING, {"id": request.runner_id}).all()
    return ExchangeReply(
        assignments=_assignments(context, chosen),
        cancel=[JobAttempt(job_id=row[0], attempt=row[1]) for row in stopping],
        actions=actions,
        done=done and not ours,
        waiting=counts.get(State.READY, 0),
        stuck=_is_stuck(context, counts, bool(chosen or firings)),
        lease_seconds=LEASE_SECONDS,
    )


def _is_stuck(context: _Context, counts: Mapping[State, int], something_happens: bool) -> bool:
    """Tell whether ready jobs wait for a larger runner, and for nothing else."""
    if something_happens or context.request.stopping or context.request.limit == 0:
        return False
    return State.READY in counts and not (State.PENDING in counts or State.RUNNING in counts)


def _claim(context: _Context) -> list[int]:
    request, tx = context.request, context.tx
    wanted = Wanted(
        _capacity(request.free),
        request.limit,
        _capacity(request.total or request.free),
        request.claim_ahead,
        request.ignore_resources,
        context.settings.get("jobs_sort_method", "none"),
    )
    offer = choose(tx.db, context.workflow["id"], wanted)
    ids = [job.id for job in offer.jobs]
    if ids:
        take(tx.db, tx.dialect, ids, request.runner_id)
        context.moves.claimed(ids)
        context.moves.finish(tx.now, tx.actor)
    return ids


def _capacity(node: NodeCapacity) -> Capacity:
    return Capacity(node.num_cpus, node.memory_bytes, node.num_gpus, node.runtime_seconds)


def _assignments(context: _Context, ids: Sequence[int]) -> list[Assignment]:
    if not ids:
        return []
    tx = context.tx
    rows = tx.db.execute(
        text(
            "SELECT j.id, j.name, j.attempt, j.command, j.invocation_script, j.env, j.has_outputs, j.supports_termination, "
            "j.recovery, r.num_cpus, r.num_gpus, r.num_nodes, r.memory_bytes, r.runtime_seconds FROM job j "
            f"JOIN requirement r ON r.id = j.requirement_id WHERE j.id IN {tx.dialect.id_list}"
        ),
        {"ids": tx.dialect.ids(ids)},
    ).all()
    outputs = _outputs(tx, [row[0] for row in rows if row[6]])
    by_id = {row[0]: _assignment(row, outputs.get(row[0], [])) for row in rows}
    return [by_id[job_id] for job_id in ids]


def _assignment(row: Any, outputs: list[str]) -> Assignment:
    recovery = loads(row[8], {})
    return Assignment(
        job_id=row[0],
        name=row[1],
        attempt=row[2],
        command=row[3],
        invocation_script=row[4],
        env=loads(row[5], {}),
        outputs=outputs,
        supports_termination=bool(row[7]),
        recovery_script=recovery.get("script"),
        previous_return_code=recovery.get("return_code"),
        request=ResourceRequest(*row[9:14]),
    )


def _outputs(tx: Tx, ids: Sequence[int]) -> dict[int, list[str]]:
    if not ids:
        return {}
    found: dict[int, list[str]] = defaultdict(list)
    query = text(f"SELECT producer_job_id, path FROM file WHERE producer_job_id IN {tx.dialect.id_list} ORDER BY id")
    for job_id, path in tx.db.execute(query, {"ids": tx.dialect.ids(ids)}):
        found[job_id].append(path)
    return found
