"""Workflows as a whole: get, list, change, archive, delete."""

from __future__ import annotations

import pytest
from sqlmodel import SQLModel

from tests.support.workflows import claim, create, ended, exchange, finish, get, run_all, runner, spec, states, workflow
from torc.api.access_groups import AddMembers, CreateAccessGroup, ShareWorkflow
from torc.api.allocations import NewAllocation, RecordAllocations
from torc.api.base import Request
from torc.api.change_plans import ProposeIntervention, StartSpendingAnew
from torc.api.data import ListFiles
from torc.api.events import ListEvents
from torc.api.runs import EndRunner, ListRunners
from torc.api.users import CreateToken, CreateUser
from torc.api.workflows import (
    ArchiveWorkflow,
    CancelWorkflow,
    CheckWorkflow,
    CreateWorkflow,
    DeleteWorkflow,
    GetWorkflow,
    ListWorkflows,
    ResetWorkflow,
    UpdateWorkflow,
)
from torc.client.embedded import Embedded
from torc.errors import Conflict, Invalid, NotFound
from torc.workflow.states import State


def names(torc: Embedded, **fields: object) -> list[str]:
    return [found.name for found in torc.send(ListWorkflows.model_validate(fields)).items]


def test_a_workflow_gives_back_what_its_spec_said(torc: Embedded) -> None:
    made = create(
        torc,
        spec(
            "a -> b",
            name="Übung",
            user="ada",
            description="d",
            project="p",
            metadata={"k": [1, {"x": None}]},
            env={"A": "1"},
            use_pending_failed=True,
            resource_monitor={"enabled": False},
        ),
        directory="/data/x",
    )
    assert made == get(torc, made.id)
    assert (made.name, made.user, made.description, made.project) == ("Übung", "ada", "d", "p")
    assert made.metadata == {"k": [1, {"x": None}]}
    assert made.env == {"A": "1"}
    assert made.settings == {"use_pending_failed": True, "resource_monitor": {"enabled": False}}
    assert (made.directory, made.run_id, made.version, made.state) == ("/data/x", 0, 1, "idle")
    assert made.counts.by_state == {State.READY: 1, State.BLOCKED: 1}


@pytest.mark.parametrize(
    "request_",
    [
        ListWorkflows(name="a\0b"),
        ListWorkflows(name="a\0*"),
        ListWorkflows(user="\0"),
        CreateUser(name="x", password="\0" * 9),
        CreateAccessGroup(name="\0"),
    ],
    ids=lambda asked: type(asked).__name__,
)
def test_a_character_that_is_no_text_breaks_nothing(torc: Embedded, request_: Request[object]) -> None:
    try:
        torc.send(request_)
    except Invalid as error:
        assert "NUL" in error.message


def test_whoever_creates_owns_what_its_spec_gives_to_nobody(torc: Embedded) -> None:
    assert create(torc, spec("a")).user == "tester"


def test_an_invalid_spec_stores_nothing_and_gives_every_diagnostic(torc: Embedded) -> None:
    bad = '{"name": "x", "jobs": [{"name": "a", "command": "x", "depends_on": ["b"], "colour": 1}], "oops": 1}'
    with pytest.raises(Invalid) as caught:
        torc.send(CreateWorkflow(spec=bad, format="json", directory="/"))
    assert len(caught.value.details["diagnostics"]) >= 2
    assert names(torc) == []


def test_the_state_of_a_workflow_follows_its_life(torc: Embedded) -> None:
    wf = workflow(torc, "a -> b", "c")
    assert get(torc, wf).state == "idle"
    worker = runner(torc, wf)
    assert get(torc, wf).state == "running"
    given = claim(torc, wf, worker, 1)
    exchange(torc, wf, worker, stopping=True, finished=[ended(given["a"], "interrupted", -15)])
    torc.send(EndRunner(workflow_id=wf, runner_id=worker))
    assert get(torc, wf).state == "interrupted"
    assert run_all(torc, wf, failing=("b",)).state == "failed"
    torc.send(ResetWorkflow(workflow_id=wf))
    assert get(torc, wf).state == "idle"
    assert torc.send(CancelWorkflow(workflow_id=wf)).state == "canceled"
    torc.send(ResetWorkflow(workflow_id=wf))
    assert run_all(torc, wf).state == "completed"
    assert get(torc, wf).run_id == 2


def test_a_workflow_that_is_not_there_is_named_with_what_to_do(torc: Embedded) -> None:
    for request in (
        GetWorkflow(workflow_id=9),
        CheckWorkflow(workflow_id=9),
        DeleteWorkflow(workflow_id=9),
        ListFiles(workflow_id=9),
        ListEvents(workflow_id=9),
        UpdateWorkflow(workflow_id=9, name="x"),
    ):
        with pytest.raises(NotFound, match="no workflow 9") as caught:
            torc.send(request)
        assert "torc workflows list" in (caught.value.hint or "")


@pytest.mark.parametrize("number", [-1, 0, 2**63 - 1, 2**63, -(2**70)])
def test_a_number_that_no_id_can_be_is_not_found(torc: Embedded, number: int) -> None:
    with pytest.raises(NotFound):
        torc.send(GetWorkflow(workflow_id=number))


def test_the_newest_workflow_comes_first_and_cursors_lead_through_all(torc: Embedded) -> None:
    for at in range(5):
        create(torc, spec("a", name=f"w{at}"))
    seen, cursor = [], None
    while True:
        page = torc.send(ListWorkflows(limit=2, cursor=cursor))
        seen += [found.name for found in page.items]
        assert len(page.items) <= 2
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == ["w4", "w3", "w2", "w1", "w0"]


def test_a_list_gives_each_workflow_as_get_does(torc: Embedded) -> None:
    first, second = workflow(torc, "a -> b"), workflow(torc, "c")
    finish(torc, first, "a")
    runner(torc, second)
    assert torc.send(ListWorkflows()).items == [get(torc, second), get(torc, first)]


def test_names_are_found_exactly_or_by_pattern_with_case_and_special_characters(torc: Embedded) -> None:
    for name in ("Sweep", "sweep", "sweep_1", "sweepx1", "a%b", "a[1]", "a!b", "a\\b"):
        create(torc, spec("a", name=name))
    assert names(torc, name="sweep") == ["sweep"]
    assert names(torc, name="sweep*") == ["sweepx1", "sweep_1", "sweep"]
    assert names(torc, name="sweep_?") == ["sweep_1"]
    assert names(torc, name="?weep") == ["sweep", "Sweep"]
    assert names(torc, name="a%*") == ["a%b"]
    assert names(torc, name="a[1]*") == ["a[1]"]
    assert names(torc, name="a!*") == ["a!b"]
    assert names(torc, name="a\\*") == ["a\\b"]
    assert names(torc, name="a[*") == ["a[1]"]


def test_lists_can_be_of_one_user_and_leave_archived_ones_out(torc: Embedded) -> None:
    mine, other = create(torc, spec("a", name="mine", user="ada")), create(torc, spec("a", name="other", user="bob"))
    assert names(torc, user="ada") == ["mine"]
    torc.send(ArchiveWorkflow(workflow_id=mine.id))
    assert names(torc) == ["other"]
    assert names(torc, include_archived=True) == ["other", "mine"]
    assert other.user == "bob"


@pytest.mark.parametrize("cursor", ["x", "", "!!!", "WzEsMl0", "bnVsbA", "é"])
def test_a_made_up_cursor_is_refused(torc: Embedded, cursor: str) -> None:
    with pytest.raises(Invalid, match="cursor"):
        torc.send(ListWorkflows(cursor=cursor))


def test_an_update_changes_what_it_names_and_nothing_else(torc: Embedded) -> None:
    before = create(torc, spec("a", description="old", metadata={"x": 1}, use_pending_failed=True))
    after = torc.send(
        UpdateWorkflow(
            workflow_id=before.id,
            name="new",
            metadata={"y": "z"},
            env={"A": "b"},
            settings={"use_pending_failed": None, "jobs_sort_method": "gpus_runtime_memory"},
        )
    )
    assert after == before.model_copy(
        update={
            "name": "new",
            "metadata": {"y": "z"},
            "env": {"A": "b"},
            "version": before.version + 1,
            "settings": {"jobs_sort_method": "gpus_runtime_memory"},
            "updated_at": after.updated_at,
        }
    )
    assert after == get(torc, before.id)


def test_an_update_of_nothing_leaves_the_version(torc: Embedded) -> None:
    made = create(torc, spec("a"))
    assert torc.send(UpdateWorkflow(workflow_id=made.id)) == made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"settings": {"jobs_sort_metod": "none"}}, "jobs_sort_metod"),
        ({"settings": {"jobs_sort_method": "size"}}, "jobs_sort_method"),
        ({"settings": {"jobs": []}}, "jobs"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"env": {"A-B": "x"}}, "env"),
        ({"env": {"A": "x\x00y"}}, "env"),
    ],
)
def test_an_update_takes_only_what_a_spec_could_say(torc: Embedded, fields: dict[str, object], message: str) -> None:
    made = create(torc, spec("a"))
    with pytest.raises(Invalid, match=message):
        torc.send(UpdateWorkflow.model_validate({"workflow_id": made.id, **fields}))
    assert get(torc, made.id) == made


def test_the_environment_stays_while_runners_use_it(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    runner(torc, wf)
    with pytest.raises(Conflict, match="1 runner works on it"):
        torc.send(UpdateWorkflow(workflow_id=wf, env={"A": "1"}))
    assert torc.send(UpdateWorkflow(workflow_id=wf, description="fine")).description == "fine"


def test_archiving_is_refused_while_runners_work_and_keeps_a_workflow_from_running(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    worker = runner(torc, wf)
    with pytest.raises(Conflict):
        torc.send(ArchiveWorkflow(workflow_id=wf))
    torc.send(EndRunner(workflow_id=wf, runner_id=worker))
    archived = torc.send(ArchiveWorkflow(workflow_id=wf))
    assert archived.is_archived
    assert torc.send(ArchiveWorkflow(workflow_id=wf)) == archived
    with pytest.raises(Conflict, match="archived"):
        runner(torc, wf)
    assert not torc.send(ArchiveWorkflow(workflow_id=wf, archived=False)).is_archived
    assert run_all(torc, wf).state == "completed"


FULL = {
    "files": [{"name": "in", "path": "in"}, {"name": "out", "path": "out"}],
    "user_data": [{"name": "u", "data": "text"}],
    "resource_requirements": [{"name": "big", "num_cpus": 3}],
    "failure_handlers": [{"name": "h", "rules": [{"exit_codes": [3]}]}],
    "slurm_schedulers": [{"name": "s", "account": "x"}],
    "actions": [
        {"trigger_type": "on_jobs_complete", "action_type": "run_commands", "jobs": ["a"], "commands": ["true"]},
        {
            "trigger_type": "on_workflow_start",
            "action_type": "schedule_nodes",
            "scheduler": "s",
            "scheduler_type": "slurm",
        },
    ],
}
FULL_JOBS = {
    "a": {
        "command": "torc user-data get ${user_data.input.u}",
        "input_files": ["in"],
        "output_files": ["out"],
        "input_user_data": ["u"],
        "failure_handler": "h",
        "scheduler": "s",
        "resource_requirements": "big",
    },
    "b": {"input_files": ["out"]},
}


def rows(torc: Embedded) -> dict[str, int]:
    with torc.store.dialect.begin_read(torc.store.engine) as db:
        found = {
            table.name: int(db.exec_driver_sql(f"SELECT count(*) FROM {table.name}").scalar_one())
            for table in SQLModel.metadata.sorted_tables
        }
    return {name: number for name, number in found.items() if number and name not in {"id_block", "audit"}}


def surround(torc: Embedded, wf: int, group: int) -> None:
    torc.send(
        RecordAllocations(workflow_id=wf, allocations=[NewAllocation(name="n", scheduler="s", walltime_seconds=60)])
    )
    torc.send(ProposeIntervention(workflow_id=wf, action="reset_jobs", client="editor"))
    torc.send(StartSpendingAnew())
    torc.send(ShareWorkflow(workflow_id=wf, access_group_id=group))
    torc.send(CreateToken(name="x", user="ada", workflow_id=wf))


def test_deleting_leaves_no_row_of_the_workflow_and_all_of_the_others(torc: Embedded) -> None:
    kept = workflow(torc, "a b -> c", jobs=FULL_JOBS, **FULL)
    run_all(torc, kept, failing=("c",))
    torc.send(CreateUser(name="ada"))
    group = torc.send(CreateAccessGroup(name="all"))
    torc.send(AddMembers(access_group_id=group.id, users=["ada"]))
    surround(torc, kept, group.id)
    before, shown = rows(torc), states(torc, kept)
    elsewhere = [
        {"name": "in", "path": "in"},
        {"name": "out", "path": "elsewhere"},
    ]  # the first still has an allocation
    gone = workflow(torc, "a b -> c", jobs=FULL_JOBS, **FULL | {"files": elsewhere})
    run_all(torc, gone)
    surround(torc, gone, group.id)
    assert set(rows(torc)) == set(SQLModel.metadata.tables) - {"id_block", "audit", "loading"}, (
        "this test must fill every table"
    )
    torc.send(DeleteWorkflow(workflow_id=gone))
    assert rows(torc) == before
    assert states(torc, kept) == shown
    with pytest.raises(NotFound):
        get(torc, gone)


def test_deleting_is_refused_while_runners_work_unless_forced(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    runner(torc, wf)
    with pytest.raises(Conflict, match="cannot be deleted"):
        torc.send(DeleteWorkflow(workflow_id=wf))
    assert len(torc.send(ListRunners(workflow_id=wf)).items) == 1
    torc.send(DeleteWorkflow(workflow_id=wf, force=True))
    assert rows(torc) == {}


def test_each_change_is_an_event_with_its_author(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    torc.send(UpdateWorkflow(workflow_id=wf, description="x"))
    torc.send(ArchiveWorkflow(workflow_id=wf))
    torc.send(ArchiveWorkflow(workflow_id=wf, archived=False))
    events = torc.send(ListEvents(workflow_id=wf)).items
    assert [(event.type, event.actor) for event in events] == [
        (kind, "user:tester")
        for kind in ("workflow_created", "workflow_updated", "workflow_archived", "workflow_unarchived")
    ]
