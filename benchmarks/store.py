"""Talk to a store as a runner does, without starting any process: what is timed is the store alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torc.api.diagnosis import DiagnoseWorkflow
from torc.api.runs import (
    Assignment,
    EndRunner,
    Exchange,
    Finished,
    ListResults,
    NodeCapacity,
    RegisterRunner,
    Result,
    StartRun,
)
from torc.api.workflows import CreateWorkflow, GetWorkflow, ListWorkflows, ResetWorkflow
from torc.client.connect import connect
from torc.workflow.states import State

CAPACITY = NodeCapacity(num_cpus=100_000, memory_bytes=1 << 50)
LARGEST_BATCH = 1000


class Conversation:
    """One workflow, begun, with one runner that claims and reports."""

    def __init__(self, database: Path, spec: dict[str, Any], folder: Path) -> None:
        self._torc = connect(db=str(database), actor="user:benchmark")
        create = CreateWorkflow(spec=json.dumps(spec), format="json", directory=str(folder), user="benchmark")
        self._workflow_id = self._torc.send(create).id
        self._runner_id = self._begin()

    def _begin(self) -> int:
        self._torc.send(StartRun(workflow_id=self._workflow_id))
        return self._torc.send(
            RegisterRunner(
                workflow_id=self._workflow_id,
                host="benchmark",
                pid=os.getpid(),
                process_started="0",
                boot_id="benchmark",
                capacity=CAPACITY,
            )
        ).id

    def begin_again(self) -> None:
        """Make failed jobs due again, and begin another run with another runner."""
        self.leave()
        self._torc.send(ResetWorkflow(workflow_id=self._workflow_id, failed_only=True))
        self._runner_id = self._begin()

    def exchange(self, finished: list[Assignment], limit: int) -> list[Assignment]:
        """Report success of jobs that were given, and take up to `limit` others."""
        now = time.time()
        reports = [
            Finished(
                job_id=job.job_id,
                attempt=job.attempt,
                outcome="succeeded",
                return_code=0,
                started_at=now,
                ended_at=now,
                wall_seconds=0.001,
            )
            for job in finished
        ]
        reply = self._torc.send(
            Exchange(
                workflow_id=self._workflow_id, runner_id=self._runner_id, finished=reports, free=CAPACITY, limit=limit
            )
        )
        return reply.assignments

    def finish(self, count: int) -> None:
        """Claim and finish that many jobs, in large batches."""
        while count > 0:
            taken = self.exchange([], min(count, LARGEST_BATCH))
            self.exchange(taken, 0)
            count -= len(taken)

    def fail_all(self, stderr: Callable[[int], str]) -> None:
        """Claim all jobs and report that each failed, with what it is to have written."""
        self.fail(None, stderr)

    def fail(self, count: int | None, stderr: Callable[[int], str]) -> None:
        """Claim that many jobs (None: all that are ready) and report that each failed."""
        at = 0
        while at != count and (
            taken := self.exchange([], LARGEST_BATCH if count is None else min(LARGEST_BATCH, count - at))
        ):
            now = time.time()
            reports = []
            for job in taken:
                reports.append(
                    Finished(
                        job_id=job.job_id,
                        attempt=job.attempt,
                        outcome="failed",
                        return_code=1,
                        started_at=now,
                        ended_at=now,
                        wall_seconds=1.0,
                        stderr_tail=stderr(at),
                        stderr_line=1,
                    )
                )
                at += 1
            exchange = Exchange(
                workflow_id=self._workflow_id, runner_id=self._runner_id, finished=reports, free=CAPACITY
            )
            self._torc.send(exchange)

    def leave(self) -> None:
        """Let the runner stop."""
        self._torc.send(EndRunner(workflow_id=self._workflow_id, runner_id=self._runner_id))

    def diagnose(self) -> int:
        """Group the failed jobs, and give the number of groups."""
        return self._torc.send(DiagnoseWorkflow(workflow_id=self._workflow_id)).num_groups

    def num_ready(self) -> int:
        """Count what is ready, to check that a measure measures what it says."""
        return self._torc.send(GetWorkflow(workflow_id=self._workflow_id)).counts[State.READY]

    def close(self) -> None:
        """Give back the connection."""
        self._torc.close()


def results(database: Path) -> list[Result]:
    """Read every result of the newest workflow of a database."""
    torc = connect(db=str(database), actor="user:benchmark")
    workflow = torc.send(ListWorkflows(limit=1)).items[0]
    found: list[Result] = []
    cursor: str | None = None
    while True:
        page = torc.send(ListResults(workflow_id=workflow.id, limit=10_000, cursor=cursor))
        found += page.items
        cursor = page.cursor
        if cursor is None:
            torc.close()
            return found
