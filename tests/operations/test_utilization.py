"""What the attempts of a workflow used, by requirement class."""

from __future__ import annotations

from tests.support.workflows import ended, exchange, runner, workflow
from torc.api.attempts import ListAttempts
from torc.api.base import Torc
from torc.api.data import DeleteRequirement, ListRequirements
from torc.api.events import ListEvents
from torc.api.recovery import RecoverWorkflow
from torc.api.runs import EndRunner
from torc.api.utilization import CheckUtilization, CorrectResources

GIB = 1 << 30
CLASSES = [{"name": "large", "memory": "64g", "runtime": "PT1H"}, {"name": "small", "memory": "1g", "runtime": "PT1M"}]


def test_classes_and_jobs_are_set_against_what_they_asked_for(torc: Torc) -> None:
    own = {name: {"resource_requirements": "large" if name < "c" else "small"} for name in "abcd"}
    wf = workflow(torc, "a b c d e", resource_requirements=CLASSES, jobs=own)
    number = runner(torc, wf)
    given = {item.name: item for item in exchange(torc, wf, number, limit=10).assignments}
    peaks = {"a": GIB, "b": 2 * GIB, "c": GIB // 2, "d": 3 * GIB, "e": 5 * GIB}
    reports = [
        ended(given[name], usage={"peak_memory_bytes": peak, "user_cpu_seconds": 0.5}) for name, peak in peaks.items()
    ]
    exchange(torc, wf, number, finished=reports, stopping=True)
    found = torc.send(CheckUtilization(workflow_id=wf))
    assert found.num_attempts == 5
    classes = {item.requirement: item for item in found.classes}
    assert set(classes) == {"large", "small", "default"}
    assert (classes["large"].num_attempts, classes["large"].memory.most) == (2, 2 * GIB)
    assert classes["large"].advice[0] == "requests 64 GiB, used at most 2 GiB"
    assert classes["small"].advice == []
    assert [(item.job_name, item.resource, item.used) for item in found.exceeded] == [("d", "memory", 3 * GIB)]
    assert torc.send(CheckUtilization(workflow_id=wf, run_id=1)).num_attempts == 5
    assert torc.send(CheckUtilization(workflow_id=wf, run_id=2)).num_attempts == 0
    none = torc.send(CheckUtilization(workflow_id=wf, limit=0))
    assert (none.exceeded, none.num_exceeded) == ([], 1)


def test_who_was_stopped_at_its_memory_is_named_though_its_peak_is_no_higher(torc: Torc) -> None:
    wf = workflow(
        torc, "a b", resource_requirements=CLASSES, jobs={n: {"resource_requirements": "small"} for n in "ab"}
    )
    number = runner(torc, wf)
    given = {item.name: item for item in exchange(torc, wf, number, limit=10).assignments}
    peak = {"peak_memory_bytes": GIB - 4096}
    reports = [
        ended(given["a"], "terminated", -9, reason="out_of_memory", usage=peak),
        ended(given["b"], "failed", 1, usage=peak),
    ]
    exchange(torc, wf, number, finished=reports)
    found = torc.send(CheckUtilization(workflow_id=wf)).exceeded
    assert [(item.job_name, item.resource, item.used) for item in found] == [("a", "memory", GIB - 4096)]


def test_what_was_used_is_set_against_what_that_attempt_asked_for(torc: Torc) -> None:
    """A recovery gives jobs other classes: what they did before stays what it was."""
    wf = workflow(torc, "a", resource_requirements=CLASSES, jobs={"a": {"resource_requirements": "small"}})
    number = runner(torc, wf)
    (given,) = exchange(torc, wf, number, limit=1).assignments
    peak = {"peak_memory_bytes": GIB}
    exchange(
        torc, wf, number, finished=[ended(given, "terminated", -9, reason="out_of_memory", usage=peak)], stopping=True
    )
    torc.send(EndRunner(workflow_id=wf, runner_id=number))
    assert torc.send(RecoverWorkflow(workflow_id=wf)).applied
    (again,) = exchange(torc, wf, runner(torc, wf), limit=1).assignments
    assert again.request.memory_bytes == 3 * GIB // 2
    exchange(torc, wf, 2, finished=[ended(again, usage=peak)])
    found = torc.send(CheckUtilization(workflow_id=wf))
    assert {item.requirement: item.num_attempts for item in found.classes} == {"small": 1, "small__raised_1": 1}
    assert [(item.attempt, item.requirement, item.asked) for item in found.exceeded] == [(1, "small", GIB)]
    lines = torc.send(ListAttempts(workflow_id=wf)).items
    assert [line.requirement for line in lines] == ["small", "small__raised_1"]
    (small, *_) = [item for item in torc.send(ListRequirements(workflow_id=wf)).items if item.name == "small"]
    torc.send(DeleteRequirement(requirement_id=small.id))
    assert [line.requirement for line in torc.send(ListAttempts(workflow_id=wf)).items] == ["small__raised_1"] * 2


def test_classes_are_lowered_to_what_was_used_at_most_with_room(torc: Torc) -> None:
    names = [f"j{number}" for number in range(5)]
    own = {name: {"resource_requirements": "large"} for name in names[:4]} | {"j4": {"resource_requirements": "small"}}
    wf = workflow(torc, " ".join(names), resource_requirements=CLASSES, jobs=own)
    number = runner(torc, wf)
    given = {item.name: item for item in exchange(torc, wf, number, limit=10).assignments}
    reports = [
        ended(given[name], usage={"peak_memory_bytes": (at + 1) * GIB}) if at < 3 else ended(given[name], "failed", 1)
        for at, name in enumerate(names)
    ]
    exchange(torc, wf, number, finished=reports, stopping=True)
    dry = torc.send(CorrectResources(workflow_id=wf, dry_run=True))
    assert not dry.applied and [item.requirement for item in dry.corrections] == ["large"]
    assert {item.memory_bytes for item in torc.send(ListRequirements(workflow_id=wf)).items} >= {64 * GIB}
    done = torc.send(CorrectResources(workflow_id=wf))
    assert done.applied and done.corrections == dry.corrections
    (made,) = done.corrections
    assert (made.new_memory_bytes, made.new_runtime_seconds, made.num_attempts) == (9 * GIB // 2, 60, 3)
    classes = {item.name: item for item in torc.send(ListRequirements(workflow_id=wf)).items}
    assert (classes["large"].memory_bytes, classes["large"].runtime_seconds) == (9 * GIB // 2, 60)
    assert classes["small"].memory_bytes == GIB, "a class of which nothing completed stays"
    assert [
        event.data["learnt_from"] for event in torc.send(ListEvents(workflow_id=wf, type="resources_lowered")).items
    ] == [3]
    again = torc.send(CorrectResources(workflow_id=wf))
    assert (again.applied, again.corrections) == (False, [])
