"""Workflows that are too large for one transaction: others write in between, nobody sees them before they are whole, and
nothing is left of those that are not finished.
"""

from __future__ import annotations

import base64
import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from tests.support.stores import check_all, empty_postgres, open_sqlite
from tests.support.wait import wait_until
from tests.support.workflows import claim, runner, workflow
from torc.api.base import Request
from torc.api.data import GetFile, GetRequirement, GetUserData
from torc.api.events import ListEvents
from torc.api.export_format import TABLES
from torc.api.jobs import GetJob, ListJobs, UpdateJob
from torc.api.transfer import ExportWorkflow, ImportWorkflow
from torc.api.workflows import CreateWorkflow, DeleteWorkflow, ListWorkflows, PruneWorkflows, Workflow
from torc.client.embedded import Embedded
from torc.client.export_file import write_export
from torc.client.sliced_storage import SlicedCreation
from torc.errors import Conflict, Invalid, NotFound
from torc.store.engine import Store
from torc.store.export_rows import BY_REFERENCE
from torc.store.sliced_storage import SLICE, Batch, sliced

pytestmark = pytest.mark.usefixtures("large")

N = SLICE
LARGE = f"""
name: large
parameters: {{i: "1:{N}"}}
files: [{{name: "f{{i}}", path: "f{{i}}", use_parameters: [i]}}]
user_data: [{{name: u, data: 1}}]
jobs:
  - {{name: "a{{i}}", command: "a ${{user_data.input.u}}", use_parameters: [i], output_files: ["f{{i}}"]}}
  - {{name: "b{{i}}", command: b, use_parameters: [i], input_files: ["f{{i}}"]}}
actions: [{{trigger_type: on_jobs_ready, action_type: run_commands, commands: [c], jobs: [a1, b7]}}]
"""
#: what a runner at work writes
MOVED = {"event", "attempt", "job_count"}
REQUEST = CreateWorkflow(spec=LARGE, format="yaml", directory="/tmp")


@pytest.fixture
def torc(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    opened = open_sqlite(sqlite_file, tmp_path)
    yield opened
    check_all(opened)
    opened.close()


def storing_of(torc: Embedded, request: Request[Any] = REQUEST) -> SlicedCreation:
    found = torc.storing(request, None, torc.prepare(request, None))
    assert found is not None
    return found


def rows(torc: Embedded, workflow_id: int | None = None) -> dict[str, int]:
    """Count the rows of all tables, or those of one workflow."""
    found = {}
    with torc.store.dialect.begin_read(torc.store.engine) as db:
        for table in (*TABLES, "workflow", "job_count", "loading"):
            columns = {row[1] for row in db.exec_driver_sql(f"PRAGMA table_info({table})")}
            where = " WHERE workflow_id = :id" if workflow_id is not None and "workflow_id" in columns else ""
            found[table] = db.execute(text(f"SELECT count(*) FROM {table}{where}"), {"id": workflow_id}).scalar_one()
        # what is not whole refers to a workflow that is not there
        assert found["loading"] or db.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []
    return found


def test_a_database_with_many_writers_takes_it_in_one_transaction(postgres_store: Store) -> None:
    torc = empty_postgres(postgres_store)
    other = workflow(torc, "a")
    for number, step in enumerate(storing_of(torc).steps()):
        assert [found.id for found in torc.send(ListWorkflows()).items] == [other]
        step()
        if number == 0:
            assert runner(torc, other)  # ids are taken, and locked by nobody
    assert number == 1
    made = torc.send(ListWorkflows()).items[0]
    assert made.counts.total == 2 * N
    with postgres_store.dialect.begin_read(postgres_store.engine) as db:
        assert db.execute(text("SELECT count(*) FROM loading")).scalar_one() == 0
    check_all(torc)


def test_it_is_stored_as_a_small_one_is(torc: Embedded) -> None:
    made = torc.send(REQUEST)
    assert made.counts.total == 2 * N
    assert rows(torc)["loading"] == 0
    runner_id = runner(torc, made.id)
    assert set(claim(torc, made.id, runner_id, 3)) <= {f"a{number}" for number in range(1, N + 1)}
    first = torc.send(ListEvents(workflow_id=made.id, limit=1)).items[0]
    assert (first.type, first.data) == ("workflow_created", {"name": "large", "num_jobs": 2 * N})


def test_nobody_sees_it_before_it_is_whole_and_others_work_meanwhile(torc: Embedded, tmp_path: Path) -> None:
    other = workflow(torc, *(f"j{number}" for number in range(20)))
    runner_id = runner(torc, other)
    somebody = Embedded(torc.store, "user:somebody")
    storing = storing_of(torc)
    num_steps = 0
    for step in storing.steps():
        assert [found.id for found in somebody.send(ListWorkflows()).items] == [other]
        for request in (
            ListJobs(workflow_id=other + 1),
            ListEvents(workflow_id=other + 1),
            ExportWorkflow(workflow_id=other + 1),
        ):
            with pytest.raises(NotFound):
                somebody.send(request)
        assert len(claim(torc, other, runner_id, 1)) <= 1
        step()
        num_steps += 1
    assert num_steps > 4
    assert isinstance(storing.reply, Workflow) and storing.reply.id == other + 1
    assert len(somebody.send(ListJobs(workflow_id=other + 1, limit=10)).items) == 10


def test_a_job_of_it_is_not_found_by_its_number(torc: Embedded) -> None:
    for step in storing_of(torc).steps():
        if rows(torc)["workflow"] == 0 and rows(torc)["action"]:
            break
        step()
    numbers = dict.fromkeys(("job", "file", "user_data", "requirement"), 0)
    with torc.store.dialect.begin_read(torc.store.engine) as db:
        for table in numbers:
            numbers[table] = db.execute(text(f"SELECT max(id) FROM {table}")).scalar_one()
    for request in (
        GetJob(job_id=numbers["job"]),
        UpdateJob(job_id=numbers["job"], command="x"),
        GetFile(file_id=numbers["file"]),
        GetUserData(user_data_id=numbers["user_data"]),
        GetRequirement(requirement_id=numbers["requirement"]),
    ):
        with pytest.raises(NotFound):
            torc.send(request)
    for step in torc.removal(1):
        step()


def test_what_fails_on_the_way_leaves_nothing(torc: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow(torc, "a -> b")
    before = rows(torc)
    with torc.store.dialect.begin_write(torc.store.engine) as db:  # the last slices meet a database that refuses them
        db.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON action_job BEGIN SELECT RAISE(ABORT, 'no room'); END")
    with pytest.raises(Invalid, match="no room"):
        torc.send(REQUEST)
    with torc.store.dialect.begin_write(torc.store.engine) as db:
        db.exec_driver_sql("DROP TRIGGER full")
    assert rows(torc) == before


CHILD = """
import sys
from pathlib import Path
from torc.client.embedded import Embedded
from torc.store.engine import open_store
from torc.api.workflows import CreateWorkflow
Embedded(open_store(Path(sys.argv[1])), "user:x").send(CreateWorkflow(spec=sys.argv[2], format="yaml", directory="/tmp"))
"""


@pytest.mark.usefixtures("processes")
def test_what_a_killed_process_left_is_not_seen_and_goes_with_the_next_creation(torc: Embedded, tmp_path: Path) -> None:
    spec = LARGE.replace(f"1:{N}", f"1:{5 * N}")
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "torc.db"), spec])
    try:
        wait_until(lambda: rows(torc)["file"] > 0, timeout=120)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    left = rows(torc)
    assert left["workflow"] == 0 and left["loading"] == 1
    assert torc.send(ListWorkflows()).items == []
    assert torc.left_over() == []  # it may go on yet, as far as anybody can tell
    with torc.store.dialect.begin_write(torc.store.engine) as db:
        gone = db.execute(text("UPDATE loading SET renewed_at = 0 RETURNING workflow_id")).scalar_one()
    made = torc.send(REQUEST)
    assert made.id != gone
    assert {table for table, number in rows(torc, gone).items() if number} <= {*BY_REFERENCE, "workflow"}
    alone = rows(torc, made.id)
    assert all(rows(torc)[table] == alone[table] for table in alone), "rows of nobody are left"


def test_whoever_was_taken_for_dead_stores_nothing_more(torc: Embedded) -> None:
    steps = storing_of(torc).steps()
    for _ in range(3):
        next(steps)()
    for step in torc.removal(1):
        step()
    with pytest.raises(Conflict, match="abandoned"):
        next(steps)()
    assert set(rows(torc).values()) == {0}


def test_a_large_file_is_taken_in_by_slices_too(torc: Embedded) -> None:
    made = torc.send(REQUEST)
    file = io.BytesIO()
    write_export(torc, made.id, file)
    content = base64.b64encode(file.getvalue()).decode()
    before = rows(torc)
    torc.send(ImportWorkflow(content=content, dry_run=True))
    assert rows(torc) == before
    copy = torc.send(ImportWorkflow(content=content, name="copy"))
    assert copy.counts == made.counts and copy.name == "copy"
    torc.send(DeleteWorkflow(workflow_id=copy.id))
    assert rows(torc) == before


def test_deleting_lets_others_write_in_between_and_nobody_sees_what_is_left(torc: Embedded) -> None:
    other = workflow(torc, *(f"j{number}" for number in range(20)))
    runner_id = runner(torc, other)
    before = rows(torc)
    made = torc.send(REQUEST)
    job_id = torc.send(ListJobs(workflow_id=made.id, limit=1)).items[0].id
    torc.answer(DeleteWorkflow(workflow_id=made.id))  # what one transaction does
    left = [rows(torc, made.id)["job"]]
    assert left == [2 * N] and torc.left_over() == [made.id]
    for step in torc.removal(made.id):
        assert [found.id for found in torc.send(ListWorkflows()).items] == [other]
        for request in (GetJob(job_id=job_id), ListEvents(workflow_id=made.id), DeleteWorkflow(workflow_id=made.id)):
            with pytest.raises(NotFound):
                torc.send(request)
        assert len(claim(torc, other, runner_id, 1)) <= 1
        step()
        left.append(rows(torc, made.id)["job"])
    assert max(one - next_ for one, next_ in pairwise(left)) <= SLICE and left[-1] == 0
    assert {table: number for table, number in rows(torc).items() if table not in MOVED} == {
        table: number for table, number in before.items() if table not in MOVED
    }


def test_what_a_killed_process_has_not_deleted_goes_with_the_next_deletion(torc: Embedded) -> None:
    small, made = workflow(torc, "a"), torc.send(REQUEST)
    torc.answer(DeleteWorkflow(workflow_id=made.id))
    assert rows(torc)["job"] == 2 * N + 1
    torc.send(PruneWorkflows(older_than_seconds=0.0, dry_run=True))
    torc.send(DeleteWorkflow(workflow_id=small))
    assert set(rows(torc).values()) == {0}


def test_a_deleted_workflow_takes_all_with_it_that_refers_to_it(torc: Embedded) -> None:
    tables = inspect(torc.store.engine).get_table_names()
    referring = [
        table
        for table in tables
        if any(key["referred_table"] == "workflow" for key in inspect(torc.store.engine).get_foreign_keys(table))
    ]
    made, kept = workflow(torc, "a"), workflow(torc, "a")
    with torc.store.dialect.begin_load(torc.store.engine) as db:  # a row of each, whatever else it says
        for table in referring:
            columns = inspect(torc.store.engine).get_columns(table)
            for workflow_id in (made, kept):
                number = 900_000 + workflow_id
                needed = [column["name"] for column in columns if not column["nullable"]]
                values = {**dict.fromkeys(needed, number), "workflow_id": workflow_id}
                names = ", ".join(f'"{name}"' for name in values)
                marks = ", ".join(f":{name}" for name in values)
                db.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)
        db.exec_driver_sql("CREATE TEMP TABLE made AS SELECT * FROM token WHERE workflow_id = :id", {"id": made})
        db.exec_driver_sql("UPDATE made SET id = 950000, workflow_id = NULL, parent_id = :id", {"id": 900_000 + made})
        db.exec_driver_sql("INSERT INTO token SELECT * FROM made")
        db.exec_driver_sql("DROP TABLE made")
    torc.send(DeleteWorkflow(workflow_id=made, force=True))
    with torc.store.dialect.begin_read(torc.store.engine) as db:
        for table in referring:
            found = db.execute(text(f"SELECT DISTINCT workflow_id FROM {table}")).scalars().all()
            assert found == [kept], table
        assert db.execute(text("SELECT count(*) FROM token WHERE id = 950000")).scalar_one() == 0
    torc.send(DeleteWorkflow(workflow_id=kept, force=True))
    with torc.store.dialect.begin_read(torc.store.engine) as db:
        assert db.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []


def test_slices_have_so_many_rows_of_whatever_table() -> None:
    batches = [Batch("a", ("x",), ((n,) for n in range(7))), Batch("b", ("y",), []), Batch("c", ("z",), [(1,), (2,)])]
    found = [[(table, list(made)) for table, _, made in piece] for piece in sliced(batches, 4)]
    assert found == [
        [("a", [(0,), (1,), (2,), (3,)])],
        [("a", [(4,), (5,), (6,)]), ("c", [(1,)])],
        [("c", [(2,)])],
    ]
