"""What clusters do to jobs, on a real one: each is told as what it was, and recovered in allocations of corrected size."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import is_alive
from tests.support.slurm import Slurm as RealCluster
from tests.support.stores import open_sqlite
from tests.support.wait import wait_until
from torc.api.allocations import Allocation, ListAllocations
from torc.api.jobs import ListJobs
from torc.api.runs import ListResults, ListRunners, Result
from torc.api.workflows import CreateWorkflow, GetWorkflow
from torc.automation.policy import RecoveryPolicy
from torc.automation.scheduler_executor import SchedulerExecutor
from torc.automation.watch import WatchResult, WorkflowWatch
from torc.client.connect import connect
from torc.failures.diagnosis import AttemptFacts, diagnose
from torc.schedulers.polling import poll
from torc.schedulers.slurm.backend import SlurmBackend

pytestmark = pytest.mark.slow
_GREEDY = "import sys, time; a = bytearray({size} << 20); a[::4096] = b'x' * len(a[::4096]); time.sleep({seconds})"

SMALL = [{"name": "small", "num_cpus": 1, "memory": "200m", "runtime": "PT5M"}]


class Run:
    """A workflow on the cluster, watched with recovery in a thread of its own."""

    def __init__(self, torc: Any, folder: Path) -> None:
        self.torc, self.folder, self.number = torc, folder, 0
        self.slurm = SlurmBackend()
        self._thread: threading.Thread | None = None
        self._ended: list[WatchResult | BaseException] = []

    def begin(
        self, jobs: list[dict[str, Any]], *, mem: str = "500M", scheduler: dict[str, Any] | None = None, **fields: Any
    ) -> None:
        """Store a workflow that asks for one node at its start, and watch it."""
        document = {
            "name": "test",
            "jobs": jobs,
            "resource_requirements": SMALL,
            "compute_node_wait_for_new_jobs_seconds": 0,
            "slurm_schedulers": [
                {"name": "cpu", "walltime": "00:10:00", "mem": mem, "cpus_per_node": 2, **(scheduler or {})}
            ],
            "actions": [
                {
                    "trigger_type": "on_workflow_start",
                    "action_type": "schedule_nodes",
                    "scheduler": "cpu",
                    "scheduler_type": "slurm",
                    "start_one_worker_per_node": True,
                }
            ],
            **fields,
        }
        made = self.torc.send(CreateWorkflow(spec=json.dumps(document), format="json", directory=str(self.folder)))
        self.number = made.id
        program = (sys.executable, "-m", "torc.cli.main")
        variables = {"TORC_DB": str(self.folder / "torc.db")}
        self.slurm = SlurmBackend(
            self.number, program, str(self.folder), str(self.folder / "out"), variables, patience=5.0
        )
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        torc = connect(db=str(self.folder / "torc.db"))
        try:
            hands = SchedulerExecutor(torc, self.slurm, poll_seconds=0.5)
            self._ended.append(WorkflowWatch(torc, self.number, RecoveryPolicy(), hands, poll_seconds=0.5).run())
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            self._ended.append(error)
        finally:
            torc.close()

    def end(self, timeout: float = 150.0) -> WatchResult:
        """Wait until the watch ends."""
        wait_until(lambda: self._ended, timeout=timeout, what=f"the watch ends; {self.told()}")
        (ended,) = self._ended
        if isinstance(ended, BaseException):
            raise ended
        return ended

    def told(self) -> str:
        """Say how it stands, for failures."""
        workflow = self.torc.send(GetWorkflow(workflow_id=self.number))
        return f"{workflow.state} {workflow.counts}, {[(a.id, a.state, a.cluster_state) for a in self.allocations()]}"

    def allocations(self) -> list[Allocation]:
        return list(reversed(self.torc.send(ListAllocations(workflow_id=self.number)).items))

    def attempts(self, job: str = "a") -> list[Result]:
        page = self.torc.send(ListResults(workflow_id=self.number, limit=1000))
        return [result for result in page.items if result.job_name == job]

    def is_running(self, job: str, attempt: int | None = None) -> bool:
        jobs = self.torc.send(ListJobs(workflow_id=self.number, limit=100)).items if self.number else ()
        return any(item.name == job and item.state == "running" and attempt in {None, item.attempt} for item in jobs)

    def running(self, job: str = "a") -> str:
        """Wait until a job runs; returns the id that Slurm has of its allocation."""
        wait_until(lambda: self.is_running(job), timeout=90, what=f"{job} runs")
        return next(a.cluster_job_id for a in self.allocations() if a.state == "running" and a.cluster_job_id)


@pytest.fixture
def run(slurm: RealCluster, sqlite_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Run]:
    caplog.set_level(logging.INFO)
    torc = open_sqlite(sqlite_file, tmp_path)
    yield Run(torc, tmp_path)
    torc.close()


def waits(seconds: int = 60, **more: Any) -> dict[str, Any]:
    """A job that waits at its first attempt, and ends at once later."""
    command = f"test -e again && exit 0; touch again; sleep {seconds}"
    return {"name": "a", "command": command, "resource_requirements": "small", **more}


def nothing_is_left(run: Run) -> None:
    runners = ListRunners(workflow_id=run.number, active_only=True)
    wait_until(lambda: not run.torc.send(runners).items, timeout=60, what="no runner is left")
    wait_until(lambda: not poll(run.torc, run.slurm).open, timeout=60, what="no allocation is left")


@pytest.mark.parametrize("execution", ["direct", "step"])
def test_what_ran_out_of_memory_runs_again_with_more(run: Run, execution: str) -> None:
    greedy = f'{sys.executable} -c "{_GREEDY.format(size=450 if execution == "direct" else 250, seconds=1)}"'
    jobs = [{"name": "a", "command": greedy}, {"name": "b", "command": "true"}]
    run.begin([{**job, "resource_requirements": "small"} for job in jobs], mem="400M", execution=execution)
    ended = run.end()
    assert ended.ending == "completed" and 1 <= ended.num_rounds <= 3
    first, *_, last = run.attempts()
    assert first.state != "completed" and last.state == "completed"
    assert first.slurm_state == "OUT_OF_MEMORY" or first.reason == "out_of_memory"
    sizes = [item.memory_bytes_per_node or 0 for item in run.allocations()]
    assert sizes[-1] > sizes[0] or execution == "step"
    assert len(run.attempts("b")) == 1
    nothing_is_left(run)


def test_an_allocation_that_reached_its_end_is_followed_by_another(run: Run, slurm: RealCluster) -> None:
    run.begin([waits()])
    slurm.call("scontrol", "update", f"jobid={run.running()}", "EndTime=now+1")
    ended = run.end()
    assert ended.ending == "completed"
    first, *_ = run.attempts()
    assert first.slurm_state in {"TIMEOUT", None} and first.reason in {"runner_lost", "runner_stopped", "timeout"}
    assert len(run.allocations()) == 2
    nothing_is_left(run)


def test_what_somebody_cancelled_on_the_cluster_goes_on_in_another(run: Run, slurm: RealCluster) -> None:
    run.begin([waits()])
    slurm.call("scancel", run.running())
    assert run.end().ending == "completed"
    first, *_ = run.attempts()
    assert first.reason in {"runner_stopped", "runner_lost"} and first.slurm_state == "CANCELLED"
    before, after = run.allocations()
    assert before.cluster_state == "CANCELLED" and after.num_runners == 1
    nothing_is_left(run)


def test_a_node_that_failed_is_left_alone(run: Run, slurm: RealCluster) -> None:
    run.begin([waits()])
    run.running()
    node = run.torc.send(ListRunners(workflow_id=run.number)).items[0].node or ""
    slurm.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    assert run.end().ending == "completed"
    first, last = run.attempts()
    assert (first.slurm_state, last.state) == ("NODE_FAIL", "completed")
    before, after = run.allocations()
    assert before.nodes == [node] and node in after.request["exclude"] and after.nodes != [node]
    nothing_is_left(run)


@pytest.mark.parametrize("execution", ["direct", "step"])
def test_the_old_copy_on_a_node_that_fell_silent_is_ended_and_does_not_count(
    run: Run, slurm: RealCluster, execution: str
) -> None:
    """Slurm cannot end what is there: its daemon on the node is dead."""
    lasting = "echo $TORC_ATTEMPT_ID; test -s pid && exit 0; echo $$ > pid; trap '' TERM; while echo $TORC_ATTEMPT_ID; do sleep 0.2; done"
    late = "test -e late && exit 0; until test -e late; do sleep 0.1; done"
    jobs = [{"name": "a", "command": lasting}, {"name": "b", "command": late}]
    run.begin([{**job, "resource_requirements": "small"} for job in jobs], mem="700M", execution=execution)
    run.running("b")
    run.running()
    wait_until((run.folder / "pid").exists, timeout=60, what="the job runs")
    pid = int((run.folder / "pid").read_text())
    runner = run.torc.send(ListRunners(workflow_id=run.number)).items[0]
    slurm.sandbox.kill_node(runner.node or "")
    wait_until(lambda: run.allocations()[0].cluster_state == "NODE_FAIL", timeout=90, what="the node has failed")
    # before it runs again, a success of the old copy would count
    wait_until(lambda: run.is_running("b", attempt=2), timeout=90, what="b runs again")
    (run.folder / "late").touch()
    assert run.end().ending == "completed"
    wait_until(lambda: not is_alive(pid), timeout=60, what="the old copy is ended")
    wait_until(lambda: not is_alive(runner.pid), timeout=60, what="its runner has left")
    (log,) = (run.folder / "out").glob(f"job_runner_{runner.node}_*.log")
    told = log.read_text()
    if execution == "direct":  # srun may end it before it hears that it was given up
        told += "".join(path.read_text() for path in (run.folder / "out").glob("slurm_output_*.e"))
    words = {"direct": ("this runner was given up", "Node failure"), "step": ("its node failed",)}[execution]
    assert any(each in told for each in words)
    reasons = {"direct": {"runner_lost"}, "step": {"runner_lost", "runner_stopped"}}[execution]
    for job in "ab":
        first, last = run.attempts(job)
        assert (first.state, first.slurm_state) == ("terminated", "NODE_FAIL") and first.reason in reasons
        assert (last.state, last.slurm_state) == ("completed", None) and last.runner_id != runner.id
        assert diagnose(AttemptFacts(reason=first.reason, slurm_state="NODE_FAIL")).category == "node_failure"
    stem = f"out/job_stdio/job_wf{run.number}_j{run.attempts()[0].job_id}_r1_a"
    written = [set((run.folder / f"{stem}{attempt}.o").read_text().split()) for attempt in (1, 2)]
    assert written == [{"1"}, {"2"}], "neither copy writes into the log of the other"
    before, after = run.allocations()
    assert runner.node in after.request["exclude"] and before.nodes == [runner.node] != after.nodes
    nothing_is_left(run)


def test_what_was_preempted_goes_on_in_another(run: Run, slurm: RealCluster) -> None:
    before_it = {"name": "b", "command": "true", "resource_requirements": "small"}
    run.begin([waits(depends_on=["b"]), before_it], scheduler={"partition": "low"})
    run.running()
    node = run.torc.send(ListRunners(workflow_id=run.number)).items[0].node or ""
    rival = slurm.sbatch("sleep 600", "--partition=debug", f"--nodelist={node}", "--exclusive")
    assert run.end().ending == "completed" and slurm.state(rival) == "RUNNING"
    first, last = run.attempts()
    assert (first.slurm_state, last.slurm_state, last.state) == ("PREEMPTED", None, "completed")
    assert diagnose(AttemptFacts(reason=first.reason, slurm_state=first.slurm_state)).category == "preempted"
    assert [item.slurm_state for item in run.attempts("b")] == [None], "it had ended before"
    before, after = run.allocations()
    assert before.cluster_state == "PREEMPTED" and (after.partition, after.num_runners) == ("low", 1)
    nothing_is_left(run)


def test_what_missed_its_deadline_in_the_queue_is_asked_for_again(run: Run, slurm: RealCluster) -> None:
    """Slurm ends what waits, as soon as it can no longer end in time; what runs it leaves alone."""
    rival = slurm.sbatch("sleep 600", "--nodes=3", "--exclusive")
    slurm.wait_for(rival, "RUNNING")
    quick = {"runtime": "PT1M", "num_cpus": 1, "memory": "100m"}
    short = {"walltime": "00:05:00", "extra": "--deadline=now+308"}
    run.begin([{"name": "a", "command": "true", "resource_requirements": quick}], scheduler=short)

    def missed() -> bool:
        return any(item.cluster_state == "DEADLINE" for item in run.allocations()) if run.number else False

    wait_until(missed, timeout=90, what="an allocation has missed its deadline")
    slurm.call("scancel", rival)
    assert run.end().ending == "completed"
    assert [item.slurm_state for item in run.attempts()] == [None], "it ran once"
    first, *_, last = run.allocations()
    assert (first.cluster_state, first.num_runners, last.num_runners) == ("DEADLINE", 0, 1)
    nothing_is_left(run)


def test_a_controller_that_starts_anew_in_the_middle_changes_nothing(run: Run, slurm: RealCluster) -> None:
    run.begin([waits(20), {"name": "b", "command": "true", "depends_on": ["a"], "resource_requirements": "small"}])
    run.running()
    slurm.sandbox.stop_controller()  # a killed one forgets the jobs of its last seconds
    slurm.sandbox.start_controller()
    assert run.end().ending == "completed"
    assert len(run.attempts()) == len(run.attempts("b")) == 1
    nothing_is_left(run)


def test_a_requeue_begins_the_jobs_again(run: Run, slurm: RealCluster) -> None:
    run.begin([waits()])
    number = run.running()
    slurm.call("scontrol", "update", f"jobid={number}", "requeue=1")
    slurm.call("scontrol", "requeue", number)
    assert run.end().ending == "completed"
    first, *_ = run.attempts()
    assert first.reason in {"runner_lost", "runner_stopped"}
    assert run.allocations()[0].restarts == 1
    nothing_is_left(run)
