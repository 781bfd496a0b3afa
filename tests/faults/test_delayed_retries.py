"""Retries that wait outlive the runner, and hold nobody up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.running import kill_with_spawner, results, run, start_process, states, store, wait_until
from torc.api.jobs import ListJobs
from torc.api.runs import ListResults
from torc.client.embedded import Embedded

pytestmark = pytest.mark.usefixtures("processes")

HANDLER = [{"name": "later", "rules": [{"exit_codes": [3], "max_retries": 2, "delay_seconds": 1.5, "backoff": 1.0}]}]


def test_a_retry_waits_while_others_run_and_is_not_early(local: Embedded, tmp_path: Path) -> None:
    flaky = "[ -e again ] && exit 0; touch again; exit 3"
    jobs = [
        {"name": "flaky", "command": flaky, "failure_handler": "later"},
        {"name": "other", "command": "true", "depends_on": ["first"]},
        {"name": "first", "command": "true"},
    ]
    number = store(local, tmp_path, jobs, failure_handlers=HANDLER)
    assert run(local, number, tmp_path, num_cpus=1).workflow.state == "completed"
    found = [item for item in local.send(ListResults(workflow_id=number)).items if item.job_name == "flaky"]
    assert [item.attempt for item in found] == [1, 2]
    assert found[1].started_at is not None and found[1].started_at >= found[0].ended_at + 1.5
    assert results(local, number)["other"].ended_at < found[1].started_at, "the others did not wait for it"


def test_a_retry_that_waits_outlives_its_runner(local: Embedded, tmp_path: Path) -> None:
    number = store(
        local,
        tmp_path,
        [{"name": "a", "command": "[ -e again ] || exit 3", "failure_handler": "later"}],
        failure_handlers=[{"name": "later", "rules": [{"exit_codes": [3], "delay_seconds": 3600}]}],
    )
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")

    def due_at() -> float | None:
        return local.send(ListJobs(workflow_id=number)).items[0].due_at

    before = wait_until(due_at, "its retry waits")
    kill_with_spawner(process)
    process.communicate()
    assert due_at() == before and states(local, number) == {"a": "ready"}
    (tmp_path / "again").touch()
    with local.store.dialect.begin_write(local.store.engine) as db:  # an hour later
        local.store.dialect.run(db, "UPDATE job SET due_at = 1.0", {})
    assert run(local, number, tmp_path).workflow.state == "completed"
