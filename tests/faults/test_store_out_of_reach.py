"""A database that cannot be used for a while, or not any more: jobs go on, and no result is lost or counted twice."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.running import results, run, start_process, states, store, wait_until
from torc.api.base import Request
from torc.api.runs import EndRunner, Exchange, GetRunner, ListResults
from torc.client import embedded
from torc.client.embedded import Embedded
from torc.errors import Unavailable

pytestmark = pytest.mark.usefixtures("processes")

R = TypeVar("R")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock of a SQLite database as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


class Severed:
    """A Torc whose connection can be cut: requests then fail before they arrive, or their answers are lost."""

    def __init__(self, torc: Embedded, loses_every: int | None = None) -> None:
        self.torc = torc
        self.is_cut = threading.Event()
        self.loses_every = loses_every
        self.refused = self.answered = 0

    def send(self, request: Request[R], /) -> R:
        """Pass a request on, or fail as a network does."""
        if self.is_cut.is_set():
            self.refused += 1
            raise Unavailable("the store is out of reach", hint="wait")
        reply = self.torc.send(request)
        self.answered += isinstance(request, Exchange)
        if isinstance(request, Exchange) and self.loses_every and self.answered % self.loses_every == 1:
            self.refused += 1
            raise Unavailable("the answer did not arrive", hint="wait")
        return reply


def test_a_database_locked_by_another_process_delays_reports_and_loses_none(local: Embedded, tmp_path: Path) -> None:
    jobs = [
        {"name": f"j{n}", "command": f": > up{n}; until [ -e go ]; do sleep 0.01; done; : > done{n}"} for n in range(4)
    ]
    jobs += [{"name": "last", "command": "true", "depends_on": ["j0"]}]  # type: ignore[dict-item]
    number = store(local, tmp_path, jobs)
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out", max_parallel_jobs=4)
    wait_until(lambda: len(list(tmp_path.glob("up*"))) == 4, "all run")
    with locked(tmp_path / "torc.db"):
        (tmp_path / "go").touch()
        wait_until(lambda: len(list(tmp_path.glob("done*"))) == 4, "all have ended while nothing could be stored")
    out, err = process.communicate(timeout=60)
    assert '"state": "completed"' in out, err
    assert len(local.send(ListResults(workflow_id=number)).items) == 5


def test_results_of_an_outage_are_delivered_once_it_is_over(local: Embedded, tmp_path: Path) -> None:
    severed = Severed(local)
    jobs = [
        {"name": f"j{n}", "command": f": > up{n}; until [ -e go ]; do sleep 0.01; done; echo x >> ran{n}"}
        for n in range(3)
    ]
    number = store(local, tmp_path, jobs)

    def outage() -> None:
        wait_until(lambda: len(list(tmp_path.glob("up*"))) == 3, "all run")
        severed.is_cut.set()
        (tmp_path / "go").touch()
        wait_until(lambda: list((tmp_path / "out").glob("undelivered*")), "the journal has something")
        wait_until(lambda: severed.refused > 1, "it was tried again")
        severed.is_cut.clear()

    thread = threading.Thread(target=outage)
    thread.start()
    outcome = run(severed, number, tmp_path, max_parallel_jobs=3)  # type: ignore[arg-type]
    thread.join()
    assert outcome.workflow.state == "completed"
    assert [(tmp_path / f"ran{n}").read_text() for n in range(3)] == ["x\n"] * 3
    assert len(results(local, number)) == 3
    assert not list((tmp_path / "out").glob("undelivered*"))


def test_answers_that_are_lost_make_nothing_happen_twice_and_lose_nothing(local: Embedded, tmp_path: Path) -> None:
    severed = Severed(local, loses_every=2)
    jobs = [{"name": f"j{n}", "command": f"echo x >> ran{n}"} for n in range(200)]
    action = {"trigger_type": "on_workflow_start", "action_type": "run_commands", "commands": ["echo x >> acted"]}
    number = store(local, tmp_path, jobs, actions=[action])
    outcome = run(severed, number, tmp_path, max_parallel_jobs=2)  # type: ignore[arg-type]
    assert severed.refused > 3
    assert (tmp_path / "acted").read_text() == "x\n"
    assert outcome.workflow.state == "completed"
    assert {path.read_text() for path in tmp_path.glob("ran*")} == {"x\n"}
    assert len(list(tmp_path.glob("ran*"))) == 200


def test_a_runner_stopped_in_an_outage_leaves_its_results_to_the_next_one(local: Embedded, tmp_path: Path) -> None:
    jobs = [
        {"name": "a", "command": "echo x >> ran; : > up; until [ -e go ]; do sleep 0.01; done"},
        {"name": "b", "command": "sleep 1000"},
    ]
    number = store(local, tmp_path, jobs)
    database = tmp_path / "torc.db"
    process = start_process(database, number, tmp_path / "out", max_parallel_jobs=2)
    wait_until(lambda: states(local, number)["a"] == "running", "the job runs")
    with locked(database):
        (tmp_path / "go").touch()
        journal = lambda: b"".join(path.read_bytes() for path in (tmp_path / "out").glob("undelivered*"))  # noqa: E731
        wait_until(lambda: journal().endswith(b"\n"), "the journal has the result")
        process.kill()
        process.communicate()
    assert states(local, number)["a"] == "running"
    second = start_process(database, number, tmp_path / "out", max_parallel_jobs=1)
    wait_until(lambda: states(local, number) == {"a": "completed", "b": "running"}, "the result was delivered")
    wait_until(lambda: not list((tmp_path / "out").glob("undelivered*")), "the journal is put away")
    second.terminate()
    second.communicate(timeout=60)
    assert (tmp_path / "ran").read_text() == "x\n", "it did not run again"


def test_who_is_stopped_while_the_store_is_away_says_where_the_results_are(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    severed = Severed(local)
    number = store(
        local,
        tmp_path,
        [
            {
                "name": "a",
                "command": f": > up; until [ -e go ]; do sleep 0.01; done; kill -TERM {os.getpid()}; sleep 0.1",
            }
        ],
    )

    def outage() -> None:
        wait_until((tmp_path / "up").exists, "the job runs")
        severed.is_cut.set()
        (tmp_path / "go").touch()

    thread = threading.Thread(target=outage)
    thread.start()
    with pytest.raises(Unavailable, match="does not answer") as caught:
        run(severed, number, tmp_path)  # type: ignore[arg-type]
    thread.join()
    (journal,) = (tmp_path / "out").glob("undelivered*")
    assert str(journal) in (caught.value.hint or "")


def test_a_runner_whose_lease_was_taken_away_stops_its_jobs_and_begins_anew(local: Embedded, tmp_path: Path) -> None:
    command = "echo $$ >> pids; [ -e again ] && exit; sleep 1000"
    number = store(local, tmp_path, [{"name": "a", "command": command}])

    def take_away() -> None:
        wait_until((tmp_path / "pids").exists, "the job runs")
        wait_until(lambda: states(local, number)["a"] == "running", "it is known to run")
        (tmp_path / "again").touch()
        local.send(EndRunner(workflow_id=number, runner_id=1, reason="lease ended"))

    thread = threading.Thread(target=take_away)
    thread.start()
    outcome = run(local, number, tmp_path, heartbeat_seconds=0.1)
    thread.join()
    assert outcome.workflow.state == "completed"
    assert outcome.runner_id == 2
    assert local.send(GetRunner(runner_id=1)).end_reason == "lease ended"
    assert len((tmp_path / "pids").read_text().split()) == 2


def test_patience_with_a_locked_database_is_bounded(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "PATIENCE_SECONDS", 0.1)
    number = store(local, tmp_path, [{"name": "a", "command": "true"}])
    with locked(tmp_path / "torc.db"), pytest.raises(Unavailable, match="locked"):
        run(local, number, tmp_path)
    assert states(local, number) == {"a": "ready"}
