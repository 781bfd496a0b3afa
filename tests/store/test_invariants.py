"""Each invariant finds what breaks it, on each database."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.stores import DATABASES, empty_postgres, open_sqlite
from tests.support.workflows import claim, finish, runner, workflow
from torc.store.invariants import INVARIANTS, problems

#: a statement after which an invariant does not hold: `a` has completed, `b` runs, `c` waits for `b`
BREAKS = {
    "UPDATE job_count SET count = count + 1 WHERE state = 'completed'": "the counts of jobs by state are right",
    "INSERT INTO job_count (workflow_id, state, count) VALUES (1, 'failed', 2)": "no jobs are counted that are not there",
    "UPDATE gate SET remaining = 0 WHERE remaining = 1": "a gate waits for its prerequisites that are not counted off",
    "UPDATE gate SET total = total + 1": "a gate knows how many prerequisites it has",
    "UPDATE job SET counted = false WHERE name = 'a'": "finished jobs are counted off",
    "UPDATE job SET counted = true WHERE name = 'b'": "only finished jobs are counted off",
    "UPDATE job SET state = 'blocked' WHERE name = 'a'": "no job is blocked behind an open gate",
    "UPDATE job SET state = 'ready' WHERE name = 'c'": "no job is ready behind a shut gate",
    "UPDATE job SET state = 'failed', counted = true WHERE name = 'b'": (
        "no job stays blocked behind an unsuccessful one that would cancel it"
    ),
    "UPDATE runner SET is_active = false": "pending and running jobs are held by an active runner",
    "UPDATE job SET runner_id = 1 WHERE name = 'c'": "only jobs that run, or are being stopped, are held by a runner",
    "UPDATE attempt SET attempt = 7": "no result is of an attempt that was never made",
    "DELETE FROM attempt WHERE state = 'completed'": "a completed job has a result that says so",
    "INSERT INTO attempt SELECT * FROM copied": "no job's success ran again in the same run",
    "UPDATE runner SET ended_at = 1.0": "an ended runner is not active",
}


class _TakenBack(Exception):
    pass


def test_every_invariant_is_broken_here() -> None:
    assert set(BREAKS.values()) == set(INVARIANTS)


@pytest.mark.parametrize("database", DATABASES)
def test_each_is_noticed(database: str, request: pytest.FixtureRequest, sqlite_file: Path, tmp_path: Path) -> None:
    sqlite = database == "sqlite"
    torc = open_sqlite(sqlite_file, tmp_path) if sqlite else empty_postgres(request.getfixturevalue("postgres_store"))
    wf = workflow(torc, "a", "b -> c")
    finish(torc, wf, "a")
    assert "b" in claim(torc, wf, runner(torc, wf))
    engine, dialect = torc.store.engine, torc.store.dialect
    with dialect.begin_read(engine) as db:
        assert problems(db, wf) == []
    for statement, name in BREAKS.items():
        with pytest.raises(_TakenBack), dialect.begin_write(engine) as db:
            db.execute(text("CREATE TEMPORARY TABLE copied AS SELECT * FROM attempt WHERE state = 'completed'"))
            db.execute(text("UPDATE copied SET id = id + 1000, attempt = 0"))
            db.execute(text(statement))
            assert name in [found for found, _ in problems(db, wf)], statement
            raise _TakenBack
    if sqlite:
        torc.close()
