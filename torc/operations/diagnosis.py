"""Gathers what is known of failed jobs for `torc.failures.diagnosis`, and of others what they wait for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import RowMapping, text

from torc.api import diagnosis as api
from torc.api.runs import NodeCapacity
from torc.errors import NotFound
from torc.failures.diagnosis import AttemptFacts, Diagnosis, Log, bounds_of, diagnose
from torc.operations.dispatch import Tx, answers
from torc.operations.pending_reasons import Queued, last_end, queued_for
from torc.operations.row_mapping import capacity_of, request_of, workflow_row
from torc.store.json_columns import loads
from torc.store.workflows import IN_WORKFLOW
from torc.units import human_duration
from torc.workflow.packing import never_fits
from torc.workflow.resources import Capacity, Pool
from torc.workflow.states import ENDED_BADLY, State

_ATTEMPTS = """SELECT j.id, j.name, j.command, j.state, j.counted, j.attempt, j.due_at,
    j.reason AS job_reason, a.state AS ending, a.reason, a.detail,
    a.return_code, a.wall_seconds, a.peak_memory_bytes, a.stderr_tail, a.stderr_line, a.stdout_tail, a.stdout_line,
    a.slurm_state, j.requirement_id, r.name AS requirement_name, r.num_cpus, r.num_gpus, r.num_nodes, r.memory_bytes, r.runtime_seconds
    FROM job j JOIN requirement r ON r.id = j.requirement_id
    LEFT JOIN attempt a ON a.job_id = j.id AND a.attempt = j.attempt"""
#: what was interrupted is terminated and not counted off: the next run goes on with it
_HAS_FAILED = (
    f"j.state IN ({', '.join(repr(state.value) for state in ENDED_BADLY)}) AND (j.counted OR j.state <> 'terminated')"
)
_MOST_CAUSES = 20


@answers(api.ExplainJob)
def explain_job(tx: Tx, request: api.ExplainJob) -> api.Explanation:
    """Say why a job stands as it does."""
    query = text(f"SELECT workflow_id FROM job WHERE id = :id AND {IN_WORKFLOW.format('job')}")
    row = tx.db.execute(query, {"id": request.job_id}).first()
    if row is None:
        raise NotFound(f"there is no job {request.job_id}", hint="`torc jobs list` shows what there is")
    workflow_id = int(row[0])
    job = tx.db.execute(text(f"{_ATTEMPTS} WHERE j.id = :id"), {"id": request.job_id}).mappings().one()
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


def _told(found: Diagnosis) -> api.Diagnosis:
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
    groups: dict[str, list[tuple[RowMapping, Diagnosis]]] = defaultdict(list)
    for job, found in failed_jobs(tx, workflow_id):
        groups[found.fingerprint].append((job, found))
    ordered = sorted(groups.values(), key=lambda members: (-len(members), members[0][0]["id"]))
    counted = Counter(members[0][1].category for members in groups.values() for _ in members)
    canceled = tx.db.execute(
        text("SELECT count FROM job_count WHERE workflow_id = :id AND state = 'canceled'"), {"id": workflow_id}
    ).scalar()
    return api.Diagnoses(
        workflow_id=workflow_id,
        num_failed=sum(map(len, ordered)),
        by_category=dict(counted.most_common()),
        groups=[_group(workflow_id, members, request.jobs_per_group) for members in ordered[: request.limit]],
        num_groups=len(ordered),
        num_canceled=canceled or 0,
    )


def failed_jobs(tx: Tx, workflow_id: int) -> Iterator[tuple[RowMapping, Diagnosis]]:
    """Yield the failed jobs of a workflow, each with its last attempt and why that failed."""
    query = text(f"{_ATTEMPTS} WHERE j.workflow_id = :id AND {_HAS_FAILED} ORDER BY j.id")
    known: dict[AttemptFacts, Diagnosis] = {}
    for job in tx.db.execute(query, {"id": workflow_id}).mappings():
        facts = facts_of(job)
        found = known.get(facts)
        if found is None:
            found = known[facts] = diagnose(facts)
        yield job, found


def _group(workflow_id: int, members: Sequence[tuple[RowMapping, Diagnosis]], most: int) -> api.FailureGroup:
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
    """Say when a retry that has to wait is due, and why the attempt before failed."""
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
    runners = (
        tx.db.execute(
            text(
                "SELECT id, kind, host, capacity, labels, started_at FROM runner WHERE workflow_id = :id AND is_active ORDER BY id"
            ),
            {"id": workflow_id},
        )
        .mappings()
        .all()
    )
    needs = (
        tx.db.execute(
            text(
                "SELECT r.num_cpus, r.num_gpus, r.num_nodes, r.memory_bytes, r.runtime_seconds, n.name AS scheduler, "
                "j.supports_termination FROM job j "
                "JOIN requirement r ON r.id = j.requirement_id LEFT JOIN named n ON n.id = j.scheduler_id WHERE j.id = :id"
            ),
            {"id": job["id"]},
        )
        .mappings()
        .one()
    )
    allowed = [r for r in runners if _may_take(r, needs["scheduler"])]
    queued = queued_for(tx, workflow_id, needs["scheduler"])
    if not runners:
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
    runner = tx.db.execute(
        text("SELECT r.id, r.host FROM job j JOIN runner r ON r.id = j.runner_id WHERE j.id = :id"), {"id": job["id"]}
    ).first()
    where = f" by runner {runner[0]} on {runner[1]}" if runner else ""
    done = (
        "it is being run"
        if job["state"] == State.RUNNING.value
        else "it has been taken, and begins when there is room,"
    )
    return _plain(workflow_id, job, done + where, f"torc jobs logs {job['id']} -f follows it")


#: all that a job waits for, near and far
_UPSTREAM = """WITH RECURSIVE up(id, gate_id) AS (
    SELECT id, gate_id FROM job WHERE id = :id
    UNION SELECT q.id, q.gate_id FROM up JOIN gate_prerequisite p ON p.gate_id = up.gate_id JOIN job q ON q.id = p.job_id
    WHERE {going_on})
    SELECT j.id, j.name, j.state, j.reason FROM up JOIN job j ON j.id = up.id WHERE j.id <> :id AND {wanted} ORDER BY j.id"""


def _causes(tx: Tx, job_id: int, going_on: str, wanted: str) -> list[api.Cause]:
    query = text(_UPSTREAM.format(going_on=going_on, wanted=wanted))
    rows = tx.db.execute(query, {"id": job_id}).all()
    return [api.Cause(job_id=row[0], job_name=row[1], state=State(row[2]), reason=row[3]) for row in rows]


def _blocked(tx: Tx, workflow_id: int, job: RowMapping) -> api.Explanation:
    """Name those at the far end: they are due, run, or have failed."""
    causes = _causes(tx, job["id"], "NOT q.counted", "j.state <> 'blocked'")
    counted = Counter(cause.state.value for cause in causes)
    states = ", ".join(f"{number} {state}" for state, number in sorted(counted.items()))
    summary = f"it waits for {len(causes)} job{'s' if len(causes) != 1 else ''} ({states})"
    return _plain(workflow_id, job, summary, _hint_about(causes), causes=causes[:_MOST_CAUSES], num_causes=len(causes))


def _canceled(tx: Tx, workflow_id: int, job: RowMapping) -> api.Explanation:
    causes = _causes(
        tx, job["id"], "q.state IN ('canceled', 'failed', 'terminated')", "j.state IN ('failed', 'terminated')"
    )
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
