"""Who waits for work or for events, over HTTP: woken when there is something, and by whoever made it so."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import urllib3

from tests.server.conftest import Http
from tests.support.running import wait_until
from tests.support.serving import Door
from tests.support.workflows import create, make
from torc.api.events import ListEvents
from torc.api.jobs import ActOnJobs, CreateJob
from torc.api.runs import Exchange, ExchangeReply, Finished, NodeCapacity, RegisterRunner, StartRun
from torc.api.workflows import CancelWorkflow, CreateWorkflow
from torc.client.embedded import Embedded

ROOM = NodeCapacity(num_cpus=1, memory_bytes=1 << 30)


def _runner(door: Door, workflow_id: int) -> int:
    return door.send(
        RegisterRunner(workflow_id=workflow_id, host="here", pid=1, process_started="1", boot_id="b", capacity=ROOM)
    ).id


def _ask(door: Door, workflow_id: int, runner_id: int, **fields: Any) -> ExchangeReply:
    fields.setdefault("limit", 1)
    return door.send(Exchange(workflow_id=workflow_id, runner_id=runner_id, free=ROOM, **fields))


def _done(job_id: int, attempt: int = 1, outcome: Any = "succeeded") -> Finished:
    now = time.time()
    return Finished(
        job_id=job_id, attempt=attempt, outcome=outcome, return_code=0, started_at=now, ended_at=now, wall_seconds=0.0
    )


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(20) as made:
        yield made


def _is_waiting(door: Door, number: int) -> bool:
    text = urllib3.request("GET", f"{door.url}/metrics").data.decode()
    return f"torc_waiting {float(number)}" in text


def test_a_runner_that_waits_gets_the_job_that_another_one_makes_ready(door: Door, pool: ThreadPoolExecutor) -> None:
    number = make(door, "a b -> c").id
    door.send(StartRun(workflow_id=number))
    first, second, third = (_runner(door, number) for _ in range(3))
    a = _ask(door, number, first).assignments[0]
    b = _ask(door, number, second).assignments[0]
    waiting: Future[ExchangeReply] = pool.submit(_ask, door, number, third, wait_seconds=30.0)
    wait_until(lambda: _is_waiting(door, 1), "the third one waits")
    _ask(door, number, first, finished=[_done(a.job_id)], limit=0)
    assert not waiting.done()
    _ask(door, number, second, finished=[_done(b.job_id)], limit=0)
    assert [job.name for job in waiting.result(20).assignments] == ["c"]


def test_each_of_many_jobs_wakes_one_of_many_runners(door: Door, pool: ThreadPoolExecutor) -> None:
    number = make(door, "a -> " + " ".join(f"b{n}" for n in range(8))).id
    door.send(StartRun(workflow_id=number))
    first = _runner(door, number)
    a = _ask(door, number, first).assignments[0]
    waiting = [pool.submit(_ask, door, number, _runner(door, number), wait_seconds=30.0) for _ in range(8)]
    wait_until(lambda: _is_waiting(door, 8), "all wait")
    _ask(door, number, first, finished=[_done(a.job_id)], limit=0)
    given = [job.name for reply in waiting for job in reply.result(20).assignments]
    assert sorted(given) == [f"b{n}" for n in range(8)]


def test_a_small_runner_lets_the_work_pass_to_a_larger_one_behind_it(door: Door, pool: ThreadPoolExecutor) -> None:
    spec = {
        "name": "w",
        "resource_requirements": [{"name": "large", "num_cpus": 4, "memory": "1m", "runtime": "PT1M"}],
        "jobs": [
            {"name": "a", "command": "true"},
            {"name": "b", "command": "true", "depends_on": ["a"], "resource_requirements": "large"},
        ],
    }
    number = create(door, spec).id
    door.send(StartRun(workflow_id=number))
    first, small, large = (_runner(door, number) for _ in range(3))
    a = _ask(door, number, first).assignments[0]
    waits_small = pool.submit(_ask, door, number, small, wait_seconds=3.0)
    wait_until(lambda: _is_waiting(door, 1), "the small one waits")
    big = NodeCapacity(num_cpus=8, memory_bytes=1 << 30)
    request = Exchange(workflow_id=number, runner_id=large, free=big, limit=1, wait_seconds=30.0)
    waits_large = pool.submit(door.send, request)
    wait_until(lambda: _is_waiting(door, 2), "both wait")
    _ask(door, number, first, finished=[_done(a.job_id)], limit=0)
    assert [job.name for job in waits_large.result(20).assignments] == ["b"]
    assert waits_small.result(20).assignments == []


def test_all_who_wait_learn_that_the_work_is_done(door: Door, pool: ThreadPoolExecutor) -> None:
    number = make(door, "a").id
    door.send(StartRun(workflow_id=number))
    first = _runner(door, number)
    a = _ask(door, number, first).assignments[0]
    waiting = [pool.submit(_ask, door, number, _runner(door, number), wait_seconds=30.0) for _ in range(5)]
    wait_until(lambda: _is_waiting(door, 5), "all wait")
    _ask(door, number, first, finished=[_done(a.job_id)], limit=0)
    assert all(reply.result(20).done for reply in waiting)


def test_a_runner_that_waits_is_told_to_cancel_at_once(door: Door, pool: ThreadPoolExecutor) -> None:
    number = make(door, "a").id
    door.send(StartRun(workflow_id=number))
    runner = _runner(door, number)
    a = _ask(door, number, runner).assignments[0]
    waiting = pool.submit(_ask, door, number, runner, limit=0, wait_seconds=30.0)
    wait_until(lambda: _is_waiting(door, 1), "it waits")
    door.send(CancelWorkflow(workflow_id=number))
    assert [item.job_id for item in waiting.result(20).cancel] == [a.job_id]


def test_what_another_process_writes_to_the_same_database_wakes_too(door: Door, pool: ThreadPoolExecutor) -> None:
    number = make(door, "a b").id
    door.send(StartRun(workflow_id=number))
    runner = _runner(door, number)
    a = _ask(door, number, runner).assignments[0]
    door.send(ActOnJobs(workflow_id=number, job_ids=[a.job_id + 1], action="disable"))
    waiting = pool.submit(_ask, door, number, runner, wait_seconds=30.0)
    wait_until(lambda: _is_waiting(door, 1), "it waits")
    beside = Embedded(door.store, "user:tester")
    beside.send(CreateJob(workflow_id=number, name="late", command="true"))
    assert [job.name for job in waiting.result(20).assignments] == ["late"]


def test_waiting_ends_when_its_time_is_over(door: Door) -> None:
    number = make(door, "a").id
    began = time.monotonic()
    last = door.send(ListEvents(workflow_id=number)).items[-1].id
    assert door.send(ListEvents(workflow_id=number, after=last, wait_seconds=0.3)).items == []
    assert time.monotonic() - began >= 0.3


def test_a_server_that_ends_answers_those_who_wait(door: Door, pool: ThreadPoolExecutor) -> None:
    number = make(door, "a").id
    door.send(StartRun(workflow_id=number))
    first, second = _runner(door, number), _runner(door, number)
    _ask(door, number, first)
    waiting = pool.submit(_ask, door, number, second, wait_seconds=60.0)
    wait_until(lambda: _is_waiting(door, 1), "it waits")
    door.serving.stop()
    assert waiting.result(20).assignments == []


# -- streams ----------------------------------------------------------------------------------------------------


class _Listener:
    """Listens to a stream on a thread."""

    def __init__(self, url: str, **headers: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.status = 0
        self._answer = urllib3.PoolManager(retries=False).request(
            "GET",
            url,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            preload_content=False,
            timeout=urllib3.Timeout(connect=5.0, read=30.0),
        )
        self.status = self._answer.status
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        data = b""
        for chunk in self._answer.stream(1, decode_content=False):
            data += chunk
            while b"\n\n" in data:
                block, _, data = data.partition(b"\n\n")
                fields = dict(line.split(": ", 1) for line in block.decode().splitlines() if not line.startswith(":"))
                if "data" in fields:
                    found = json.loads(fields["data"])
                    assert (str(found["id"]), found["type"]) == (fields["id"], fields["event"])
                    self.events.append(found)

    def ended(self) -> bool:
        return not self._thread.is_alive()


def _types(listener: _Listener) -> list[str]:
    return [event["type"] for event in listener.events]


def test_a_stream_tells_what_happens_and_goes_on_after_the_last_that_was_seen(door: Door) -> None:
    number = make(door, "a").id
    url = f"{door.url}/api/v1/workflows/{number}/events/stream"
    first = _Listener(f"{url}?after=0")
    wait_until(lambda: _types(first) == ["workflow_created"], "what was there is told")
    door.send(StartRun(workflow_id=number))
    wait_until(lambda: _types(first) == ["workflow_created", "run_started"], "what is new is told")
    again = _Listener(url, Last_Event_ID=str(first.events[0]["id"]))
    wait_until(lambda: _types(again) == ["run_started"], "what was missed is told, and nothing twice")
    fresh = _Listener(url)
    door.send(CancelWorkflow(workflow_id=number))
    wait_until(lambda: "workflow_canceled" in _types(fresh), "what is new is told")
    assert "run_started" not in _types(fresh)
    door.serving.stop()
    for listener in (first, again, fresh):
        wait_until(listener.ended, "the stream ends with the server")


def test_a_stream_of_nothing_is_refused(door: Door, http: Http) -> None:
    assert http("GET", "/api/v1/workflows/9/events/stream").status == 404
    number = make(door, "a").id
    assert http("GET", f"/api/v1/workflows/{number}/events/stream", headers={"Last-Event-ID": "x"}).status == 422


@pytest.mark.usefixtures("large")
def test_runners_are_answered_while_a_large_spec_is_compiled(door: Door, pool: ThreadPoolExecutor) -> None:
    number = make(door, "a b").id
    door.send(StartRun(workflow_id=number))
    runner = _runner(door, number)
    spec = {
        "name": "large",
        "parameters": {"i": "1:60000"},
        "jobs": [{"name": "j{i}", "use_parameters": ["i"], "command": "true"}],
    }
    request = CreateWorkflow(spec=json.dumps({**spec, "description": "x" * 50_000}), format="json", directory="/tmp")
    creating = pool.submit(door.send, request)
    answered = 0
    while not creating.done():
        _ask(door, number, runner, limit=0)
        answered += 1
    assert creating.result().counts.total == 60_000
    assert answered > 5, "they waited for the spec"
