"""What the attempts of a workflow used, by requirement class."""

from __future__ import annotations

from tests.support.workflows import ended, exchange, runner, workflow
from torc.api.base import Torc
from torc.api.utilization import CheckUtilization

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
    assert classes["large"].advice[0] == "asks for 64 GiB, used at most 2 GiB"
    assert classes["small"].advice == []
    assert [(item.job_name, item.resource, item.used) for item in found.exceeded] == [("d", "memory", 3 * GIB)]
    assert torc.send(CheckUtilization(workflow_id=wf, run_id=1)).num_attempts == 5
    assert torc.send(CheckUtilization(workflow_id=wf, run_id=2)).num_attempts == 0
    none = torc.send(CheckUtilization(workflow_id=wf, limit=0))
    assert (none.exceeded, none.num_exceeded) == ([], 1)
