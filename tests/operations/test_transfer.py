"""A workflow out of one store and into another: nothing is lost, nothing is trusted, all or nothing is taken in."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples.cases import CASES, EXAMPLES
from tests.operations.test_workflows import FULL, FULL_JOBS
from tests.support.examples import examples
from tests.support.graphs import acyclic_prerequisites
from tests.support.stores import DATABASES, check_all, empty_postgres, open_sqlite
from tests.support.workflows import (
    claim,
    create,
    ended,
    exchange,
    finish,
    get,
    job,
    run_all,
    runner,
    spec,
    states,
    workflow,
)
from torc.api.base import Torc
from torc.api.data import (
    ListFailureHandlers,
    ListFiles,
    ListRequirements,
    ListSlurmSchedulers,
    ListUserData,
    SetUserData,
)
from torc.api.diagnosis import DiagnoseWorkflow
from torc.api.events import ListEvents
from torc.api.export_format import TABLES, WORKFLOW, columns_of
from torc.api.jobs import ActOnJobs, ListJobs, UpdateJob
from torc.api.provenance import GetProvenance
from torc.api.remote_workers import AddRemoteWorkers, ListRemoteWorkers
from torc.api.runs import EndRunner, ListResults, ListRunners, StartRun, SummarizeRun
from torc.api.transfer import ExportSpec, ExportWorkflow, ImportWorkflow
from torc.api.workflows import (
    CancelWorkflow,
    CheckWorkflow,
    CreateWorkflow,
    GetGraph,
    GetWorkflow,
    ListWorkflows,
    ReinitializeWorkflow,
    ResetWorkflow,
    UpdateWorkflow,
)
from torc.client.embedded import Embedded
from torc.client.export_file import send_import, write_export
from torc.errors import Conflict, Invalid
from torc.operations.import_file import read_file
from torc.operations.transfer import _Commands, _NewIds, _row
from torc.spec.compiler import compile_spec
from torc.spec.plan import Plan
from torc.store.account_schema import AccountRow


def exported(torc: Torc, wf: int) -> bytes:
    """Return the bytes of the file of a workflow."""
    file = io.BytesIO()
    write_export(torc, wf, file)
    return file.getvalue()


def canonical(content: bytes) -> tuple[dict[str, Any], list[tuple[str, list[Any]]]]:
    """Return what a file says, with ids that count from 0, and without what is of its place and time."""
    incoming = read_file(content)
    new_ids = _NewIds(incoming, dict.fromkeys(TABLES, 0))
    commands = _Commands(incoming, new_ids)
    rows = [(table, _row(table, row, new_ids, commands)) for table, row in incoming.rows()]
    header = {name: value for name, value in incoming.header["workflow"].items() if name not in {"user", "updated_at"}}
    return header, [row for row in rows if not (row[0] == "event" and row[1][1] == "workflow_imported")]


@pytest.fixture(params=DATABASES)
def elsewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """Yield another store."""
    if request.param == "sqlite":
        opened = open_sqlite(request.getfixturevalue("sqlite_file"), tmp_path_factory.mktemp("elsewhere"))
        # so that no id is the same as before
        workflow(opened, "x a y z", **FULL, jobs={"x": {"input_user_data": ["u"]}})
        yield opened
        check_all(opened)
        opened.close()
    else:
        opened = empty_postgres(request.getfixturevalue("postgres_store"))
        workflow(opened, "x a y z", **FULL, jobs={"x": {"input_user_data": ["u"]}})
        yield opened
        check_all(opened)


def full(torc: Torc) -> int:
    """Make a workflow that has everything, partly run."""
    wf = workflow(
        torc, "a b -> c -> d", jobs=FULL_JOBS, **FULL, metadata={"k": [1, 1.0, "ü"]}, env={"A": "1"}, description="d"
    )
    finish(torc, wf, "a")
    finish(torc, wf, "b", failed=True, return_code=9, slurm_state="OUT_OF_MEMORY")
    return wf


def test_a_workflow_arrives_as_it_left(torc: Torc, elsewhere: Embedded, request: pytest.FixtureRequest) -> None:
    if isinstance(torc, Embedded) and torc.store.dialect.name == elsewhere.store.dialect.name == "postgresql":
        pytest.skip("that is one database")
    wf = full(torc)
    content = exported(torc, wf)
    made = send_import(elsewhere, content)
    before = get(torc, wf)
    same = {"id", "updated_at", "user"}
    assert made.model_dump(exclude=same) == before.model_dump(exclude=same)
    assert made.user == "tester"
    assert states(elsewhere, made.id) == states(torc, wf)
    assert _cluster_words(elsewhere, made.id) == {"a": None, "b": "OUT_OF_MEMORY"}
    assert canonical(exported(elsewhere, made.id)) == canonical(content)
    assert elsewhere.send(CheckWorkflow(workflow_id=made.id)) == []
    told = elsewhere.send(ListEvents(workflow_id=made.id, newest_first=True, limit=1)).items[0]
    assert (told.type, told.data["name"], told.data["user"]) == ("workflow_imported", before.name, before.user)


def _cluster_words(torc: Torc, wf: int) -> dict[str, str | None]:
    """Return what the cluster said of each attempt."""
    return {item.job_name: item.slurm_state for item in torc.send(ListResults(workflow_id=wf)).items}


def as_version(lines: list[Any], version: int) -> None:
    """Write a file as an earlier version did."""
    lines[0]["version"] = version
    left: list[int] = []
    for line in lines[1:]:
        if isinstance(line, dict):
            keeps = [column.name for column in columns_of(line["table"], version)]
            left = [at for at, name in enumerate(line["columns"]) if name in keeps]
            line["columns"] = keeps
        else:
            line[:] = [line[at] for at in left]


@pytest.mark.parametrize(
    ("version", "words"),
    [(3, {"a": None, "b": "OUT_OF_MEMORY"}), (2, {"a": None, "b": "OUT_OF_MEMORY"}), (1, {"a": None, "b": None})],
)
def test_a_file_of_an_earlier_version_is_read_without_what_it_could_not_say(
    torc: Torc, version: int, words: dict[str, str | None]
) -> None:
    wf = full(torc)
    lines = lines_of(exported(torc, wf))
    as_version(lines, version)
    made = send_import(torc, packed(lines))
    assert states(torc, made.id) == states(torc, wf)
    assert _cluster_words(torc, made.id) == words


def test_codes_of_signals_in_earlier_files_are_read_as_they_are_counted_today(torc: Torc) -> None:
    wf = full(torc)
    lines = lines_of(exported(torc, wf))
    changed("attempt", "return_code", -9, 1)(lines)
    made = send_import(torc, packed(lines))
    assert [item.return_code for item in torc.send(ListResults(workflow_id=made.id)).items] == [0, 137]


def test_a_retry_that_has_to_wait_waits_as_long_elsewhere(torc: Torc) -> None:
    rules = {
        "failure_handlers": [{"name": "h", "rules": [{"exit_codes": [3], "max_retries": 2, "delay_seconds": 900}]}]
    }
    wf = workflow(torc, "a", jobs={"a": {"failure_handler": "h"}}, **rules)
    finish(torc, wf, "a", failed=True, return_code=3)
    due = job(torc, wf, "a").due_at
    assert due is not None
    made = send_import(torc, exported(torc, wf))
    assert job(torc, made.id, "a").due_at == due


def test_all_that_is_stored_of_a_workflow_travels_or_belongs_to_its_place() -> None:
    of_its_place = {
        "workflow_id",
        "allocation_id",
        "node",
        "job_token_hash",
        "last_exchange",
        "charged_to",
        "stage",
    }
    for table, columns in TABLES.items():
        stored = {column.name for column in AccountRow.metadata.tables[table].columns}
        assert stored - {column.name for column in columns} <= of_its_place | {"id"}, table
    stored = {column.name for column in AccountRow.metadata.tables["workflow"].columns}
    assert stored - {column.name for column in WORKFLOW} <= of_its_place | {"id"}


HOSTILE: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    1.5,
    "",
    "x" * 5000,
    "\ud800",
    "\x1b[2J",
    "a\0b",
    [],
    {},
    [[]],
    {"\ud800": 1},
    {"a": {"b": []}},
    "²",
]


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_a_file_is_refused_or_can_be_shown_and_exported(
    local: Embedded, data: st.DataObject
) -> None:
    """`local` has one workflow that has everything."""
    lines = lines_of(exported(local, 1))
    for _ in range(data.draw(st.integers(1, 2))):
        line = lines[data.draw(st.integers(0, len(lines) - 1))]
        inside = (
            line["workflow"] if isinstance(line, dict) and "workflow" in line and data.draw(st.booleans()) else line
        )
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        inside[data.draw(st.sampled_from(keys))] = data.draw(st.sampled_from(HOSTILE))
    try:
        made = send_import(local, packed(lines))
    except Invalid as error:
        assert error.message and error.hint
        return
    for kind in (
        GetWorkflow,
        CheckWorkflow,
        ListJobs,
        ListResults,
        ListEvents,
        ListRunners,
        ListUserData,
        ListFiles,
        ListRequirements,
        ListFailureHandlers,
        ListSlurmSchedulers,
        SummarizeRun,
        DiagnoseWorkflow,
        GetProvenance,
        GetGraph,
        ExportSpec,
    ):
        local.send(kind(workflow_id=made.id))
    assert send_import(local, exported(local, made.id)).counts == made.counts


@pytest.fixture
def local(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    opened = open_sqlite(sqlite_file, tmp_path)
    full(opened)
    yield opened
    opened.close()


def test_what_completed_does_not_run_again_and_the_rest_does(torc: Torc, elsewhere: Embedded) -> None:
    if isinstance(torc, Embedded) and torc.store.dialect.name == elsewhere.store.dialect.name == "postgresql":
        pytest.skip("that is one database")
    wf = workflow(torc, "a b -> c -> d", jobs=FULL_JOBS, **FULL)
    finish(torc, wf, "a")
    finish(torc, wf, "b")
    made = send_import(elsewhere, exported(torc, wf), name="other", directory="/elsewhere")
    assert (made.name, made.directory) == ("other", "/elsewhere")
    assert run_all(elsewhere, made.id).state == "completed"
    results = elsewhere.send(ListResults(workflow_id=made.id)).items
    assert sorted(result.job_name for result in results) == ["a", "b", "c", "d"]
    assert [firing.type for firing in elsewhere.send(ListEvents(workflow_id=made.id, type="action_fired")).items]


def test_a_command_speaks_of_the_user_data_that_is_there(torc: Torc, elsewhere: Embedded) -> None:
    if isinstance(torc, Embedded) and torc.store.dialect.name == elsewhere.store.dialect.name == "postgresql":
        pytest.skip("that is one database")
    text = "torc user-data get ${user_data.input.u} --n 1 2 3 && torc user-data set ${user_data.output.v} ${user_data.input.u}"
    data = [{"name": "u", "data": 1}, {"name": "v"}]
    wf = workflow(
        torc, "a -> b", user_data=data, jobs={"a": {"command": text, "invocation_script": "x ${user_data.output.v}"}}
    )
    made = send_import(elsewhere, exported(torc, wf))
    u, v = (found.id for found in elsewhere.send(ListUserData(workflow_id=made.id)).items)
    found = job(elsewhere, made.id, "a")
    assert found.command == f"torc user-data get {u} --n 1 2 3 && torc user-data set {v} {u}"
    assert found.invocation_script == f"x {v}"
    again = send_import(torc, exported(elsewhere, made.id))
    x, y = (item.id for item in torc.send(ListUserData(workflow_id=again.id)).items)
    assert job(torc, again.id, "a").command == f"torc user-data get {x} --n 1 2 3 && torc user-data set {y} {x}"


def test_what_is_typed_later_is_taken_to_the_letter(torc: Torc) -> None:
    wf = workflow(torc, "a", user_data=[{"name": "u"}], jobs={"a": {"command": "get ${user_data.input.u}"}})
    number = torc.send(ListJobs(workflow_id=wf)).items[0].id
    torc.send(UpdateJob(job_id=number, command="get 1 1 1"))
    made = send_import(torc, exported(torc, wf))
    assert job(torc, made.id, "a").command == "get 1 1 1"


def test_an_edited_spec_keeps_what_commands_mention(torc: Torc) -> None:
    document = spec("a", user_data=[{"name": "u"}], jobs={"a": {"command": "get ${user_data.input.u}"}})
    wf = create(torc, document).id
    edited = spec(
        "b a",
        user_data=[{"name": "n"}, {"name": "u"}],
        jobs={"a": {"command": "put ${user_data.input.n} ${user_data.input.u}"}},
    )
    torc.send(ReinitializeWorkflow(workflow_id=wf, spec=json.dumps(edited), format="json"))
    made = send_import(torc, exported(torc, wf))
    ids = {found.name: found.id for found in torc.send(ListUserData(workflow_id=made.id)).items}
    assert job(torc, made.id, "a").command == f"put {ids['n']} {ids['u']}"


def test_a_changed_result_is_known_as_changed_elsewhere_and_an_unchanged_one_is_not(torc: Torc) -> None:
    data = [{"name": "u", "data": 1}, {"name": "v", "data": 1}]
    commands = {"a": {"command": "x ${user_data.input.u}"}, "b": {"command": "x ${user_data.input.v}"}}
    wf = workflow(torc, "a b", user_data=data, jobs=commands)
    run_all(torc, wf)
    ids = {found.name: found.id for found in torc.send(ListUserData(workflow_id=wf)).items}
    for name, value in (("u", 2), ("v", 2), ("v", 1)):
        torc.send(SetUserData(user_data_id=ids[name], data=value))
    made = send_import(torc, exported(torc, wf))
    for number in (wf, made.id):
        result = torc.send(ReinitializeWorkflow(workflow_id=number, dry_run=True)).result
        assert result is not None
        assert [change.job_name for change in result.changes] == ["a"]


def test_jobs_that_ran_when_it_was_exported_are_due_again(torc: Torc) -> None:
    wf = workflow(torc, "a b -> c")
    running = runner(torc, wf)
    claim(torc, wf, running, limit=1)
    exchange(torc, wf, running, limit=1)
    assert states(torc, wf) == "a:running b:pending c:blocked"
    made = send_import(torc, exported(torc, wf))
    assert states(torc, made.id) == "a:ready b:ready c:blocked"
    (lost,) = torc.send(ListRunners(workflow_id=made.id)).items
    assert (lost.is_active, lost.end_reason) == (False, "the workflow was exported while it ran")
    assert states(torc, wf) == "a:running b:pending c:blocked", "the workflow itself goes on"
    assert run_all(torc, made.id).state == "completed"


def test_machines_stay_where_they_are(torc: Torc) -> None:
    wf = workflow(torc, "a")
    torc.send(AddRemoteWorkers.model_validate({"workflow_id": wf, "workers": [{"host": "node1"}]}))
    made = send_import(torc, exported(torc, wf))
    assert torc.send(ListRemoteWorkers(workflow_id=made.id)).items == []


def test_a_dry_run_checks_all_and_stores_nothing(torc: Torc) -> None:
    content = exported(torc, full(torc))
    assert send_import(torc, content, dry_run=True).counts.total == 4
    assert len(torc.send(ListWorkflows()).items) == 1


def test_a_workflow_that_changes_between_two_pages_is_written_anew_and_then_given_up(torc: Torc) -> None:
    wf = workflow(torc, " ".join(f"j{n}" for n in range(20)))
    changes = 0

    class Restless:
        """Has somebody change the workflow after each of the first pages."""

        def __init__(self, times: int) -> None:
            self.times = times

        def send(self, request: Any) -> Any:
            """Ask, then change."""
            nonlocal changes
            reply = torc.send(request.model_copy(update={"limit": 7}))
            if changes < self.times:
                changes += 1
                torc.send(UpdateWorkflow(workflow_id=wf, description=str(changes)))
            return reply

        def close(self) -> None:
            """Do nothing."""

    content = exported(Restless(1), wf)
    assert canonical(content) == canonical(exported(torc, wf))
    with pytest.raises(Conflict, match="changes while it is being written"):
        exported(Restless(10**9), wf)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(prerequisites=acyclic_prerequisites(1, 8), seed=st.integers(0, 10**6), limit=st.integers(1, 30))
def test_any_state_of_any_workflow_arrives(
    prerequisites: list[list[int]], seed: int, limit: int, sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torc = open_sqlite(sqlite_file, tmp_path_factory.mktemp("any"))
    names = [f"j{at}" for at in range(len(prerequisites))]
    jobs = [
        {
            "name": name,
            "command": f"echo {name}",
            "depends_on": [names[other] for other in members],
            "cancel_on_blocking_job_failure": bool(at % 3),
        }
        for at, (name, members) in enumerate(zip(names, prerequisites, strict=True))
    ]
    wf = create(torc, {"name": "any", "jobs": jobs}).id
    pick = random.Random(seed)
    for _ in range(pick.randint(0, 8)):
        with contextlib.suppress(Conflict):  # not everything can happen at any time
            _happen(torc, wf, pick)
    lines, cursor = [], None
    while True:  # pages of any size give the same lines
        page = torc.send(ExportWorkflow(workflow_id=wf, cursor=cursor, limit=limit))
        lines += page.lines
        cursor = page.cursor
        if cursor is None:
            break
    content = exported(torc, wf)
    assert [line.decode() for line in gzip.decompress(content).splitlines()][1:-1] == lines[1:]
    made = send_import(torc, content)
    assert torc.send(CheckWorkflow(workflow_id=made.id)) == []
    assert canonical(exported(torc, made.id)) == canonical(content)
    torc.close()


def _happen(torc: Embedded, wf: int, pick: random.Random) -> None:
    what = pick.choice(["run", "run", "run", "reset", "cancel", "disable"])
    if what == "run":
        torc.send(StartRun(workflow_id=wf))
        number = runner(torc, wf)
        given = exchange(torc, wf, number, limit=pick.randint(1, 4)).assignments
        reports = [ended(item, *pick.choice([("succeeded", 0), ("failed", 1), ("terminated", -15)])) for item in given]
        exchange(torc, wf, number, finished=reports[: pick.randint(0, 4)], stopping=True)
        torc.send(EndRunner(workflow_id=wf, runner_id=number))
    elif what == "reset":
        torc.send(ResetWorkflow(workflow_id=wf, failed_only=pick.random() < 0.5))
    elif what == "cancel" and pick.random() < 0.3:
        torc.send(CancelWorkflow(workflow_id=wf))
    elif what == "disable":
        first = torc.send(ListJobs(workflow_id=wf)).items[0].id
        torc.send(ActOnJobs(workflow_id=wf, job_ids=[first], action="disable"))


# -- files that are not what they say ---------------------------------------------------------------------------


def packed(lines: Sequence[Any], *, is_whole: bool = True) -> bytes:
    """Return a file with a right last line, whatever stands in the others."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    rows = sum(isinstance(line, list) for line in lines)
    last = json.dumps({"end": True, "rows": rows, "sha256": hashlib.sha256(body).hexdigest()}).encode()
    return gzip.compress(body + last + b"\n" if is_whole else body)


def lines_of(content: bytes) -> list[Any]:
    return [json.loads(line) for line in gzip.decompress(content).splitlines()][:-1]


def changed(table: str, column: str, value: Any, which: int = 0) -> Callable[[list[Any]], None]:
    """Return what puts a value into the row of a table."""

    def change(lines: list[Any]) -> None:
        at = next(n for n, line in enumerate(lines) if isinstance(line, dict) and line.get("table") == table)
        lines[at + 1 + which][[c.name for c in TABLES[table]].index(column)] = value

    return change


def of_workflow(field: str, value: Any) -> Callable[[list[Any]], None]:
    """Return what changes a field of the workflow."""
    return lambda lines: lines[0]["workflow"].__setitem__(field, value)


DAMAGE: dict[str, tuple[Callable[[list[Any]], Any], str]] = {
    "another format": (lambda lines: lines[0].update(format="x"), "not an exported workflow"),
    "a later version": (lambda lines: lines[0].update(version=5), "this Torc reads versions 1 to 4"),
    "a column before its version": (lambda lines: lines[0].update(version=1), "job are not those of version 1"),
    "no workflow": (lambda lines: lines[0].pop("workflow"), "not those of version 4"),
    "no header": (lambda lines: lines.pop(0), "not an exported workflow"),
    "a relative directory": (of_workflow("directory", "../x"), "not absolute"),
    "an unknown setting": (of_workflow("settings", {"oops": 1}), "oops"),
    "a setting that is a field": (of_workflow("settings", {"jobs": []}), "holds what is none"),
    "an environment of lists": (of_workflow("env", {"A": []}), "env"),
    "a count that is negative": (of_workflow("run_id", -1), "`run_id` cannot be -1"),
    "a table twice": (lambda lines: lines.append(lines[1]), "does not belong here"),
    "an unknown table": (lambda lines: lines.append({"table": "account", "columns": []}), "does not belong here"),
    "other columns": (lambda lines: lines[1]["columns"].append("x"), "are not those of version 4"),
    "a row too short": (lambda lines: lines[2].pop(), "not a row of requirement"),
    "a row before any table": (lambda lines: lines.insert(1, [1]), "before the first table"),
    "an unknown state": (changed("job", "state", "done"), "`state` cannot be"),
    "a state that cannot be": (changed("job", "state", "completed", 2), "inconsistent"),
    "a reference to nothing": (changed("job", "requirement_id", 999), "there is no such requirement"),
    "a gate of others": (changed("gate_prerequisite", "gate_id", 999), "there is no such gate"),
    "an id twice": (changed("job", "id", None), "`id` cannot be null"),
    "a huge number": (changed("job", "priority", 2**63), "`priority` cannot be"),
    "an order of its own": (changed("job", "order_key", -5), "its order"),
    "no command": (changed("job", "command", ""), "command"),
    "NUL in a command": (changed("job", "command", "a\0b"), "`command` cannot be"),
    "an environment that is none": (changed("job", "env", {"A=B": 1}), "env"),
    "a handler that is none": (changed("named", "fields", {"rules": []}), "rules"),
    "a kind that is none": (changed("named", "kind", "remote_worker"), "remote_worker"),
    "two of a name": (changed("job", "name", "b"), "is there twice"),
    "an action that is none": (changed("action", "trigger_type", "now"), "trigger_type"),
    "a firing that is none": (changed("firing", "state", "x"), "`state` cannot be"),
    "user data that is none": (changed("user_data", "data", "{"), "`data` cannot be"),
    "a mention elsewhere": (changed("mention", "at", 3), "does not mention"),
    "a mention in another field": (changed("mention", "field", "name"), "no 'name'"),
    "an attempt of nothing": (changed("attempt", "job_id", 10**9), "no such job"),
    "an attempt not yet made": (changed("attempt", "attempt", 7), "inconsistent"),
    "a capacity that is none": (changed("runner", "capacity", {}), "Field required"),
    "an event that is no object": (changed("event", "data", []), "`data` cannot be"),
    "a gate that counts wrong": (changed("gate", "remaining", 5), "inconsistent"),
    "a cycle": (changed("gate_prerequisite", "job_id", 2), "in a cycle"),
    "a time that is none": (changed("event", "time", "now"), "`time` cannot be"),
    "labels that are none": (changed("runner", "labels", []), "`labels` cannot be"),
    "half of a character": (changed("event", "type", "\ud800"), "`type` cannot be"),
    "a table without a name": (lambda lines: lines[1].update(table=[]), "does not belong here"),
    "settings that are none": (changed("action", "settings", []), "`settings` cannot be"),
    "a requirement with an escape for a name": (changed("requirement", "name", "\x1b[2J"), "name"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_file_that_cannot_be_is_refused_with_its_line_and_nothing_is_stored(
    damage: tuple[Callable[[list[Any]], Any], str], torc: Torc
) -> None:
    lines = lines_of(exported(torc, full(torc)))
    change, told = damage
    change(lines)
    with pytest.raises(Invalid) as caught:
        send_import(torc, packed(lines))
    assert told in caught.value.message, caught.value.message
    assert caught.value.hint
    assert len(torc.send(ListWorkflows()).items) == 1


def _means(content: bytes | bytearray) -> bytes | None:
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        return None


def test_bytes_that_are_damaged_are_refused_wherever_they_are(torc: Torc) -> None:
    content = exported(torc, full(torc))
    pick = random.Random(1)
    for _ in range(60):
        damaged = bytearray(content)
        at = pick.randrange(10, len(content))
        damaged[at] ^= 1 << pick.randrange(8)
        if _means(damaged) != _means(content):  # a few bits mean nothing: those that fill the last byte of a block
            with pytest.raises(Invalid):
                send_import(torc, bytes(damaged), dry_run=True)
    for end in (0, 5, 20, len(content) // 2, len(content) - 1):
        with pytest.raises(Invalid):
            send_import(torc, content[:end], dry_run=True)
    lines = lines_of(content)
    for wrong in (
        packed(lines, is_whole=False),
        packed(lines[:-1]) + packed(lines),
        gzip.compress(b"\xff\xfe\n"),
        b"no gzip",
    ):
        with pytest.raises(Invalid):
            send_import(torc, wrong, dry_run=True)
    with pytest.raises(Invalid, match="base64"):
        torc.send(ImportWorkflow(content="ä"))
    with pytest.raises(Invalid, match="not absolute"):
        send_import(torc, content, directory="x")
    assert len(torc.send(ListWorkflows()).items) == 1


def test_a_file_that_unpacks_to_more_than_memory_is_refused_early(torc: Torc) -> None:
    bomb = gzip.compress(b" " * (64 << 20), 9)
    assert len(bomb) < 100_000
    with pytest.raises(Invalid, match="larger than any workflow"):
        send_import(torc, bomb)
    deep = gzip.compress(b"[" * 100_000 + b"\n")
    with pytest.raises(Invalid):
        send_import(torc, deep)


def test_content_is_checked_before_the_transaction(torc: Torc) -> None:
    wrong = base64.b64encode(b"x").decode()
    with pytest.raises(Invalid, match="not an exported workflow"):
        torc.send(ImportWorkflow(content=wrong))


# -- as a spec --------------------------------------------------------------------------------------------------


def meaning(plan: Plan) -> dict[str, Any]:
    """Return what a plan says, by names."""

    def data(at: int) -> str:
        return plan.user_data[at].name

    jobs = {}
    for item in plan.jobs:
        inputs = plan.input_sets[item.input_set] if item.input_set is not None else None
        waits = plan.gates[item.gate] if item.gate is not None else ()
        jobs[item.name] = (
            _named(item.command, plan),
            item.invocation_script and _named(item.invocation_script, plan),
            plan.requirements[item.requirement].request,
            sorted(plan.jobs[at].name for at in waits),
            sorted(plan.files[at].name for at in inputs.files) if inputs else [],
            sorted(map(data, inputs.user_data)) if inputs else [],
            sorted(plan.files[at].name for at in item.output_files),
            sorted(map(data, item.output_user_data)),
            item.priority,
            dict(item.env),
            item.cancel_on_blocking_job_failure,
            item.supports_termination,
            None if item.failure_handler is None else plan.failure_handlers[item.failure_handler],
            None if item.scheduler is None else plan.schedulers[item.scheduler],
        )
    return {
        "jobs": jobs,
        "files": {item.name: item.path for item in plan.files},
        "user_data": {
            item.name: (None if item.producer is not None else item.data, item.is_ephemeral) for item in plan.user_data
        },
        "named": (plan.failure_handlers, plan.schedulers),
        "settings": plan.settings,
        "actions": [
            (a.trigger_type, a.action_type, {plan.jobs[at].name for at in a.jobs}, a.commands, a.persistent, a.settings)
            for a in plan.actions
        ],
        "workflow": (plan.name, plan.description, plan.project, plan.metadata, plan.env),
    }


def _named(command: str, plan: Plan) -> str:
    parts = command.split("\x00")
    return "".join(part if at % 2 == 0 else f"<{plan.user_data[int(part)].name}>" for at, part in enumerate(parts))


@pytest.mark.parametrize("case", CASES, ids=[case.path for case in CASES])
def test_the_spec_of_a_stored_example_makes_such_a_workflow(case: Any, sqlite_file: Path, tmp_path: Path) -> None:
    torc = open_sqlite(sqlite_file, tmp_path)
    path = EXAMPLES / case.path
    text, form = path.read_text(), path.suffix[1:].replace("yml", "yaml")
    plan, found = compile_spec(text, format=form, name=case.path, read=lambda name: (path.parent / name).read_text())  # type: ignore[arg-type]
    assert plan is not None, found
    wf = torc.send(CreateWorkflow(spec=text, format=form, directory="/x", files=_files(text, path))).id  # type: ignore[arg-type]
    for other in ("yaml", "json", "kdl"):
        spec_text = torc.send(ExportSpec(workflow_id=wf, format=other)).text  # type: ignore[arg-type]
        again, problems = compile_spec(spec_text, format=other)  # type: ignore[arg-type]
        assert again is not None, (spec_text, problems)
        assert meaning(again) == meaning(plan)
    torc.close()


def _files(text: str, path: Path) -> list[Any]:
    import re

    named = set(re.findall(r"@([\w./-]+)", text))
    return [
        {"path": name, "text": (path.parent / name).read_text()} for name in named if (path.parent / name).is_file()
    ]


def test_a_spec_has_references_where_the_workflow_has_ids(torc: Torc) -> None:
    commands = {
        "a": {"command": "x ${user_data.output.u} 1 $X"},
        "b": {"command": "y ${user_data.input.u} ${files.input.f}"},
    }
    files = [{"name": "f", "path": "a file"}]
    wf = workflow(torc, "a b", user_data=[{"name": "u"}], files=files, jobs=commands)
    run_all(torc, wf)
    text = torc.send(ExportSpec(workflow_id=wf, format="json")).text
    jobs = {item["name"]: item for item in json.loads(text)["jobs"]}
    assert jobs["a"]["command"] == "x ${user_data.output.u} 1 $X"
    assert jobs["b"]["command"] == "y ${user_data.input.u} 'a file'"
    assert "depends_on" not in jobs["b"], "that follows from what it reads"
    plan, _ = compile_spec(text, format="json")
    again = torc.send(CreateWorkflow(spec=text, format="json", directory="/x")).id
    assert plan is not None and states(torc, again) == "a:ready b:blocked"
