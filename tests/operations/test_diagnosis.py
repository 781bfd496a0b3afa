"""Failed jobs grouped by what is wrong with them, and what others wait for."""

from __future__ import annotations

import pytest

from tests.support.workflows import NODE, claim, ended, exchange, finish, jobs, runner, workflow
from torc.api.base import Torc
from torc.api.diagnosis import DiagnoseWorkflow, ExplainJob, Explanation
from torc.api.jobs import ActOnJobs
from torc.api.recovery import RecoverWorkflow
from torc.api.runs import EndRunner, Exchange, NodeCapacity, RegisterRunner, StartRun
from torc.errors import NotFound


def explain(torc: Torc, wf: int, name: str) -> Explanation:
    return torc.send(ExplainJob(job_id=jobs(torc, wf)[name].id))


def fail(torc: Torc, wf: int, texts: dict[str, str], **more: object) -> None:
    """Have jobs fail, each with what it wrote."""
    number = runner(torc, wf)
    given = {item.name: item for item in exchange(torc, wf, number, limit=1000).assignments}
    reports = [
        ended(given[name], "failed", 1, stderr_tail=text or None, stderr_line=7 if text else None, **more)  # type: ignore[arg-type]
        for name, text in texts.items()
    ]
    exchange(torc, wf, number, finished=reports, stopping=True)
    torc.send(EndRunner(workflow_id=wf, runner_id=number))


def test_failed_jobs_are_grouped_by_what_is_wrong_with_them(torc: Torc) -> None:
    names = [f"j{number}" for number in range(12)]
    wf = workflow(torc, " ".join(names), "j0 -> k")
    texts = {
        name: f"cannot read\nFileNotFoundError: [Errno 2] No such file or directory: '/d/{name}.csv'"
        for name in names[:6]
    }
    texts |= {name: f"step {name}\nMemoryError\n" for name in names[6:9]}
    texts |= {"j9": "", "j10": "Segmentation fault"}
    fail(torc, wf, texts)
    found = torc.send(DiagnoseWorkflow(workflow_id=wf, jobs_per_group=2))
    assert (found.num_failed, found.num_groups, found.num_canceled) == (11, 4, 1)
    assert found.by_category == {"missing_file": 6, "out_of_memory": 3, "unknown": 2}
    assert [(group.count, group.category) for group in found.groups[:2]] == [(6, "missing_file"), (3, "out_of_memory")]
    first = found.groups[0]
    assert first.job_ids == [jobs(torc, wf)["j0"].id, jobs(torc, wf)["j1"].id]
    assert first.sample.diagnosis is not None
    assert [(quote.log, quote.line) for quote in first.sample.diagnosis.quotes] == [("stderr", 8)]
    assert found.groups[1].remedy == "more memory"
    assert len(torc.send(DiagnoseWorkflow(workflow_id=wf, limit=1)).groups) == 1


def test_a_workflow_without_failures_has_no_groups(torc: Torc) -> None:
    wf = workflow(torc, "a")
    found = torc.send(DiagnoseWorkflow(workflow_id=wf))
    assert (found.num_failed, found.groups, found.by_category) == (0, [], {})


def test_what_was_interrupted_has_not_failed_and_needs_no_recovery(torc: Torc) -> None:
    wf = workflow(torc, "a b")
    number = runner(torc, wf)
    given = {item.name: item for item in exchange(torc, wf, number, limit=10).assignments}
    stopped = ended(given["a"], "interrupted", -9, reason="runner_stopped")
    exchange(torc, wf, number, finished=[stopped, ended(given["b"], "failed", 1)], stopping=True)
    torc.send(EndRunner(workflow_id=wf, runner_id=number))
    found = torc.send(DiagnoseWorkflow(workflow_id=wf))
    assert found.num_failed == 1 and found.groups[0].job_ids == [jobs(torc, wf)["b"].id]
    assert torc.send(RecoverWorkflow(workflow_id=wf, dry_run=True)).num_left == 1
    assert explain(torc, wf, "a").summary.startswith("it was interrupted")


def test_figures_are_set_against_what_was_asked_for_and_not_against_a_default(torc: Torc) -> None:
    small = {"resource_requirements": [{"name": "small", "memory": "1g", "runtime": "PT5M"}]}
    wf = workflow(torc, "a b", jobs={"a": {"resource_requirements": "small"}}, **small)
    number = runner(torc, wf)
    given = {item.name: item for item in exchange(torc, wf, number, limit=10).assignments}
    usage = {"peak_memory_bytes": 1020 << 20}
    reports = [ended(given[name], "failed", -9, usage=usage) for name in ("a", "b")]
    exchange(torc, wf, number, finished=reports, stopping=True)
    a, b = explain(torc, wf, "a").diagnosis, explain(torc, wf, "b").diagnosis
    assert a is not None and b is not None
    assert a.category == "out_of_memory" and a.confidence > 0.85
    assert any("1020 MiB used at most, 1 GiB requested" in figure for figure in a.figures), a.figures
    assert b.confidence < 0.6 and not any("requested" in figure for figure in b.figures)


def test_a_blocked_job_names_those_at_the_far_end(torc: Torc) -> None:
    wf = workflow(torc, "a b -> c -> d")
    number = runner(torc, wf)
    claim(torc, wf, number, limit=1)
    found = explain(torc, wf, "d")
    assert found.summary == "it waits for 2 jobs (1 ready, 1 running)"
    assert [(cause.job_name, cause.state) for cause in found.causes] == [("a", "running"), ("b", "ready")]
    assert explain(torc, wf, "a").summary.startswith("it is being run by runner")


def test_a_canceled_job_names_what_failed(torc: Torc) -> None:
    wf = workflow(torc, "a -> b -> c", "x")
    fail(torc, wf, {"a": "why"})
    found = explain(torc, wf, "c")
    assert found.summary == f"it was canceled because a (job {jobs(torc, wf)['a'].id}) failed"
    assert found.hint == f"torc jobs explain {jobs(torc, wf)['a'].id}"
    torc.send(ActOnJobs(workflow_id=wf, job_ids=[jobs(torc, wf)["x"].id], action="cancel"))
    assert explain(torc, wf, "x").summary == "somebody canceled it"


def test_a_ready_job_says_what_it_lacks(torc: Torc) -> None:
    large = {"resource_requirements": [{"name": "large", "num_cpus": 64, "num_gpus": 2}]}
    scheduled = {"slurm_schedulers": [{"name": "gpu", "account": "x"}]}
    own = {"big": {"resource_requirements": "large"}, "bound": {"scheduler": "gpu"}}
    wf = workflow(torc, "small big bound", jobs=own, **large, **scheduled)
    assert explain(torc, wf, "small").summary == "no runner works on its workflow"
    torc.send(StartRun(workflow_id=wf))
    here = {"host": "n1", "pid": 1, "process_started": "1", "boot_id": "b", "kind": "worker"}
    small = NodeCapacity(num_cpus=8, memory_bytes=1 << 40)
    number = torc.send(RegisterRunner.model_validate({"workflow_id": wf, "capacity": small, **here})).id
    assert "no runner is large enough" in explain(torc, wf, "big").summary
    assert "64 CPUs (there are 8), 2 GPUs (there are 0)" in explain(torc, wf, "big").summary
    assert "it is for runners of the scheduler `gpu`" in explain(torc, wf, "bound").summary
    assert explain(torc, wf, "small").summary.startswith("it waits for room")
    torc.send(Exchange(workflow_id=wf, runner_id=number, free=NODE, stopping=True))


def test_a_ready_job_says_whether_there_is_time_for_it(torc: Torc) -> None:
    own = {"saves": {"supports_termination": True}}
    wf = workflow(torc, "saves ends", jobs=own)
    torc.send(StartRun(workflow_id=wf))
    here = {"host": "n1", "pid": 1, "process_started": "1", "boot_id": "b", "kind": "worker"}
    brief = NodeCapacity(num_cpus=8, memory_bytes=1 << 40, runtime_seconds=1800.0)
    number = torc.send(RegisterRunner.model_validate({"workflow_id": wf, "capacity": brief, **here})).id
    assert "needs 1h 00m of time (there are " in explain(torc, wf, "ends").summary
    assert explain(torc, wf, "saves").summary.startswith("it waits for room"), "it goes on in another run"
    torc.send(Exchange(workflow_id=wf, runner_id=number, free=NODE, stopping=True))


def test_other_states_are_said_plainly(torc: Torc) -> None:
    wf = workflow(torc, "a b")
    finish(torc, wf, "a")
    assert explain(torc, wf, "a").summary == "it ended well"
    torc.send(ActOnJobs(workflow_id=wf, job_ids=[jobs(torc, wf)["b"].id], action="disable"))
    assert "disabled" in explain(torc, wf, "b").summary
    with pytest.raises(NotFound):
        torc.send(ExplainJob(job_id=10**6))
