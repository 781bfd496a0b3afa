"""A small vocabulary for tests of stored workflows.

wf = workflow(torc, "a b -> c", "c -> d")     # c waits for a and b, d waits for c
finish(torc, wf, "a")                         # claims it, runs it, reports success
assert states(torc, wf) == "a:completed b:ready c:blocked d:blocked"
"""

from __future__ import annotations

import json
from typing import Any

from torc.api.base import Torc
from torc.api.jobs import GetJob, Job, ListJobs
from torc.api.runs import (
    Assignment,
    EndRunner,
    Exchange,
    ExchangeReply,
    Finished,
    JobAttempt,
    NodeCapacity,
    Outcome,
    RegisterRunner,
    Started,
    StartRun,
)
from torc.api.workflows import CreateWorkflow, GetWorkflow, Workflow

NODE = NodeCapacity(num_cpus=1000, memory_bytes=1 << 50, num_gpus=8)


def spec(*chains: str, **fields: Any) -> dict[str, Any]:
    """Return a spec from chains of names: each group waits for all of the group before it.

    `fields` are fields of the workflow; `jobs={"a": {...}}` adds fields to single jobs.
    """
    waits: dict[str, set[str]] = {}
    for chain in chains:
        groups = [part.split() for part in chain.split("->")]
        for at, group in enumerate(groups):
            for name in group:
                waits.setdefault(name, set()).update(groups[at - 1] if at else ())
    own = fields.pop("jobs", {})
    return {
        "name": "test",
        "jobs": [
            {
                "name": name,
                "command": f"echo {name}",
                **({"depends_on": sorted(waits[name])} if waits[name] else {}),
                **own.get(name, {}),
            }
            for name in waits
        ],
        **fields,
    }


def make(torc: Torc, *chains: str) -> Workflow:
    """Store a workflow of chains of names."""
    return create(torc, spec(*chains))


def create(torc: Torc, document: dict[str, Any], directory: str = "/somewhere") -> Workflow:
    """Store a spec."""
    return torc.send(CreateWorkflow(spec=json.dumps(document), format="json", directory=directory))


def workflow(torc: Torc, *chains: str, **fields: Any) -> int:
    """Store a workflow made of chains and give its id."""
    return create(torc, spec(*chains, **fields)).id


def get(torc: Torc, workflow_id: int) -> Workflow:
    """Return a workflow as it is now."""
    return torc.send(GetWorkflow(workflow_id=workflow_id))


def jobs(torc: Torc, workflow_id: int) -> dict[str, Job]:
    """Return all jobs by name."""
    return {job.name: job for job in torc.send(ListJobs(workflow_id=workflow_id, limit=10_000)).items}


def job(torc: Torc, workflow_id: int, name: str) -> Job:
    """Return one job with its relations."""
    return torc.send(GetJob(job_id=jobs(torc, workflow_id)[name].id))


def states(torc: Torc, workflow_id: int) -> str:
    """Return the states of all jobs in order of id: `a:completed b:ready`."""
    return " ".join(f"{job.name}:{job.state}" for job in jobs(torc, workflow_id).values())


def runner(torc: Torc, workflow_id: int, pid: int = 1) -> int:
    """Begin or go on with a run and register a runner for it."""
    torc.send(StartRun(workflow_id=workflow_id))
    return torc.send(
        RegisterRunner(
            workflow_id=workflow_id, host="here", pid=pid, process_started="1", boot_id="boot", capacity=NODE
        )
    ).id


def exchange(torc: Torc, workflow_id: int, runner_id: int, **fields: Any) -> ExchangeReply:
    """Say one thing to the store as a runner with plenty of room."""
    return torc.send(Exchange(workflow_id=workflow_id, runner_id=runner_id, **{"free": NODE, **fields}))


def claim(torc: Torc, workflow_id: int, runner_id: int, limit: int = 1000) -> dict[str, Assignment]:
    """Claim what is ready and start it; returns the assignments by name."""
    reply = exchange(torc, workflow_id, runner_id, limit=limit)
    started = [Started(job_id=item.job_id, attempt=item.attempt, started_at=1.0) for item in reply.assignments]
    exchange(torc, workflow_id, runner_id, started=started)
    return {item.name: item for item in reply.assignments}


def ended(
    item: Assignment | JobAttempt, outcome: Outcome = "succeeded", return_code: int = 0, *, at: float = 2.0, **more: Any
) -> Finished:
    """Return the report of an attempt that took the second before `at`."""
    return Finished(
        job_id=item.job_id,
        attempt=item.attempt,
        outcome=outcome,
        return_code=return_code,
        started_at=at - 1.0,
        ended_at=at,
        wall_seconds=1.0,
        **more,
    )


def finish(
    torc: Torc,
    workflow_id: int,
    *names: str,
    failed: bool = False,
    return_code: int | None = None,
    slurm_state: str | None = None,
) -> None:
    """Run the named jobs, which must be ready, to their end with a runner of their own; the others are given back."""
    code = return_code if return_code is not None else int(failed)
    runner_id = runner(torc, workflow_id)
    given = {item.name: item for item in exchange(torc, workflow_id, runner_id, limit=1000).assignments}
    assert set(names) <= set(given), f"not ready: {set(names) - set(given)}"
    outcome: Outcome = "failed" if failed else "succeeded"
    exchange(
        torc,
        workflow_id,
        runner_id,
        stopping=True,
        finished=[ended(given[name], outcome, code).model_copy(update={"slurm_state": slurm_state}) for name in names],
        released=[
            JobAttempt(job_id=item.job_id, attempt=item.attempt) for item in given.values() if item.name not in names
        ],
    )
    torc.send(EndRunner(workflow_id=workflow_id, runner_id=runner_id))


def run_all(torc: Torc, workflow_id: int, failing: tuple[str, ...] = (), *, at: float = 2.0) -> Workflow:
    """Run everything that can run to its end, in the second before `at`; the named jobs fail."""
    runner_id = runner(torc, workflow_id)
    reply = exchange(torc, workflow_id, runner_id, limit=1000)
    while reply.assignments:
        reports = [
            ended(item, "failed", 1, at=at) if item.name in failing else ended(item, at=at)
            for item in reply.assignments
        ]
        reply = exchange(torc, workflow_id, runner_id, finished=reports, limit=1000)
    torc.send(EndRunner(workflow_id=workflow_id, runner_id=runner_id))
    return get(torc, workflow_id)
