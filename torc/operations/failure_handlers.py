"""What a failure handler does about an attempt that failed, while the run goes on: the decision, and more memory or time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from sqlalchemy import RowMapping

from torc.api.runs import Finished
from torc.failures.diagnosis import AttemptFacts, Log, bounds_of, diagnose
from torc.failures.resource_adjustment import raised
from torc.failures.retry import AttemptOutcome, RetryDecision, RetryRule, decide, rules_of
from torc.operations.dispatch import Tx
from torc.store.id_blocks import take_ids
from torc.store.json_columns import loads
from torc.store.transitions import JobStatus
from torc.workflow.resources import ResourceRequest
from torc.workflow.states import Event

_HANDLER = "SELECT fields FROM named WHERE id = :id"
_USED = (
    "SELECT rule, count(*) FROM attempt WHERE job_id = :job_id AND run_id = :run_id AND rule IS NOT NULL GROUP BY rule"
)
_ASKED = (
    "SELECT j.command, r.name, r.num_cpus, r.num_gpus, r.num_nodes, r.memory_bytes, r.runtime_seconds FROM job j "
    "JOIN requirement r ON r.id = j.requirement_id WHERE j.id = :id"
)
_EQUAL = (
    "SELECT id, name FROM requirement WHERE workflow_id = :workflow_id AND num_cpus = :num_cpus AND num_gpus = :num_gpus "
    "AND num_nodes = :num_nodes AND memory_bytes = :memory_bytes AND runtime_seconds = :runtime_seconds ORDER BY id LIMIT 1"
)
_NAMES = "SELECT name FROM requirement WHERE workflow_id = :workflow_id"
_INSERT = (
    "INSERT INTO requirement (id, workflow_id, name, num_cpus, num_gpus, num_nodes, memory_bytes, runtime_seconds) "
    "VALUES (:id, :workflow_id, :name, :num_cpus, :num_gpus, :num_nodes, :memory_bytes, :runtime_seconds)"
)


def handle(tx: Tx, workflow: RowMapping, item: Finished, job: JobStatus, *, use_pending_failed: bool) -> RetryDecision:
    """Decide what an attempt that ended means for its job; a rule that says so gives the next attempt more."""
    outcome = AttemptOutcome(item.outcome, item.return_code, item.reason)
    may_be_retried = item.outcome in {"failed", "terminated"} or outcome.is_at_limit
    if not may_be_retried or job.failure_handler_id is None:
        return decide(outcome, use_pending_failed=use_pending_failed)
    found = tx.dialect.fetch(tx.db, _HANDLER, {"id": job.failure_handler_id})
    rules = rules_of(loads(found[0][0], {}))
    used = dict(tx.dialect.fetch(tx.db, _USED, {"job_id": job.id, "run_id": workflow["run_id"]}))
    asked = tx.dialect.fetch(tx.db, _ASKED, {"id": job.id})[0]
    category = None
    if any(rule.match_categories for rule in rules):  # else nobody wants to know
        category = diagnose(_facts(item, asked)).category
    outcome = AttemptOutcome(item.outcome, item.return_code, item.reason, category, item.slurm_state)
    jitter = crc32(f"{job.id}.{item.attempt}".encode()) / 2**32  # spread over jobs, and the same for a repeated report
    decision = decide(outcome, rules, used, use_pending_failed=use_pending_failed, jitter=jitter)
    if decision.event is Event.RETRIED and decision.rule is not None:
        _raise_request(tx, workflow["id"], item, asked, rules[decision.rule])
    return decision


def _facts(item: Finished, asked: Any) -> AttemptFacts:
    logs = [
        Log(name, text, line)
        for name, text, line in (
            ("stderr", item.stderr_tail, item.stderr_line),
            ("stdout", item.stdout_tail, item.stdout_line),
        )
        if text
    ]
    memory, runtime = bounds_of(ResourceRequest(*asked[2:]), item.reason)
    return AttemptFacts(
        ending=item.outcome,
        reason=item.reason,
        detail=item.detail,
        return_code=item.return_code,
        command=asked[0],
        memory_request=memory,
        peak_memory=item.usage.peak_memory_bytes or None,
        runtime_request=runtime,
        wall_seconds=item.wall_seconds,
        slurm_state=item.slurm_state,
        logs=tuple(logs),
    )


def _raise_request(tx: Tx, workflow_id: int, item: Finished, asked: Any, rule: RetryRule) -> None:
    """Return a job a requirement class with more in it: one that is there, or a new one; the others keep theirs."""
    if rule.memory_multiplier is None and rule.runtime_multiplier is None:
        return
    old = ResourceRequest(*asked[2:])
    new = raised(
        old,
        memory_factor=rule.memory_multiplier,
        runtime_factor=rule.runtime_multiplier,
        peak_memory=item.usage.peak_memory_bytes,
        wall_seconds=item.wall_seconds,
    )
    if new == old:
        return
    number, name = class_for(tx, workflow_id, new, asked[1])
    tx.dialect.run(tx.db, "UPDATE job SET requirement_id = :class WHERE id = :id", {"class": number, "id": item.job_id})
    tx.event(
        workflow_id,
        "job_resources_raised",
        job_id=item.job_id,
        requirement=name,
        memory_bytes=[old.memory_bytes, new.memory_bytes],
        runtime_seconds=[old.runtime_seconds, new.runtime_seconds],
    )


def class_for(tx: Tx, workflow_id: int, request: ResourceRequest, base: str) -> tuple[int, str]:
    """Return (id, name) of a requirement class with just this request: one that is there, or a new one named after `base`."""
    values = {**request._asdict(), "workflow_id": workflow_id}
    found = tx.dialect.fetch(tx.db, _EQUAL, values)
    return (found[0][0], found[0][1]) if found else _new_class(tx, values, base)


def _new_class(tx: Tx, values: Mapping[str, Any], base: str) -> tuple[int, str]:
    taken = {row[0] for row in tx.dialect.fetch(tx.db, _NAMES, {"workflow_id": values["workflow_id"]})}
    stem = base.partition("__raised_")[0]
    at = 1
    while (name := f"{stem}__raised_{at}") in taken:
        at += 1
    number = take_ids(tx.db, "requirement")
    tx.dialect.run(tx.db, _INSERT, {**values, "id": number, "name": name})
    return number, name
