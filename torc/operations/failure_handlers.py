"""How a failure handler deals with a failed attempt during a run: the decision, and more memory or time."""

from __future__ import annotations

from zlib import crc32

from sqlalchemy import RowMapping

from torc.api.runs import Finished
from torc.failures.diagnosis import AttemptFacts, Log, bounds_of, diagnose
from torc.failures.resource_adjustment import raised
from torc.failures.retry import AttemptOutcome, RetryDecision, RetryRule, decide, rules_of
from torc.operations.dispatch import Tx
from torc.store import attempts, jobs, named, requirements
from torc.store.requirements import StoredClass
from torc.store.transitions import JobStatus
from torc.workflow.resources import ResourceRequest
from torc.workflow.states import JobEvent


def handle(tx: Tx, workflow: RowMapping, item: Finished, job: JobStatus, *, use_pending_failed: bool) -> RetryDecision:
    """Decide what an ended attempt means for its job; a rule may raise the request of the next attempt."""
    outcome = AttemptOutcome(item.outcome, item.return_code, item.reason)
    may_be_retried = item.outcome in {"failed", "terminated"} or outcome.is_at_limit
    if not may_be_retried or job.failure_handler_id is None:
        return decide(outcome, use_pending_failed=use_pending_failed)
    rules = rules_of(named.fields_of(tx.db, tx.dialect, job.failure_handler_id))
    used = attempts.num_by_rule(tx.db, tx.dialect, job.id, workflow["run_id"])
    asked = requirements.of_job(tx.db, tx.dialect, job.id)
    category = None
    if any(rule.match_categories for rule in rules):  # otherwise the category is not needed
        command = jobs.command_of(tx.db, tx.dialect, job.id)
        category = diagnose(_facts(item, command, asked.request)).category
    outcome = AttemptOutcome(item.outcome, item.return_code, item.reason, category, item.slurm_state)
    jitter = crc32(f"{job.id}.{item.attempt}".encode()) / 2**32  # spread over jobs, and the same for a repeated report
    decision = decide(outcome, rules, used, use_pending_failed=use_pending_failed, jitter=jitter)
    if decision.event is JobEvent.RETRIED and decision.rule is not None:
        _raise_request(tx, workflow["id"], item, asked, rules[decision.rule])
    return decision


def _facts(item: Finished, command: str, asked: ResourceRequest) -> AttemptFacts:
    logs = [
        Log(name, text, line)
        for name, text, line in (
            ("stderr", item.stderr_tail, item.stderr_line),
            ("stdout", item.stdout_tail, item.stdout_line),
        )
        if text
    ]
    memory, runtime = bounds_of(asked, item.reason)
    return AttemptFacts(
        ending=item.outcome,
        reason=item.reason,
        detail=item.detail,
        return_code=item.return_code,
        command=command,
        memory_request=memory,
        peak_memory=item.usage.peak_memory_bytes or None,
        runtime_request=runtime,
        wall_seconds=item.wall_seconds,
        slurm_state=item.slurm_state,
        logs=tuple(logs),
    )


def _raise_request(tx: Tx, workflow_id: int, item: Finished, asked: StoredClass, rule: RetryRule) -> None:
    """Move a job to a larger requirement class, an existing or a new one; other jobs keep theirs."""
    if rule.memory_multiplier is None and rule.runtime_multiplier is None:
        return
    old = asked.request
    new = raised(
        old,
        memory_factor=rule.memory_multiplier,
        runtime_factor=rule.runtime_multiplier,
        peak_memory=item.usage.peak_memory_bytes,
        wall_seconds=item.wall_seconds,
    )
    if new == old:
        return
    number, name = class_for(tx, workflow_id, new, asked.name)
    jobs.set_requirement(tx.db, tx.dialect, [item.job_id], number)
    tx.event(
        workflow_id,
        "job_resources_raised",
        job_id=item.job_id,
        requirement=name,
        memory_bytes=[old.memory_bytes, new.memory_bytes],
        runtime_seconds=[old.runtime_seconds, new.runtime_seconds],
    )


def class_for(tx: Tx, workflow_id: int, request: ResourceRequest, base: str) -> tuple[int, str]:
    """Return (id, name) of a requirement class with exactly this request: an existing one, or a new one named after `base`."""
    found = requirements.find(tx.db, tx.dialect, workflow_id, request)
    if found is not None:
        return found.id, found.name
    taken = {stored.name for stored in requirements.classes_of(tx.db, tx.dialect, workflow_id).values()}
    stem = base.partition("__raised_")[0]
    at = 1
    while (name := f"{stem}__raised_{at}") in taken:
        at += 1
    return requirements.insert(tx.db, tx.dialect, workflow_id, name, request), name
