"""Runners' reports about attempts: each is recorded once, and applied if the job is still where the runner thinks it is."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import RowMapping

from torc.api.runs import Exchange, Finished, JobAttempt
from torc.failures.retry import RetryDecision
from torc.operations.dispatch import Tx
from torc.operations.failure_handlers import handle
from torc.store import attempts, jobs
from torc.store.transitions import AttemptEnd, JobStatus, Transitions
from torc.workflow.states import HELD, JobEvent, State

#: what of the usage has a column of its own
_COLUMNS = {"user_cpu_seconds", "system_cpu_seconds", "peak_memory_bytes"}
_ATTEMPT_STATE = {
    "succeeded": State.COMPLETED,
    "failed": State.FAILED,
    "terminated": State.TERMINATED,
    "interrupted": State.TERMINATED,
    "canceled": State.CANCELED,
}


class ReportContext(NamedTuple):
    """The runner that reports, and the transaction."""

    tx: Tx
    workflow: RowMapping
    settings: Mapping[str, Any]
    request: Exchange
    moves: Transitions
    run_id: int  # of the runner
    runner_id: int | None  # None: this store does not know the runner


def take_reports(reports: ReportContext) -> tuple[int, int]:
    """Apply the reports; return how many attempts succeeded and how many did not."""
    request = reports.request
    if not (request.finished or request.started or request.released):
        return 0, 0
    finished: dict[int, Finished] = {}
    for report in request.finished:
        finished.setdefault(report.job_id, report)  # the first one counts, in the same message too
    known = reports.moves.now(
        {item.job_id for part in (finished.values(), request.started, request.released) for item in part}
    )
    ours = {job.id: job for job in known.values() if job.runner_id == request.runner_id}
    started = {
        item.job_id: item.started_at
        for item in request.started
        if item.job_id not in finished and _is_at(ours, item, {State.PENDING})
    }
    reports.moves.start(started, known)
    released = [item for item in request.released if item.job_id not in finished and item.job_id not in started]
    pending = [item.job_id for item in released if _is_at(ours, item, {State.PENDING})]
    _give_back(reports, pending)
    _let_go(reports, [item for item in released if _is_at(ours, item, {State.CANCELED})])
    return take_finished(reports, finished.values(), known, ours)


def _give_back(reports: ReportContext, ids: Sequence[int]) -> None:
    """Return jobs to ready that a runner claimed, never started, and gives back.

    Their attempts did not start, so the next attempt has the same number: jobs decide by it whether to resume. This is not for attempts
    that a runner merely does not know of, which may have ended, with a crashed store having forgotten the report.
    """
    reports.moves.apply(JobEvent.RELEASED, ids)
    jobs.take_back_attempts(reports.tx.db, reports.tx.dialect, ids)


def _is_at(known: Mapping[int, JobStatus], item: Any, states: Collection[State]) -> bool:
    job = known.get(item.job_id)
    return job is not None and job.attempt == item.attempt and job.state in states


def _let_go(reports: ReportContext, items: Collection[JobAttempt | Finished]) -> None:
    """Remove canceled jobs from the runner, which has stopped them."""
    stopped = {item.job_id: item.attempt for item in items}
    jobs.release_canceled(reports.tx.db, reports.tx.dialect, reports.request.runner_id, stopped)


def take_finished(
    reports: ReportContext,
    finished: Collection[Finished],
    known: Mapping[int, JobStatus],
    ours: Mapping[int, JobStatus],
) -> tuple[int, int]:
    """Apply the ends of attempts of `ours` and record the others; return how many succeeded and how many did not."""
    rows: list[dict[str, Any]] = []
    ends: dict[JobEvent, dict[int, AttemptEnd]] = defaultdict(dict)
    stopped: list[Finished] = []
    completed = failed = 0
    for item in finished:
        job = known.get(item.job_id)
        if job is None or not 1 <= item.attempt <= job.attempt:
            continue  # deleted meanwhile, or never given to anybody
        decision = RetryDecision(JobEvent.CANCELED)
        is_current = _is_at(ours, item, HELD)
        if is_current:
            wait = bool(reports.settings.get("use_pending_failed"))
            decision = handle(reports.tx, reports.workflow, item, job, use_pending_failed=wait)
            ends[decision.event][item.job_id] = _end(item, decision, reports.tx.now)
        elif _is_at(ours, item, {State.CANCELED}):
            is_current = True
            stopped.append(item)
        completed += is_current and item.outcome == "succeeded"
        failed += is_current and item.outcome != "succeeded"
        rows.append(
            _attempt_row(reports, item, decision, is_current=is_current) | {"requirement_id": job.requirement_id}
        )
    attempts.record(reports.tx.db, reports.tx.dialect, rows)
    _let_go(reports, stopped)
    for event, ended in ends.items():
        reports.moves.end(event, ended, known)
    return completed, failed


def _end(item: Finished, decision: RetryDecision, now: float) -> AttemptEnd:
    recovery = None
    if decision.event is JobEvent.RETRIED:
        recovery = json.dumps({"script": decision.recovery_script, "return_code": item.return_code})
    due_at = now + decision.delay_seconds if decision.delay_seconds else None
    return AttemptEnd(item.return_code, item.detail or item.reason, item.started_at, recovery, due_at)


def _attempt_row(
    reports: ReportContext, item: Finished, decision: RetryDecision, *, is_current: bool
) -> dict[str, Any]:
    usage = item.usage
    return {
        "workflow_id": reports.workflow["id"],
        "job_id": item.job_id,
        # a runner may outlive the run that it was made for
        "run_id": reports.workflow["run_id"] if is_current else reports.run_id,
        "attempt": item.attempt,
        "runner_id": reports.runner_id,
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
        "stderr_line": item.stderr_line,
        "stdout_tail": item.stdout_tail,
        "stdout_line": item.stdout_line,
        "slurm_state": item.slurm_state,
    }


def _more_usage(item: Finished) -> str | None:
    known = item.usage.model_dump(exclude=_COLUMNS, exclude_none=True)
    return json.dumps(known) if known else None
