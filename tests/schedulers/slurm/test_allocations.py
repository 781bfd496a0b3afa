"""Allocations on a real cluster: submitted once whatever is killed, followed with few commands, told of as they end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.slurm import Slurm as RealCluster
from tests.support.stores import open_sqlite
from tests.support.wait import wait_until
from tests.support.workflows import NODE, claim, run_all, states, workflow
from torc.api.allocations import Allocation, GetAllocation, ListAllocations, ListDueScheduling, RecordAllocations
from torc.api.runs import ListResults, RegisterRunner, StartRun
from torc.client.embedded import Embedded
from torc.errors import Unavailable
from torc.schedulers.autoscaling import StrandedJobs
from torc.schedulers.base import OpenAllocation
from torc.schedulers.follow import Follower
from torc.schedulers.polling import PollPace, poll
from torc.schedulers.slurm import commands
from torc.schedulers.slurm.backend import SlurmBackend
from torc.schedulers.slurm.request import SlurmRequest
from torc.schedulers.submission import cancel, new_allocation, submit

SMALL = SlurmRequest("sweep", 600, cpus_per_node=1, memory_bytes_per_node=100 << 20)
#: waits for ever: a partition of it has no room for a second one
HOLD = "#!/bin/sh\nexec sleep 600\n"


class Here:
    """A store, a folder with a difficult name, and the cluster."""

    def __init__(self, torc: Embedded, folder: Path) -> None:
        self.torc, self.folder = torc, folder
        hold = folder / "hold it.sh"
        hold.write_text(HOLD)
        hold.chmod(0o755)
        self.slurm = SlurmBackend(
            1, (str(hold),), str(folder), str(folder), {"TORC_DB": str(folder / "torc.db")}, patience=2.0
        )

    def ask(self, number: int, *requests: SlurmRequest) -> list[Allocation]:
        self.torc.send(StartRun(workflow_id=number))
        return submit(self.torc, number, requests or [SMALL], self.slurm)

    def now(self, allocation: Allocation) -> Allocation:
        return self.torc.send(GetAllocation(allocation_id=allocation.id))

    def until(self, allocation: Allocation, *words: str) -> Allocation:
        """Poll until the cluster's word of an allocation is one of these."""

        def is_so() -> bool:
            poll(self.torc, self.slurm, heal=False)
            return self.now(allocation).cluster_state in words

        wait_until(is_so, timeout=90, what=f"allocation {allocation.id} is {words}")
        return self.now(allocation)

    def inhabit(self, allocation: Allocation) -> int:
        return self.torc.send(
            RegisterRunner(
                workflow_id=allocation.workflow_id,
                kind="slurm",
                host="h",
                pid=1,
                process_started="1",
                boot_id="b",
                capacity=NODE,
                allocation_id=allocation.id,
                node=self.now(allocation).nodes[0],
            )
        ).id


@pytest.fixture
def here(slurm: RealCluster, sqlite_file: Path, tmp_path: Path) -> Any:
    folder = tmp_path / "a folder # with 100% $HOME"
    folder.mkdir()
    torc = open_sqlite(sqlite_file, folder)
    yield Here(torc, folder)
    torc.close()


def test_from_the_submission_to_the_end_with_few_commands(here: Here, slurm: RealCluster) -> None:
    number = workflow(here.torc, "a")
    made = here.ask(number, SMALL, SMALL)
    refused = here.ask(number, SlurmRequest("bad", 600, partition="no such one"))[0]
    assert refused.cluster_state == "NOT_SUBMITTED" and "partition" in (refused.reason or "").lower()
    for item in made:
        here.until(item, "RUNNING")
    before = commands.issued()
    poll(here.torc, here.slurm)
    after = commands.issued()
    assert {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)} == {
        "squeue": 1
    }
    first = here.now(made[0])
    assert first.nodes[0] in slurm.nodes and first.started_at is not None
    assert cancel(here.torc, number, here.slurm, allocation_ids=[first.id])[0].id == first.id
    slurm.call("scancel", here.now(made[1]).cluster_job_id or "")
    ends = [here.until(item, "CANCELLED") for item in made]
    wait_until(
        lambda: bool(poll(here.torc, here.slurm)) and here.now(first).exit_code, what="the accounting", timeout=60
    )
    assert all(item.started_at is not None and item.ended_at is not None for item in ends)
    assert poll(here.torc, here.slurm).open == []
    assert list(here.folder.glob("slurm_output_wf1_sl*.e"))


def test_what_was_submitted_and_not_recorded_is_found_and_what_was_submitted_twice_is_cancelled_once(
    here: Here, slurm: RealCluster
) -> None:
    number = workflow(here.torc, "a")
    here.torc.send(StartRun(workflow_id=number))
    recorded = here.torc.send(RecordAllocations(workflow_id=number, allocations=[new_allocation(SMALL)]))[0]
    first = here.slurm.submit(here.slurm.render(SMALL, recorded.mark, recorded.id)).cluster_job_id
    second = here.slurm.submit(here.slurm.render(SMALL, recorded.mark, recorded.id)).cluster_job_id
    poll(here.torc, here.slurm)
    assert here.now(recorded).cluster_job_id == first
    slurm.wait_for(second, "CANCELLED")
    assert here.until(recorded, "RUNNING").cluster_job_id == first
    assert here.slurm.look([OpenAllocation("torc-wf1-al9-00000000", None, 0.0)]).observations == {}


def test_what_slurm_does_not_take_now_is_submitted_when_there_is_room(here: Here, slurm: RealCluster) -> None:
    number = workflow(here.torc, "a")
    before = commands.issued().get("sbatch", 0)
    try:
        slurm.call("scontrol", "update", "partitionname=debug", "state=drain")
        made = here.ask(number, SMALL, SMALL, replace(SMALL, partition="short"))
        assert [item.cluster_state for item in made] == ["DEFERRED", "DEFERRED", "PENDING"]
        assert commands.issued()["sbatch"] == before + 2, "one refusal speaks for all of its place"
        assert {item.state for item in made[:2]} == {"submitting"}
        assert all("not available" in (item.reason or "") for item in made[:2])
        poll(here.torc, here.slurm)
        assert commands.issued()["sbatch"] == before + 2, "not at once again"
    finally:
        slurm.call("scontrol", "update", "partitionname=debug", "state=up")
    cancel(here.torc, number, here.slurm, allocation_ids=[made[1].id])
    assert "cancelled before" in (here.until(made[1], "NOT_SUBMITTED").reason or "")
    slurm.call("scancel", here.now(made[2]).cluster_job_id or "")
    here.until(made[2], "CANCELLED")
    wait_until(
        lambda: bool(poll(here.torc, here.slurm)) and here.now(made[0]).cluster_job_id,
        what="the submission",
        timeout=90,
    )
    assert here.until(made[0], "RUNNING").reason is None


def test_without_accounting_the_queue_alone_is_followed(
    here: Here, slurm: RealCluster, caplog: pytest.LogCaptureFixture
) -> None:
    number = workflow(here.torc, "a")
    first, second = here.ask(number, SMALL, SMALL)
    here.until(first, "RUNNING")
    slurm.stop_accounting()
    try:
        slurm.call("scancel", here.now(first).cluster_job_id or "")
        here.until(first, "CANCELLED")
        asked = commands.issued()["sacct"]
        for _ in range(3):
            poll(here.torc, here.slurm)
        assert commands.issued()["sacct"] == asked, "it is left alone for a while"
        gone = here.slurm.look([OpenAllocation("torc-wf1-al9-00000000", "999999", 0.0)])
        assert gone.uncertain == {"torc-wf1-al9-00000000"}, "nobody can say that it is gone"
        assert sum("accounting does not answer" in message for message in caplog.messages) == 1
    finally:
        slurm.sandbox.start(install=False)
    cancel(here.torc, number, here.slurm)
    here.until(second, "CANCELLED")


def test_a_node_that_fails_takes_its_runners_along_and_is_left_out(here: Here, slurm: RealCluster) -> None:
    number = workflow(here.torc, "a")
    item = here.ask(number)[0]
    node = here.until(item, "RUNNING").nodes[0]
    claim(here.torc, number, here.inhabit(item))
    slurm.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    here.until(item, "NODE_FAIL")
    assert states(here.torc, number) == "a:ready"
    (told,) = here.torc.send(ListResults(workflow_id=number)).items
    assert (told.reason, told.slurm_state) == ("runner_lost", "NODE_FAIL")
    again = here.ask(number)[0]
    assert again.request["exclude"] == [node]
    assert here.until(again, "RUNNING").nodes != [node]
    cancel(here.torc, number, here.slurm)
    here.until(again, "CANCELLED")
    (all_,) = here.ask(number, replace(SMALL, num_nodes=len(slurm.nodes)))
    assert all_.request["exclude"] == [node] and all_.cluster_job_id, (
        "where the others do not suffice, it is asked for, too"
    )
    assert node in here.until(all_, "RUNNING").nodes


def test_a_requeue_is_told_apart_from_an_end(here: Here, slurm: RealCluster) -> None:
    number = workflow(here.torc, "a")
    item = here.ask(number)[0]
    here.until(item, "RUNNING")
    claim(here.torc, number, here.inhabit(item))
    job = here.now(item).cluster_job_id or ""
    slurm.call("scontrol", "update", f"jobid={job}", "requeue=1")
    slurm.call("scontrol", "requeue", job)
    wait_until(
        lambda: bool(poll(here.torc, here.slurm)) and here.now(item).restarts == 1, what="the requeue", timeout=60
    )
    assert states(here.torc, number) == "a:ready"
    (told,) = here.torc.send(ListResults(workflow_id=number)).items
    assert (told.reason, told.slurm_state) == ("runner_lost", "REQUEUED")


@pytest.mark.slow
def test_a_controller_that_is_away_is_no_news(here: Here, slurm: RealCluster, caplog: pytest.LogCaptureFixture) -> None:
    number = workflow(here.torc, "a")
    item = here.ask(number)[0]
    here.until(item, "RUNNING")
    claim(here.torc, number, here.inhabit(item))
    slurm.sandbox.stop_controller()
    try:
        with pytest.raises(Unavailable):
            poll(here.torc, here.slurm)
        follower = Follower(here.torc, number, here.slurm)
        assert [found.id for found in follower.step().open] == [item.id] and not follower.pace.is_due()
        assert any("the cluster does not answer; running jobs go on" in message for message in caplog.messages)
        with pytest.raises(Unavailable):
            here.ask(number)
    finally:
        slurm.sandbox.start_controller()
    assert states(here.torc, number) == "a:running" and here.now(item).state == "running"
    waiting = here.torc.send(ListAllocations(workflow_id=number)).items[0]
    assert (waiting.state, waiting.cluster_state) == ("submitting", "DEFERRED"), "to be submitted by whoever follows"
    assert "sbatch" in (waiting.reason or "")
    wait_until(lambda: bool(poll(here.torc, here.slurm)), what="the controller", timeout=60)
    assert here.until(item, "RUNNING").state == "running"


def test_actions_ask_for_nodes_once_and_what_nobody_needs_is_cancelled(here: Here, slurm: RealCluster) -> None:
    schedulers = [{"name": "cpu", "walltime": "00:10:00", "mem": "100M", "cpus_per_node": 1}]
    actions = [
        {
            "trigger_type": "on_workflow_start",
            "action_type": "schedule_nodes",
            "scheduler": "cpu",
            "scheduler_type": "slurm",
        },
        {
            "trigger_type": "on_jobs_ready",
            "action_type": "schedule_nodes",
            "scheduler": "cpu",
            "scheduler_type": "slurm",
            "jobs": ["b"],
            "num_allocations": 2,
        },
    ]
    number = workflow(here.torc, "a -> b", slurm_schedulers=schedulers, actions=actions)
    here.torc.send(StartRun(workflow_id=number))
    followers = [Follower(here.torc, number, here.slurm, pace=PollPace(least=0.0)) for _ in range(2)]
    due = here.torc.send(ListDueScheduling(workflow_id=number))
    assert [(item.trigger_type, item.scheduler, item.num_allocations) for item in due] == [
        ("on_workflow_start", "cpu", 1)
    ]
    assert [len(follower.step().submitted) for follower in followers] == [1, 0]
    slurm.call("scontrol", "update", "partitionname=debug", "state=down")  # what is asked for now waits
    try:
        run_all(here.torc, number)
    finally:
        slurm.call("scontrol", "update", "partitionname=debug", "state=up")
    assert all(follower.step().workflow.state == "completed" for follower in followers)
    open_ = here.torc.send(ListAllocations(workflow_id=number, active_only=True)).items
    assert [item.id for item in open_ if item.cancel_requested_at is None and item.state != "running"] == []


def test_allocations_that_wait_are_cancelled_when_no_work_is_left(here: Here, slurm: RealCluster) -> None:
    number = workflow(here.torc, "a")
    slurm.call("scontrol", "update", "partitionname=debug", "state=down")
    try:
        item = here.ask(number)[0]
        follower = Follower(here.torc, number, here.slurm, pace=PollPace(least=0.0))
        wait_until(lambda: follower.step().open[0].reason == "PartitionDown", what="the reason", timeout=60)
        assert follower.step().to_come == 1
        run_all(here.torc, number)
        follower.step()
        assert here.until(item, "CANCELLED").node_seconds_used == 0
    finally:
        slurm.call("scontrol", "update", "partitionname=debug", "state=up")


def test_jobs_that_no_open_allocation_can_take_get_one_of_their_own_now_and_then(
    here: Here, slurm: RealCluster
) -> None:
    needs = [{"name": "large", "num_cpus": 1, "memory": "1g", "runtime": "PT5M"}]
    own = {name: {"resource_requirements": "large"} for name in ("a", "b")}
    number = workflow(here.torc, "a b", jobs=own, resource_requirements=needs)
    open_ = here.ask(number)
    now = [0.0]
    stranded = StrandedJobs(
        here.torc, number, here.slurm, threshold=3, cooldown=100.0, patience=50.0, clock=lambda: now[0]
    )
    assert stranded.step(open_) == [], "two are few"
    now[0] = 51.0
    (made,) = stranded.step(open_)
    assert (made.memory_bytes_per_node or 0) > 1 << 30 and made.cluster_job_id is not None
    assert stranded.step([*open_, made]) == [], "it can take them"
    now[0] = 140.0
    assert stranded.step(open_) == [], "it rests"
    now[0] = 152.0
    assert stranded.step(open_) == [], "stranded anew, and few"
    now[0] = 203.0
    assert stranded.step(open_) != []
