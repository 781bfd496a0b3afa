"""How the ends of attempts are reported: outcome, reason and detail. Pure; part of the reactor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torc.api.runs import Assignment, Finished, Outcome, Reason
from torc.runner.state import Exited, LogTails, NotStarted, OutOfMemory, RunningAttempt
from torc.spec.plan import EXECUTED_FIELDS
from torc.units import human_bytes
from torc.workflow.staleness import attempt_fingerprint

_MOST_NAMED = 5


def fingerprint_of(assignment: Assignment, env: Mapping[str, str]) -> str:
    """Return the fingerprint of what an attempt runs, given the workflow's environment."""
    executed = {field.name: getattr(assignment, field.name) for field in EXECUTED_FIELDS}
    executed["env"] = {**env, **assignment.env} if assignment.env else env
    return attempt_fingerprint(assignment.name, executed, assignment.user_data_hash)


def ends(tails: LogTails | None) -> dict[str, Any]:
    """Return the report fields that hold the ends of the logs."""
    if tails is None:
        return {}
    return {
        "stderr_tail": tails.stderr,
        "stderr_line": tails.stderr_line,
        "stdout_tail": tails.stdout,
        "stdout_line": tails.stdout_line,
    }


def ending(job: RunningAttempt, event: Exited) -> tuple[Outcome, Reason | None, str | None]:
    """Return how an attempt ended: what the runner did to it takes precedence over what the kernel or a cluster did."""
    if job.outcome is not None:
        return job.outcome, job.reason, job.detail
    if event.out_of_memory is not None:
        return _out_of_memory(event.out_of_memory)
    if event.recovery_failed:
        return "failed", "recovery_failed", f"the recovery script ended with {event.return_code}"
    if event.reason is not None:
        return "failed", event.reason, event.detail
    if event.return_code != 0:
        return "failed", None, event.detail
    if event.missing or event.old:
        said = [f"did not write {_named(event.missing)}"] if event.missing else []
        if event.old:
            older = "it has not changed" if len(event.old) == 1 else "they have not changed"
            said.append(f"did not update {_named(event.old)}: {older} since the start of this attempt")
        return "failed", "missing_output", "; ".join(said)
    return "succeeded", None, None


def _named(paths: tuple[str, ...]) -> str:
    rest = len(paths) - _MOST_NAMED
    return ", ".join(paths[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def nothing(job: RunningAttempt, outcome: Outcome, at: float, reason: Reason | None, detail: str | None) -> Finished:
    """Report an attempt that never ran."""
    return Finished(
        job_id=job.assignment.job_id,
        attempt=job.assignment.attempt,
        outcome=outcome,
        return_code=None,
        started_at=job.started_at,
        ended_at=at,
        wall_seconds=0.0,
        reason=reason,
        detail=detail,
    )


def never_started(assignment: Assignment, told: NotStarted) -> Finished:
    """Report an attempt that should have run and did not: its job becomes ready for other runners."""
    return Finished(
        job_id=assignment.job_id,
        attempt=assignment.attempt,
        outcome="interrupted",
        return_code=None,
        started_at=told.started_at,
        ended_at=told.started_at,
        wall_seconds=0.0,
        reason="not_started",
        detail=told.why,
    )


def _out_of_memory(what: OutOfMemory) -> tuple[Outcome, Reason, str]:
    if what.limit_bytes is not None:
        return "terminated", "out_of_memory", over(what.peak_bytes, what.limit_bytes)
    used = human_bytes(what.peak_bytes)
    return "failed", "out_of_memory", f"this machine had no memory left, and the kernel killed it; it used {used}"


def over(peak_bytes: int, limit_bytes: int) -> str:
    """Describe an attempt that used more memory than it requested."""
    used, limit = human_bytes(peak_bytes), human_bytes(limit_bytes)
    if peak_bytes > limit_bytes:
        return f"used {used} of memory, {limit} were requested"
    return f"needed more memory than the {limit} requested: the kernel killed it at {used}"
