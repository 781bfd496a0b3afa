"""Allocations in the store: recorded once, followed, and what their end means for runners and jobs."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from tests.support.workflows import NODE, claim, ended, exchange, jobs, states, workflow
from torc.api.allocations import (
    Allocation,
    AllocationObservation,
    CancelAllocations,
    GetAllocation,
    ListAllocations,
    ListFailedNodes,
    NewAllocation,
    ObserveAllocations,
    Observed,
    RecordAllocations,
    ReportSubmissions,
    Submission,
)
from torc.api.diagnosis import ExplainJob
from torc.api.recovery import RecoverWorkflow
from torc.api.runs import ListResults, ListRunners, RegisterRunner, StartRun
from torc.api.workflows import ArchiveWorkflow, CancelWorkflow
from torc.client.embedded import Embedded
from torc.errors import Conflict, NotFound
from torc.failures.retry import MAX_LOSSES

ASKED = NewAllocation(name="test", walltime_seconds=600)


def record(torc: Embedded, number: int, **fields: Any) -> Allocation:
    made = torc.send(RecordAllocations(workflow_id=number, allocations=[ASKED.model_copy(update=fields)]))[0]
    told = [Submission(allocation_id=made.id, cluster_job_id=str(1000 + made.id))]
    return torc.send(ReportSubmissions(workflow_id=number, submissions=told))[0]


def see(torc: Embedded, allocation: Allocation, state: str, **fields: Any) -> Observed:
    seen = AllocationObservation(allocation_id=allocation.id, cluster_state=state, **fields)
    return torc.send(ObserveAllocations(workflow_id=allocation.workflow_id, observations=[seen]))


def inhabit(torc: Embedded, allocation: Allocation, node: str = "n1") -> int:
    """Register a runner that lives in an allocation."""
    torc.send(StartRun(workflow_id=allocation.workflow_id))
    return torc.send(
        RegisterRunner(
            workflow_id=allocation.workflow_id,
            kind="slurm",
            host=node,
            pid=1,
            process_started="1",
            boot_id="boot",
            capacity=NODE,
            allocation_id=allocation.id,
            node=node,
        )
    ).id


def now(torc: Embedded, allocation: Allocation) -> Allocation:
    return torc.send(GetAllocation(allocation_id=allocation.id))


def test_an_allocation_is_recorded_then_submitted_then_followed(torc: Embedded) -> None:
    number = workflow(torc, "a")
    made = torc.send(RecordAllocations(workflow_id=number, allocations=[ASKED, ASKED]))
    assert [item.state for item in made] == ["submitting", "submitting"]
    assert len({item.mark for item in made}) == 2
    refused = Submission(allocation_id=made[1].id, error="Invalid account")
    first, second = torc.send(
        ReportSubmissions(
            workflow_id=number, submissions=[Submission(allocation_id=made[0].id, cluster_job_id="7"), refused]
        )
    )
    assert (first.state, first.cluster_job_id) == ("pending", "7")
    again = Submission(allocation_id=first.id, cluster_job_id="8")  # of another follower, at the same time
    assert torc.send(ReportSubmissions(workflow_id=number, submissions=[again]))[0].cluster_job_id == "7"
    assert (second.state, second.cluster_state, second.reason) == ("ended", "NOT_SUBMITTED", "Invalid account")
    see(torc, first, "PENDING", reason="Priority", expected_start_at=5000.0)
    assert (now(torc, first).reason, now(torc, first).expected_start_at) == ("Priority", 5000.0)
    see(torc, first, "RUNNING", nodes=["n1"], started_at=100.0)
    see(torc, first, "PENDING", source="accounting")
    see(torc, first, "COMPLETED", source="accounting", started_at=100.0, ended_at=160.0, exit_code="0:0")
    last = now(torc, first)
    assert (last.state, last.exit_code, last.nodes, last.node_seconds_used) == ("ended", "0:0", ["n1"], 60.0)
    assert last.node_seconds_wasted == 60.0
    see(torc, first, "RUNNING")
    assert now(torc, first) == last.model_copy(update={"seen_at": now(torc, first).seen_at})
    assert [item.id for item in torc.send(ListAllocations(workflow_id=number)).items] == [second.id, first.id]
    assert torc.send(ListAllocations(active_only=True)).items == []
    with pytest.raises(NotFound, match="no allocation 99"):
        torc.send(GetAllocation(allocation_id=99))


def test_what_a_firing_asked_for_is_recorded_once(torc: Embedded) -> None:
    number = workflow(torc, "a")
    ask = RecordAllocations(workflow_id=number, allocations=[ASKED], firing_id=5)
    assert [item.id for item in torc.send(ask)] == [item.id for item in torc.send(ask)]


def test_nothing_is_asked_for_and_no_runner_enters_while_a_workflow_is_archived(torc: Embedded) -> None:
    number = workflow(torc, "a")
    torc.send(StartRun(workflow_id=number))
    torc.send(ArchiveWorkflow(workflow_id=number))
    with pytest.raises(Conflict, match="archived") as refused:
        torc.send(RecordAllocations(workflow_id=number, allocations=[ASKED]))
    assert refused.value.hint == f"bring it back: torc workflows archive {number} --undo"
    with pytest.raises(Conflict, match="archived"):
        torc.send(
            RegisterRunner(
                workflow_id=number, host="here", pid=1, process_started="1", boot_id="boot", capacity=NODE, kind="slurm"
            )
        )
    torc.send(ArchiveWorkflow(workflow_id=number, archived=False))
    torc.send(CancelWorkflow(workflow_id=number))
    with pytest.raises(Conflict, match="canceled") as refused:
        torc.send(RecordAllocations(workflow_id=number, allocations=[ASKED]))
    assert refused.value.hint == f"reset it first: torc workflows reset {number}"


def test_an_allocation_that_was_not_reported_is_found_by_its_mark(torc: Embedded) -> None:
    number = workflow(torc, "a")
    made = torc.send(RecordAllocations(workflow_id=number, allocations=[ASKED]))[0]
    torc.send(ObserveAllocations(workflow_id=number, silent=[made.id]))
    assert now(torc, made).state == "submitting", "silence means nothing yet"
    see(torc, made, "RUNNING", cluster_job_id="12", nodes=["n1"])
    found = now(torc, made)
    assert (found.state, found.cluster_job_id) == ("running", "12")


@pytest.mark.parametrize(
    ("state", "expected", "reason", "category", "remedy"),
    [
        ("OUT_OF_MEMORY", "terminated", "out_of_memory", "out_of_memory", "more memory"),
        ("TIMEOUT", "terminated", "timeout", "timeout", "more time"),
        ("CANCELLED", "terminated", "runner_stopped", None, None),
        ("NODE_FAIL", "ready", "runner_lost", None, None),
        ("PREEMPTED", "ready", "runner_lost", None, None),
        ("FAILED", "ready", "runner_lost", None, None),
    ],
)
def test_the_end_of_an_allocation_is_told_of_the_jobs_in_it(
    torc: Embedded, state: str, expected: str, reason: str, category: str | None, remedy: str | None
) -> None:
    needs = [{"name": "small", "num_cpus": 1, "memory": "2g", "runtime": "PT1M"}]
    own = {"a": {"resource_requirements": "small"}}
    number = workflow(torc, "a b", jobs=own, resource_requirements=needs)
    allocation = record(torc, number)
    runner_id = inhabit(torc, allocation)
    given = claim(torc, number, runner_id)
    exchange(torc, number, runner_id, finished=[ended(given["b"])], limit=0)
    seen = see(torc, allocation, state, source="accounting")
    assert (seen.runners_ended, seen.jobs_lost) == (1, 1)
    assert states(torc, number) == f"a:{expected} b:completed"
    told = {item.job_name: item for item in torc.send(ListResults(workflow_id=number)).items}
    assert (told["a"].reason, told["a"].slurm_state, told["b"].slurm_state) == (reason, state, None)
    assert torc.send(ListRunners(workflow_id=number, active_only=True)).items == []
    if category is not None:
        found = torc.send(ExplainJob(job_id=told["a"].job_id)).diagnosis
        assert found is not None and (found.category, found.remedy) == (category, remedy)
        recovery = torc.send(RecoverWorkflow(workflow_id=number))
        assert recovery.num_retried == 1 and states(torc, number).startswith("a:ready")
    if state == "CANCELLED":
        torc.send(StartRun(workflow_id=number))
        assert states(torc, number).startswith("a:ready"), "a new run goes on with it"


@pytest.mark.parametrize(("state", "lives_on"), [("PREEMPTED", True), ("NODE_FAIL", False)])
def test_only_faults_are_counted(torc: Embedded, state: str, lives_on: bool) -> None:
    number = workflow(torc, "a")
    for _ in range(MAX_LOSSES + 1):
        allocation = record(torc, number)
        claim(torc, number, inhabit(torc, allocation))
        see(torc, allocation, state)
    assert states(torc, number) == ("a:ready" if lives_on else "a:terminated")


def test_a_requeue_ends_the_runners_and_the_allocation_begins_anew(torc: Embedded) -> None:
    number = workflow(torc, "a")
    allocation = record(torc, number)
    claim(torc, number, inhabit(torc, allocation))
    assert see(torc, allocation, "PENDING", reason="BeginTime").jobs_lost == 1
    again = now(torc, allocation)
    assert (again.state, again.restarts, again.ended_at) == ("pending", 1, None)
    assert states(torc, number) == "a:ready"
    claim(torc, number, inhabit(torc, allocation))
    assert now(torc, allocation).state == "running"


def test_what_was_killed_for_memory_before_its_allocation_ended_is_told_afterwards(torc: Embedded) -> None:
    number = workflow(torc, "a b")
    allocation = record(torc, number)
    runner_id = inhabit(torc, allocation)
    given = claim(torc, number, runner_id)
    reports = [ended(given["a"], "failed", -9), ended(given["b"], "failed", 1)]
    exchange(torc, number, runner_id, finished=reports, limit=0)
    see(torc, allocation, "OUT_OF_MEMORY", exit_code="0:125")
    told = {item.job_name: item.slurm_state for item in torc.send(ListResults(workflow_id=number)).items}
    assert told == {"a": "OUT_OF_MEMORY", "b": None}
    explained = torc.send(ExplainJob(job_id=jobs(torc, number)["a"].id)).diagnosis
    assert explained is not None and explained.remedy == "more memory"


def test_nodes_that_failed_are_told_and_left_out(torc: Embedded) -> None:
    number = workflow(torc, "a")
    for _ in range(2):
        allocation = record(torc, number)
        inhabit(torc, allocation, "n7")
        see(torc, allocation, "NODE_FAIL", nodes=["n7"])
    boot = record(torc, number)
    see(torc, boot, "BOOT_FAIL", nodes=["n8"])
    failed = torc.send(ListFailedNodes(workflow_id=number))
    assert [(item.node, item.num_failures, item.is_excluded) for item in failed] == [("n7", 2, True), ("n8", 1, True)]
    with torc.store.dialect.begin_write(torc.store.engine) as db:
        db.execute(text("UPDATE allocation SET ended_at = ended_at - 3600"))
    failed = torc.send(ListFailedNodes(workflow_id=number))
    assert [(item.node, item.is_excluded) for item in failed] == [("n7", True), ("n8", False)], "once, and an hour ago"


def test_cancelling_marks_and_nobody_moves_in_any_more(torc: Embedded) -> None:
    number = workflow(torc, "a b")
    waiting, running = record(torc, number), record(torc, number)
    inhabit(torc, running)
    to_tell = torc.send(CancelAllocations(workflow_id=number, queued_only=True))
    assert [item.id for item in to_tell] == [waiting.id]
    with pytest.raises(Conflict, match="being cancelled"):
        inhabit(torc, waiting)
    assert len(torc.send(CancelAllocations(workflow_id=number))) == 2
    see(torc, waiting, "CANCELLED by 0")
    with pytest.raises(Conflict, match="has ended"):
        inhabit(torc, waiting)


def test_a_handler_may_give_more_memory_after_an_allocation_ran_out_of_it(torc: Embedded) -> None:
    rules = [{"match_categories": ["out_of_memory"], "memory_multiplier": 2.0, "max_retries": 1}]
    number = workflow(
        torc, "a", failure_handlers=[{"name": "more", "rules": rules}], jobs={"a": {"failure_handler": "more"}}
    )
    for expected in ("a:ready", "a:terminated"):
        allocation = record(torc, number)
        claim(torc, number, inhabit(torc, allocation))
        see(torc, allocation, "OUT_OF_MEMORY")
        assert states(torc, number) == expected


def test_a_job_that_waits_for_an_allocation_says_so_and_why(torc: Embedded) -> None:
    number = workflow(torc, "a")
    torc.send(StartRun(workflow_id=number))
    job_id = jobs(torc, number)["a"].id

    def told() -> str:
        found = torc.send(ExplainJob(job_id=job_id))
        return f"{found.summary} | {found.hint}"

    assert told().startswith("no runner works on its workflow | torc run")
    allocation = record(torc, number)
    see(torc, allocation, "PENDING", reason="Priority", expected_start_at=4e9)
    assert (
        f"allocation {allocation.id} (job {allocation.cluster_job_id}) waits in the queue, expected to start in"
        in told()
    )
    assert "other jobs in the queue have priority (Priority)" in told()
    see(torc, allocation, "PENDING", reason="PartitionTimeLimit")
    assert "more time than its partition allows" in told() and "request less" in told()
    see(torc, allocation, "RUNNING", nodes=["n1"])
    assert "has begun, and its runners are about to speak" in told()
    see(torc, allocation, "TIMEOUT")
    assert "has ended: TIMEOUT" in told() and "--recover" in told()
