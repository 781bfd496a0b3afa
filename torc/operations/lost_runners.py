"""Jobs that lost their runner: what happens to each depends on how the runner or its allocation ended."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import RowMapping

from torc.api.runs import Finished
from torc.failures.retry import DIED, RUNNER_LOST, decide_lost
from torc.operations.dispatch import Tx
from torc.operations.failure_handlers import handle
from torc.planning.allocation_outcomes import FAULTLESS, InterruptedJob, is_faultless, meaning
from torc.store import attempts, jobs, requirements
from torc.store.json_columns import loads
from torc.store.transitions import AttemptEnd, JobStatus, Transitions
from torc.workflow.exit_codes import reported
from torc.workflow.states import JobEvent, State


class RunnerLoss(NamedTuple):
    """How a runner ended, and the cluster state of its allocation."""

    reason: str
    cluster_state: str | None = None


class _Told(NamedTuple):
    """What happens to a job, and what its attempt records."""

    event: JobEvent
    end: AttemptEnd
    reason: str
    detail: str | None = None
    rule: int | None = None


def lose(
    tx: Tx, workflow: RowMapping, runner_id: int, held: Mapping[int, JobStatus], moves: Transitions, how: RunnerLoss
) -> None:
    """Give up those of these jobs that are running: their runner, or its record of them, is gone."""
    ends: dict[JobEvent, dict[int, AttemptEnd]] = defaultdict(dict)
    for job in held.values():
        if job.state is State.RUNNING:
            told = _told(tx, workflow, job, how)
            attempts.record_lost(
                tx.db,
                attempts.LostAttempt(
                    job_id=job.id,
                    run_id=workflow["run_id"],
                    runner_id=runner_id,
                    now=tx.now,
                    return_code=reported(None, told.reason),
                    reason=told.reason,
                    detail=told.detail,
                    rule=told.rule,
                    slurm_state=how.cluster_state,
                    requirement_id=job.requirement_id,
                ),
            )
            ends[told.event][job.id] = told.end
    for event, ended in ends.items():
        moves.end(event, ended, held)


def _told(tx: Tx, workflow: RowMapping, job: JobStatus, how: RunnerLoss) -> _Told:
    if how.cluster_state is None:
        return _lost(tx, workflow, job, how)
    started_at = jobs.started_at(tx.db, tx.dialect, job.id)
    wall = None if started_at is None else max(0.0, tx.now - started_at)
    what = meaning(
        how.cluster_state, InterruptedJob(wall, requirements.of_job(tx.db, tx.dialect, job.id).request.runtime_seconds)
    )
    if what == "interrupted":
        return _Told(JobEvent.INTERRUPTED, AttemptEnd(reason="runner_stopped"), "runner_stopped")
    if what == "lost":
        return _lost(tx, workflow, job, how)
    detail = f"its allocation ended: {how.cluster_state}"
    item = Finished(
        job_id=job.id,
        attempt=job.attempt,
        outcome="terminated",
        return_code=reported(None, what),
        started_at=started_at,
        ended_at=tx.now,
        wall_seconds=wall or 0.0,
        reason=what,
        detail=detail,
        slurm_state=how.cluster_state,
    )
    settings = loads(workflow["settings"], {})
    decision = handle(tx, workflow, item, job, use_pending_failed=bool(settings.get("use_pending_failed")))
    recovery = None
    if decision.event is JobEvent.RETRIED:
        recovery = json.dumps({"script": decision.recovery_script, "return_code": item.return_code})
    due_at = tx.now + decision.delay_seconds if decision.delay_seconds else None
    return _Told(
        decision.event, AttemptEnd(item.return_code, detail, started_at, recovery, due_at), what, detail, decision.rule
    )


def _lost(tx: Tx, workflow: RowMapping, job: JobStatus, how: RunnerLoss) -> _Told:
    losses = attempts.num_losses(tx.db, job.id, workflow["run_id"], DIED, FAULTLESS)
    event = decide_lost(losses, DIED if is_faultless(how.cluster_state) else how.reason).event
    return _Told(event, AttemptEnd(reason=RUNNER_LOST if event is JobEvent.TERMINATED else None), RUNNER_LOST)
