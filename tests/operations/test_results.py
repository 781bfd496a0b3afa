"""How attempts ended, how a run went, what happened, and the graph."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workflows import claim, create, ended, exchange, get, jobs, run_all, runner, spec, workflow
from torc.api.events import Event, GetEvent, ListEvents
from torc.api.runs import EndRunner, GetResult, ListResults, Result, SummarizeRun, Usage
from torc.api.workflows import GetGraph, ResetWorkflow
from torc.client.embedded import Embedded
from torc.errors import NotFound
from torc.workflow.states import State

RETRIES: dict[str, Any] = {"failure_handlers": [{"name": "h", "rules": [{"exit_codes": [3], "max_retries": 1}]}]}


def results(torc: Embedded, workflow_id: int, **fields: Any) -> list[Result]:
    return torc.send(ListResults(workflow_id=workflow_id, **fields)).items


def events(torc: Embedded, workflow_id: int, **fields: Any) -> list[Event]:
    return torc.send(ListEvents(workflow_id=workflow_id, **fields)).items


def test_a_result_gives_back_what_the_runner_measured(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    worker = runner(torc, wf)
    given = claim(torc, wf, worker)
    usage = Usage(
        user_cpu_seconds=1.5,
        system_cpu_seconds=0.25,
        peak_memory_bytes=5 << 40,
        read_bytes=7,
        written_bytes=8,
        average_memory_bytes=9,
        max_processes=3,
    )
    report = ended(
        given["a"],
        "failed",
        -9,
        usage=usage,
        reason="out_of_memory",
        detail="used 2 GiB of 1 GiB",
        stderr_tail="Killed\nünï 'quoted' \"x\"\n",
    )
    exchange(torc, wf, worker, finished=[report])
    found = results(torc, wf)[0]
    assert found == torc.send(GetResult(result_id=found.id))
    for name in ("return_code", "reason", "detail", "started_at", "ended_at", "wall_seconds", "stderr_tail", "usage"):
        assert getattr(found, name) == getattr(report, name), name
    assert (found.job_name, found.attempt, found.run_id, found.runner_id, found.state, found.is_current) == (
        "a",
        1,
        1,
        worker,
        "failed",
        True,
    )


def test_results_are_listed_by_run_job_state_and_last_attempt(torc: Embedded) -> None:
    wf = workflow(torc, "a b", jobs={"a": {"failure_handler": "h"}}, **RETRIES)
    worker = runner(torc, wf)
    given = claim(torc, wf, worker)
    exchange(torc, wf, worker, finished=[ended(given["a"], "failed", 3), ended(given["b"])])
    again = claim(torc, wf, worker)
    assert list(again) == ["a"]
    assert [(r.job_name, r.attempt) for r in results(torc, wf, latest_only=True)] == [("a", 1), ("b", 1)], (
        "still running"
    )
    exchange(torc, wf, worker, finished=[ended(again["a"], "failed", 3)])
    torc.send(EndRunner(workflow_id=wf, runner_id=worker))
    torc.send(ResetWorkflow(workflow_id=wf, failed_only=True))
    run_all(torc, wf)

    def shown(**fields: Any) -> list[tuple[str, int]]:
        return [(r.job_name, r.attempt) for r in results(torc, wf, **fields)]

    assert shown() == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]
    assert shown(run_id=1) == [("a", 1), ("b", 1), ("a", 2)]
    assert shown(run_id=2) == [("a", 3)]
    assert shown(job_id=jobs(torc, wf)["b"].id) == [("b", 1)]
    assert shown(state=State.COMPLETED) == [("b", 1), ("a", 3)]
    assert shown(failed_only=True) == [("a", 1), ("a", 2)]
    assert shown(latest_only=True) == [("b", 1), ("a", 3)]
    assert shown(latest_only=True, failed_only=True) == []
    first = torc.send(ListResults(workflow_id=wf, limit=3))
    rest = torc.send(ListResults(workflow_id=wf, limit=3, cursor=first.cursor))
    assert [(r.job_name, r.attempt) for r in first.items + rest.items] == shown()


def test_what_is_not_there_is_named(torc: Embedded) -> None:
    for request in (GetResult(result_id=3), GetEvent(event_id=3)):
        with pytest.raises(NotFound, match="3"):
            torc.send(request)


def test_a_summary_of_a_run_counts_what_it_did(torc: Embedded) -> None:
    wf = workflow(
        torc,
        "a b -> c",
        "c -> d e",
        "x",
        jobs={"b": {"failure_handler": "h"}, "c": {"cancel_on_blocking_job_failure": False}},
        **RETRIES,
    )
    empty = torc.send(SummarizeRun(workflow_id=wf))
    assert (empty.wall_seconds, empty.num_attempts, empty.failed, empty.cpu_seconds) == (None, 0, [], 0)
    worker = runner(torc, wf)
    given = claim(torc, wf, worker)
    use = Usage(user_cpu_seconds=2.0, system_cpu_seconds=1.0, peak_memory_bytes=100)
    more = Usage(user_cpu_seconds=0.5, peak_memory_bytes=300)
    exchange(torc, wf, worker, finished=[ended(given["b"], "failed", 3, usage=use), ended(given["x"], usage=more)])
    middle = torc.send(SummarizeRun(workflow_id=wf))
    assert middle.blocked_by == {"a": 1, "b": 1}, "only c waits for them itself"
    again = claim(torc, wf, worker)
    exchange(torc, wf, worker, finished=[ended(again["b"], "failed", 3, usage=use), ended(given["a"], "failed", 1)])
    summary = torc.send(SummarizeRun(workflow_id=wf))
    assert (summary.cpu_seconds, summary.peak_memory_bytes) == (6.5, 300)
    assert (summary.num_attempts, summary.num_retries, summary.num_failed) == (4, 1, 2)
    assert sorted((r.job_name, r.attempt) for r in summary.failed) == [("a", 1), ("b", 2)]
    assert len(torc.send(SummarizeRun(workflow_id=wf, limit=1)).failed) == 1
    assert summary.blocked_by == {"c": 2}
    assert summary.workflow == get(torc, wf)
    torc.send(EndRunner(workflow_id=wf, runner_id=worker))
    assert run_all(torc, wf).state == "failed"
    ended_at = torc.send(SummarizeRun(workflow_id=wf)).workflow.ended_at
    assert ended_at is not None
    assert torc.send(SummarizeRun(workflow_id=wf)).wall_seconds == ended_at - (get(torc, wf).started_at or 0)


def test_a_summary_is_of_the_current_run_alone(torc: Embedded) -> None:
    wf = workflow(torc, "a b")
    run_all(torc, wf, failing=("a",))
    torc.send(ResetWorkflow(workflow_id=wf, failed_only=True))
    run_all(torc, wf)
    summary = torc.send(SummarizeRun(workflow_id=wf))
    assert (summary.num_attempts, summary.num_failed, summary.failed) == (1, 0, [])


def test_events_come_in_order_or_newest_first_and_in_pages(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    run_all(torc, wf)
    every = [event.id for event in events(torc, wf)]
    assert every == sorted(every) and len(every) >= 5
    assert [event.id for event in events(torc, wf, newest_first=True)] == every[::-1]
    assert [event.id for event in events(torc, wf, after=every[2])] == every[3:]
    for newest_first in (False, True):
        seen: list[int] = []
        cursor = None
        while True:
            page = torc.send(ListEvents(workflow_id=wf, limit=2, newest_first=newest_first, cursor=cursor))
            seen += [event.id for event in page.items]
            if page.cursor is None:
                break
            cursor = page.cursor
        assert seen == (every[::-1] if newest_first else every)
    one = events(torc, wf, type="jobs_completed")
    assert [event.data for event in one] == [{"job_ids": [jobs(torc, wf)["a"].id]}]
    assert torc.send(GetEvent(event_id=one[0].id)) == one[0]


def test_events_say_which_runner_or_person_did_it(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    run_all(torc, wf)
    actors = {event.type: event.actor for event in events(torc, wf)}
    assert actors["workflow_created"] == "user:tester"
    assert actors["jobs_completed"].startswith(("runner:", "user:"))


def test_the_graph_is_the_one_of_the_spec(torc: Embedded) -> None:
    workflow(torc, "other -> one")
    document = spec(
        "a b -> c d",
        "c -> e",
        resource_requirements=[{"name": "big", "num_cpus": 3, "memory": "1g", "runtime": "PT2H"}],
        jobs={"c": {"resource_requirements": "big", "priority": 4, "cancel_on_blocking_job_failure": False}},
    )
    wf = create(torc, document).id
    graph = torc.send(GetGraph(workflow_id=wf))
    assert graph.workflow == get(torc, wf)
    names = [found.name for found in graph.jobs]
    waits = {
        found.name: set() if found.gate is None else {names[at] for at in graph.gates[found.gate]}
        for found in graph.jobs
    }
    assert waits == {"a": set(), "b": set(), "c": {"a", "b"}, "d": {"a", "b"}, "e": {"c"}}
    assert len(graph.gates) == 2, "c and d share a gate"
    c = graph.jobs[names.index("c")]
    requirement = graph.requirements[c.requirement]
    assert (requirement.name, requirement.num_cpus, requirement.memory_bytes) == ("big", 3, 1 << 30)
    assert (c.priority, c.cancel_on_blocking_job_failure, c.state) == (4, False, "blocked")
    assert GetGraph.reply().validate_json(GetGraph.reply().dump_json(graph)) == graph, "it travels"


def test_an_empty_history_gives_empty_lists(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    assert results(torc, wf) == []
    assert events(torc, wf, after=10**9) == []
