"""Claims read an index of jobs that are due, and nothing else: flat however many have finished or wait for a retry."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from torc.store import claims, transitions
from torc.workflow.resources import Capacity, ResourceRequest


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (claims._NEXT_UNBOUND, "job_ready"),
        (claims._NEXT_BOUND, "job_ready"),
        (claims._UNBOUND, "job_ready"),
        (claims._UNBOUND_ON, "job_ready"),
        (claims._BOUND_ON, "job_ready"),
        (transitions._FIRST_DUE, "job_due"),
        (transitions._WAKE, "job_due"),
    ],
)
def test_a_claim_is_answered_from_the_index_of_what_is_due(query: str, index: str, sqlite_file: Path) -> None:
    values = dict.fromkeys(("workflow_id", "class", "scheduler_id", "n", "id", "now"), 1)
    with sqlite3.connect(sqlite_file) as db:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    db.close()
    assert any(f"INDEX {index} " in step and "workflow_id=?" in step for step in plan), plan
    assert not any(step.startswith(("SCAN j", "SCAN job")) for step in plan), plan


def test_where_only_the_number_counts_a_job_that_saves_its_work_still_needs_its_nodes() -> None:
    brief = Capacity(1, 1 << 20, runtime_seconds=600.0)
    wanted = claims.ClaimRequest(brief, 1, brief, ignore_resources=True, ends=True)
    one, two = (ResourceRequest(num_cpus=4, num_nodes=number) for number in (1, 2))
    assert not wanted.can_hold(one) and wanted.can_begin(one)
    assert not wanted.can_hold(two) and not wanted.can_begin(two)
