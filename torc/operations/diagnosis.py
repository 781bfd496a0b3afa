"""Collects the facts about failed jobs for `torc.failures.diagnosis`, and what other jobs are waiting for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import RowMapping

from torc.api import diagnosis as api
from torc.api.runs import NodeCapacity
from torc.errors import NotFound
from torc.failures.diagnosis import AttemptFacts, FailureDiagnosis, Log, bounds_of, diagnose
from torc.operations.dispatch import Tx, answers
from torc.operations.pending_reasons import Queued, last_end, queued_for
from torc.operations.row_mapping import capacity_of, request_of, workflow_row
from torc.store import attempts, jobs, rows, runners, workflows
from torc.store.json_columns import loads
from torc.units import human_duration
from torc.workflow.packing import never_fits
from torc.workflow.resources import Capacity, Pool
from torc.workflow.states import ENDED_BADLY, State

_MOST_CAUSES = 20


@answers(api.ExplainJob)
def explain_job(tx: Tx, request: api.ExplainJob) -> api.Explanation:
    """Explain why a job is in its current state."""
    workflow_id = rows.workflow_of(tx.db, "job", request.job_id)
    if workflow_id is None:
        raise NotFound(f"there is no job {request.job_id}", hint="`torc jobs list` shows what there is")
    job = attempts.last_of_job(tx.db, request.job_id)
    state = State(job["state"])
    if state is State.TERMINATED and not job["counted"]:
        why = job["detail"] or "its runner stopped"
        return _plain(workflow_id, job, f"it was interrupted: {why}", f"torc run {workflow_id} goes on with it")
    if state in ENDED_BADLY:
        return _failure(workflow_id, job)
    explain = {
        State.READY: _ready,
        State.BLOCKED: _blocked,
        State.PENDING: _held,
        State.RUNNING: _held,
        State.CANCELED: _canceled,
    }.get(state)
    if explain is not None:
        return explain(tx, workflow_id, job)
    return _plain(workflow_id, job, *_OF_STATE[state])


_OF_STATE = {
    State.COMPLETED: ("it ended well", None),
    State.DISABLED: ("it is disabled: the workflow goes on without it", "torc jobs enable brings it back"),
    State.UNINITIALIZED: ("nobody has looked yet what it waits for", "torc workflows initialize ID"),
}


def _plain(workflow_id: int, job: RowMapping, summary: str, hint: str | None, **more: Any) -> api.Explanation:
    return api.Explanation(
        job_id=job["id"],
        job_name=job["name"],
        workflow_id=workflow_id,
        state=State(job["state"]),
        attempt=job["attempt"],
        summary=summary,
        hint=hint,
        **more,
    )


# -- failed -----------------------------------------------------------------------------------------------------


def _failure(workflow_id: int, job: RowMapping) -> api.Explanation:
    found = diagnose(facts_of(job))
    hint = found.advice
    if job["state"] == State.PENDING_FAILED.value:
        hint += "; it waits for a decision: torc jobs reset, or cancel"
    return _plain(workflow_id, job, found.what, hint, diagnosis=_told(found))


def facts_of(job: RowMapping) -> AttemptFacts:
    """Return what is known of the last attempt of a job."""
    memory, runtime = bounds_of(request_of(job), job["reason"])
    logs = []
    for name in ("stderr", "stdout"):
        if job[f"{name}_tail"]:
            logs.append(Log(name, job[f"{name}_tail"], job[f"{name}_line"]))
    return AttemptFacts(
        ending=job["ending"] or "failed",
        reason=job["reason"] or job["job_reason"],
        detail=job["detail"],
        return_code=job["return_code"],
        command=job["command"],
        memory_request=memory,
        peak_memory=job["peak_memory_bytes"] or None,
        runtime_request=runtime,
        wall_seconds=job["wall_seconds"],
        slurm_state=job["slurm_state"],
        logs=tuple(logs),
    )


def _told(found: FailureDiagnosis) -> api.Diagnosis:
    quotes = [api.Quote(log=quote.log, line=quote.line, text=quote.text) for quote in found.quotes]
    return api.Diagnosis(
        category=found.category,
        confidence=found.confidence,
        what=found.what,
        advice=found.advice,
        remedy=found.remedy,
        quotes=quotes,
        figures=list(found.figures),
        program=found.program,
        fingerprint=found.fingerprint,
    )


@answers(api.DiagnoseWorkflow)
def diagnose_workflow(tx: Tx, request: api.DiagnoseWorkflow) -> api.Diagnoses:
    """Group failed jobs."""
    workflow_id = workflow_row(tx, request.workflow_id)["id"]
    groups: dict[str, list[tuple[RowMapping, FailureDiagnosis]]] = defaultdict(list)
    for job, found in failed_jobs(tx, workflow_id):
        groups[found.fingerprint].append((job, found))
    ordered = sorted(groups.values(), key=lambda members: (-len(members), members[0][0]["id"]))
    counted = Counter(members[0][1].category for members in groups.values() for _ in members)
    return api.Diagnoses(
        workflow_id=workflow_id,
        num_failed=sum(map(len, ordered)),
        by_category=dict(counted.most_common()),
        groups=[_group(workflow_id, members, request.jobs_per_group) for members in ordered[: request.limit]],
        num_groups=len(ordered),
        num_canceled=workflows.counts_of(tx.db, tx.dialect, workflow_id).get(State.CANCELED, 0),
    )


def failed_jobs(tx: Tx, workflow_id: int) -> Iterator[tuple[RowMapping, FailureDiagnosis]]:
    """Yield the failed jobs of a workflow, each with its last attempt and why that failed."""
    known: dict[AttemptFacts, FailureDiagnosis] = {}
    for job in attempts.failed_jobs(tx.db, workflow_id):
        facts = facts_of(job)
        found = known.get(facts)
        if found is None:
            found = known[facts] = diagnose(facts)
        yield job, found


def _group(workflow_id: int, members: Sequence[tuple[RowMapping, FailureDiagnosis]], most: int) -> api.FailureGroup:
    job, found = max(members, key=lambda member: member[1].confidence)
    return api.FailureGroup(
        category=found.category,
        program=found.program,
        fingerprint=found.fingerprint,
        count=len(members),
        remedy=found.remedy,
        job_ids=[row["id"] for row, _ in members[:most]],
        sample=_failure(workflow_id, job),
    )


# -- not failed -------------------------------------------------------------------------------------------------


def _retry(tx: Tx, workflow_id: int, job: RowMapping) -> api.Explanation:
    """Say when a delayed retry may start, and why the previous attempt failed."""
    found = diagnose(facts_of(job))
    left = human_duration(max(1, round(job["due_at"] - tx.now)))
    return _plain(
        workflow_id,
        job,
        f"retry due in {left}: its failure handler waits between attempts; the last one failed: {found.what}",
        f"torc jobs reset {job['id']} makes it due now",
        diagnosis=_told(found),
    )


def _ready(tx: Tx, workflow_id: int, job: RowMapping) -> api.Explanation:
    if job["due_at"] is not None and job["due_at"] > tx.now:
        return _retry(tx, workflow_id, job)
    active = runners.active(tx.db, workflow_id)
    needs = jobs.needs_of(tx.db, job["id"])
    allowed = [r for r in active if _may_take(r, needs["scheduler"])]
    queued = queued_for(tx, workflow_id, needs["scheduler"])
    if not active:
        nobody = Queued("no runner works on its workflow", f"torc run {workflow_id} begins one")
        return _plain(workflow_id, job, *(queued or last_end(tx, workflow_id) or nobody))
    if not allowed and queued is not None:
        return _plain(workflow_id, job, *queued)
    if not allowed:
        return _plain(
            workflow_id,
            job,
            f"it is for runners of the scheduler `{needs['scheduler']}`, and none is there",
            f"torc worker {workflow_id} --label scheduler={needs['scheduler']}",
        )
    request = request_of(needs)
    goes_on = bool(needs["supports_termination"])
    short = [never_fits(request, _capacity_now(tx, r), goes_on=goes_on) for r in allowed]
    if all(short) and queued is not None:
        return _plain(workflow_id, job, f"no runner is large enough yet; {queued.summary}", queued.hint)
    if all(short):
        largest = "; ".join(
            f"runner {r['id']} on {r['host']}: {why}" for r, why in zip(allowed[:3], short, strict=False)
        )
        return _plain(
            workflow_id,
            job,
            f"no runner is large enough ({largest})",
            "begin a larger one, or ask for less (torc jobs update)",
        )
    return _plain(workflow_id, job, "it waits for room: the runners are busy with jobs that come before it", None)


def _capacity_now(tx: Tx, runner: RowMapping) -> Capacity | Pool:
    """Return what a runner has, with the time that is left of what it said at its beginning."""
    told = NodeCapacity.model_validate(loads(runner["capacity"], {}))
    if told.runtime_seconds is None:
        return capacity_of(told)
    left = max(0.0, told.runtime_seconds - (tx.now - runner["started_at"]))
    nodes = [node.model_copy(update={"runtime_seconds": left}) for node in told.others]
    return capacity_of(told.model_copy(update={"runtime_seconds": left, "others": nodes}))


def _may_take(runner: RowMapping, scheduler: str | None) -> bool:
    return runner["kind"] == "local" or scheduler is None or loads(runner["labels"], {}).get("scheduler") == scheduler


def _held(tx: Tx, workflow_id: int, job: RowMapping) -> api.Explanation:
    runner = runners.holder_of(tx.db, job["id"])
    where = f" by runner {runner['id']} on {runner['host']}" if runner else ""
    done = (
        "it is being run"
        if job["state"] == State.RUNNING.value
        else "it has been taken, and begins when there is room,"
    )
    return _plain(workflow_id, job, done + where, f"torc jobs logs {job['id']} -f follows it")


def _causes(found: Sequence[jobs.JobInState]) -> list[api.Cause]:
    return [api.Cause(job_id=job.id, job_name=job.name, state=State(job.state), reason=job.reason) for job in found]


def _blocked(tx: Tx, workflow_id: int, job: RowMapping) -> api.Explanation:
    """Return the jobs at the start of the chain: they are due, running, or have failed."""
    causes = _causes(jobs.blocking_job(tx.db, tx.dialect, job["id"]))
    counted = Counter(cause.state.value for cause in causes)
    states = ", ".join(f"{number} {state}" for state, number in sorted(counted.items()))
    summary = f"it waits for {len(causes)} job{'s' if len(causes) != 1 else ''} ({states})"
    return _plain(workflow_id, job, summary, _hint_about(causes), causes=causes[:_MOST_CAUSES], num_causes=len(causes))


def _canceled(tx: Tx, workflow_id: int, job: RowMapping) -> api.Explanation:
    causes = _causes(jobs.failed_before(tx.db, tx.dialect, job["id"]))
    if not causes:
        return _plain(workflow_id, job, "somebody canceled it", f"torc jobs reset {job['id']} runs it again")
    names = ", ".join(f"{cause.job_name} (job {cause.job_id})" for cause in causes[:3])
    more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""
    return _plain(
        workflow_id,
        job,
        f"it was canceled because {names}{more} failed",
        _hint_about(causes),
        causes=causes[:_MOST_CAUSES],
        num_causes=len(causes),
    )


def _hint_about(causes: Sequence[api.Cause]) -> str | None:
    return f"torc jobs explain {causes[0].job_id}" if causes else None
