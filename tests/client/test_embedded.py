"""A Torc on a database: transactions, patience, waiting."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.workflows import NODE, claim, ended, exchange, get, jobs, runner, states, workflow
from torc.api.events import ListEvents
from torc.api.jobs import ActOnJobs
from torc.api.runs import Exchange, RegisterRunner
from torc.api.workflows import CancelWorkflow, DeleteWorkflow, ListWorkflows, UpdateWorkflow
from torc.client import embedded
from torc.client.embedded import Embedded
from torc.errors import Conflict, NotFound, Unavailable
from torc.store.engine import open_store


def meanwhile(do: Callable[[], Any]) -> Future[Any]:
    """Start something on another thread."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(do)
    pool.shutdown(wait=False)
    return future


def test_a_refused_request_changes_nothing(torc: Embedded) -> None:
    wf = workflow(torc, "a -> b")
    numbers = [job.id for job in jobs(torc, wf).values()]
    before = get(torc, wf)
    with pytest.raises(NotFound):
        torc.send(ActOnJobs(workflow_id=wf, job_ids=[*numbers, 999], action="cancel"))
    with pytest.raises(Conflict):
        torc.send(ActOnJobs(workflow_id=wf, job_ids=numbers, action="enable"))
    assert get(torc, wf) == before
    assert len(torc.send(ListEvents(workflow_id=wf)).items) == 1


def test_a_dry_run_answers_and_changes_nothing(torc: Embedded) -> None:
    wf = workflow(torc, "a -> b")
    before = get(torc, wf)
    reply = torc.send(ActOnJobs(workflow_id=wf, job_ids=[jobs(torc, wf)["a"].id], action="cancel", dry_run=True))
    assert [(change.job_name, change.new_state) for change in reply.changes] == [("a", "canceled"), ("b", "canceled")]
    assert not reply.applied
    assert get(torc, wf) == before


def test_waiting_for_events_ends_when_somebody_writes_one(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    last = torc.send(ListEvents(workflow_id=wf)).items[-1].id
    waiting = meanwhile(lambda: torc.send(ListEvents(workflow_id=wf, after=last, wait_seconds=60)))
    torc.send(UpdateWorkflow(workflow_id=wf, description="x"))
    assert [event.type for event in waiting.result(timeout=30).items] == ["workflow_updated"]


def test_waiting_for_events_ends_with_its_time(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    last = torc.send(ListEvents(workflow_id=wf)).items[-1].id
    assert torc.send(ListEvents(workflow_id=wf, after=last, wait_seconds=0.05)).items == []


def test_a_waiting_runner_is_given_what_another_one_makes_ready(torc: Embedded) -> None:
    wf = workflow(torc, "a -> b")
    first = runner(torc, wf)
    second = torc.send(
        RegisterRunner(workflow_id=wf, host="there", pid=2, process_started="2", boot_id="b", capacity=NODE)
    ).id
    given = claim(torc, wf, first)
    waiting = meanwhile(lambda: exchange(torc, wf, second, limit=1, wait_seconds=60))
    exchange(torc, wf, first, finished=[ended(given["a"])])
    assert [item.name for item in waiting.result(timeout=30).assignments] == ["b"]
    assert states(torc, wf) == "a:completed b:pending"


def test_a_waiting_runner_hears_of_a_cancellation(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    worker = runner(torc, wf)
    given = claim(torc, wf, worker)
    waiting = meanwhile(lambda: exchange(torc, wf, worker, limit=1, wait_seconds=60))
    torc.send(CancelWorkflow(workflow_id=wf))
    stop = waiting.result(timeout=30).cancel
    assert [(item.job_id, item.attempt) for item in stop] == [(given["a"].job_id, 1)]
    exchange(torc, wf, worker, finished=[ended(given["a"], "canceled", -15)])


def test_a_report_made_while_waiting_is_taken_once(torc: Embedded) -> None:
    wf = workflow(torc, "a b")
    worker = runner(torc, wf)
    given = claim(torc, wf, worker)
    exchange(torc, wf, worker, finished=[ended(given["a"])], wait_seconds=0.1)
    assert states(torc, wf) == "a:completed b:running"
    exchange(torc, wf, worker, finished=[ended(given["b"])])


def test_a_workflow_deleted_meanwhile_ends_the_waiting_with_an_error(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    last = torc.send(ListEvents(workflow_id=wf)).items[-1].id
    waiting = meanwhile(lambda: torc.send(ListEvents(workflow_id=wf, after=last, wait_seconds=60)))
    torc.send(DeleteWorkflow(workflow_id=wf))
    # the deletion may have come first
    with pytest.raises(NotFound):
        waiting.result(timeout=30)


def test_writers_on_many_threads_lose_nothing(torc: Embedded) -> None:
    wf = workflow(torc, "a")

    def write(at: int) -> None:
        for step in range(10):
            torc.send(UpdateWorkflow(workflow_id=wf, description=f"{at}.{step}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert get(torc, wf).version == 41
    assert len(torc.send(ListEvents(workflow_id=wf, type="workflow_updated", limit=1000)).items) == 40


def test_two_runners_are_never_given_the_same_job(torc: Embedded) -> None:
    wf = workflow(torc, " ".join(f"j{at}" for at in range(60)))
    workers = [runner(torc, wf, pid=pid) for pid in range(3)]

    def work(worker: int) -> list[str]:
        done: list[str] = []
        reply = exchange(torc, wf, worker, limit=3)
        while reply.assignments:
            done += [item.name for item in reply.assignments]
            reply = exchange(torc, wf, worker, limit=3, finished=[ended(item) for item in reply.assignments])
        return done

    with ThreadPoolExecutor(3) as pool:
        names = [name for part in pool.map(work, workers) for name in part]
    assert len(names) == len(set(names)) == 60
    assert get(torc, wf).counts.by_state == {"completed": 60}


def test_a_database_that_somebody_else_has_locked_is_waited_for(tmp_path: Path) -> None:
    torc = Embedded(open_store(tmp_path / "torc.db"), "user:tester")
    other = sqlite3.connect(tmp_path / "torc.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    written = meanwhile(lambda: workflow(torc, "a"))
    assert torc.send(ListWorkflows()).items == [], "readers are not held up"
    threading.Timer(0.1, other.rollback).start()
    assert states(torc, written.result(timeout=30)) == "a:ready"
    torc.close()
    other.close()


def test_a_database_that_stays_locked_is_said_to_be_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr("torc.store.engine.BUSY_SECONDS", 0.05)
    torc = Embedded(open_store(tmp_path / "torc.db"), "user:tester")
    other = sqlite3.connect(tmp_path / "torc.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        workflow(torc, "a")
    other.rollback()
    other.close()
    assert torc.send(ListWorkflows()).items == []
    torc.close()


def test_waiting_reports_nothing_again(torc: Embedded) -> None:
    """An Exchange that waits asks many times; what it released must not be released twice."""
    wf = workflow(torc, "a")
    worker = runner(torc, wf)
    item = exchange(torc, wf, worker, limit=1).assignments[0]
    reply = torc.send(
        Exchange(
            workflow_id=wf,
            runner_id=worker,
            free=NODE,
            limit=1,
            wait_seconds=1,
            released=[{"job_id": item.job_id, "attempt": item.attempt}],
        )
    )
    assert [(again.job_id, again.attempt) for again in reply.assignments] == [(item.job_id, item.attempt)]
    assert len(torc.send(ListEvents(workflow_id=wf, type="jobs_released")).items) == 1
