"""What the logs of a workflow say, with what the store knows of its attempts."""

from __future__ import annotations

from tests.support.workflows import ended, exchange, runner, workflow
from torc.api.runs import EndRunner
from torc.api.workflows import GetWorkflow
from torc.client.embedded import Embedded
from torc.reports import log_scan


def test_what_was_interrupted_is_not_among_the_failures(embedded: Embedded) -> None:
    wf = workflow(embedded, "a b")
    number = runner(embedded, wf)
    given = {item.name: item for item in exchange(embedded, wf, number, limit=10).assignments}
    failed = ended(given["b"], "failed", 1, stderr_tail="MemoryError", stderr_line=1)
    stopped = ended(given["a"], "interrupted", -9, reason="runner_stopped")
    exchange(embedded, wf, number, finished=[stopped, failed], stopping=True)
    embedded.send(EndRunner(workflow_id=wf, runner_id=number))
    found = log_scan.of_workflow(embedded, embedded.send(GetWorkflow(workflow_id=wf)), [], 10)
    assert found.by_category == {"out_of_memory": 1} and found.groups[0].sample.job_id == given["b"].job_id
