"""Jobs: list, look at, add, change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workflows import (
    claim,
    create,
    ended,
    exchange,
    finish,
    get,
    job,
    jobs,
    run_all,
    runner,
    spec,
    states,
    workflow,
)
from torc.api.data import CreateFailureHandler, CreateFile, CreateRequirement, CreateUserData, GetRequirement
from torc.api.events import ListEvents
from torc.api.jobs import CreateJob, GetJob, Job, ListJobs, UpdateJob
from torc.api.runs import EndRunner
from torc.client.embedded import Embedded
from torc.errors import Conflict, Invalid, NotFound
from torc.workflow.states import State


def listed(torc: Embedded, workflow_id: int, **fields: Any) -> list[str]:
    return [found.name for found in torc.send(ListJobs(workflow_id=workflow_id, **fields)).items]


def add(torc: Embedded, workflow_id: int, name: str, **fields: Any) -> Job:
    return torc.send(CreateJob(workflow_id=workflow_id, name=name, command="true", **fields))


def update(torc: Embedded, workflow_id: int, name: str, **fields: Any) -> Job:
    return torc.send(UpdateJob(job_id=jobs(torc, workflow_id)[name].id, **fields))


DATA: dict[str, Any] = {
    "files": [{"name": "raw", "path": "raw.txt"}, {"name": "mid", "path": "mid.txt"}],
    "user_data": [{"name": "u", "data": 1}, {"name": "v"}],
    "resource_requirements": [{"name": "big", "num_cpus": 3}],
    "failure_handlers": [{"name": "h", "rules": [{"exit_codes": [3]}]}],
    "slurm_schedulers": [{"name": "s", "account": "x"}],
}


def test_a_job_gives_back_what_its_spec_said(torc: Embedded) -> None:
    document = spec("a", "b", **DATA)
    document["jobs"] = [
        {
            "name": "a",
            "command": "echo 'x' \"y\" $HOME ünï\ncode",
            "invocation_script": "bash -e",
            "env": {"A": "1"},
            "priority": 5,
            "resource_requirements": "big",
            "failure_handler": "h",
            "scheduler": "s",
            "cancel_on_blocking_job_failure": False,
            "supports_termination": True,
            "input_files": ["raw"],
            "output_files": ["mid"],
            "input_user_data": ["u"],
            "output_user_data": ["v"],
        },
        {"name": "b", "command": "x", "input_files": ["mid"], "input_user_data": ["v"], "depends_on": ["a"]},
    ]
    wf = create(torc, document).id
    a, b = job(torc, wf, "a"), job(torc, wf, "b")
    given = document["jobs"][0]
    for field in (
        "name",
        "command",
        "invocation_script",
        "env",
        "priority",
        "failure_handler",
        "scheduler",
        "cancel_on_blocking_job_failure",
        "supports_termination",
        "input_files",
        "output_files",
        "input_user_data",
        "output_user_data",
    ):
        assert getattr(a, field) == given[field], field
    assert (a.requirement_name, a.state, a.attempt, a.runner_id) == ("big", "ready", 0, None)
    assert a.depends_on == [] and b.depends_on == ["a"]
    assert b.input_files == ["mid"] and b.output_files == []


def test_lists_leave_out_relations_and_get_has_them(torc: Embedded) -> None:
    wf = workflow(torc, "a -> b")
    assert torc.send(ListJobs(workflow_id=wf)).items[1].depends_on is None
    assert job(torc, wf, "b").depends_on == ["a"]


def test_jobs_are_found_by_state_name_and_runner(torc: Embedded) -> None:
    wf = workflow(torc, "a b ab -> c", "A")
    other = workflow(torc, "a")
    worker = runner(torc, wf)
    given = exchange(torc, wf, worker, limit=2).assignments
    assert listed(torc, wf, state=State.PENDING) == [item.name for item in given]
    assert listed(torc, wf, runner_id=worker) == [item.name for item in given]
    assert listed(torc, wf, state=State.BLOCKED) == ["c"]
    assert listed(torc, wf, name="a") == ["a"]
    assert listed(torc, wf, name="a*") == ["a", "ab"]
    assert listed(torc, wf, name="?", state=State.READY) == [n for n in ("b", "A") if n not in {i.name for i in given}]
    assert listed(torc, wf, name="no*") == []
    assert listed(torc, other) == ["a"]
    torc.send(EndRunner(workflow_id=wf, runner_id=worker))


def test_pages_of_jobs_join_without_gap_or_repeat(torc: Embedded) -> None:
    wf = workflow(torc, " ".join(f"j{at}" for at in range(25)))
    names: list[str] = []
    cursor = None
    while True:
        page = torc.send(ListJobs(workflow_id=wf, limit=10, cursor=cursor))
        names += [found.name for found in page.items]
        if page.cursor is None:
            break
        cursor = page.cursor
    assert names == [f"j{at}" for at in range(25)]


def test_a_job_that_is_not_there_is_named(torc: Embedded) -> None:
    for request in (GetJob(job_id=7), UpdateJob(job_id=7, priority=1)):
        with pytest.raises(NotFound, match="no job 7"):
            torc.send(request)


def test_an_added_job_waits_for_what_it_names_and_for_whoever_writes_what_it_reads(torc: Embedded) -> None:
    wf = workflow(torc, "a b", jobs={"a": {"output_files": ["mid"]}, "b": {"output_user_data": ["v"]}}, **DATA)
    added = add(torc, wf, "c", input_files=["mid", "raw"], input_user_data=["v"], depends_on=["a"])
    assert added.state is State.BLOCKED
    assert added.depends_on == ["a", "b"]
    assert add(torc, wf, "d").state is State.READY
    finish(torc, wf, "a")
    assert states(torc, wf) == "a:completed b:ready c:blocked d:ready"
    assert run_all(torc, wf).state == "completed"


def test_an_added_job_has_all_its_fields(torc: Embedded) -> None:
    wf = workflow(torc, "a", **DATA)
    fields: dict[str, Any] = {
        "invocation_script": "bash",
        "env": {"X": "y"},
        "priority": 9,
        "failure_handler": "h",
        "scheduler": "s",
        "cancel_on_blocking_job_failure": False,
        "supports_termination": True,
        "input_files": ["raw"],
        "output_files": ["mid"],
        "input_user_data": ["u"],
        "output_user_data": ["v"],
        "depends_on": ["a"],
    }
    added = add(torc, wf, "n", requirement="big", **fields)
    assert {key: getattr(added, key) for key in fields} == fields
    assert added.requirement_name == "big"
    assert add(torc, wf, "m").requirement_name == "default"
    assert torc.send(GetRequirement(requirement_id=jobs(torc, wf)["m"].requirement_id)).num_cpus == 1


def test_a_job_added_behind_a_failed_one_is_canceled_like_the_others(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    run_all(torc, wf, failing=("a",))
    assert add(torc, wf, "b", depends_on=["a"]).state is State.CANCELED
    assert add(torc, wf, "c", depends_on=["a"], cancel_on_blocking_job_failure=False).state is State.READY


def test_a_job_added_to_a_finished_workflow_makes_it_run_on(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    assert run_all(torc, wf).ended_at is not None
    add(torc, wf, "b", depends_on=["a"])
    assert get(torc, wf).state == "interrupted"
    assert run_all(torc, wf).state == "completed"
    assert states(torc, wf) == "a:completed b:completed"


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"name": "a"}, Conflict, "has a job `a` already"),
        ({"name": "n", "depends_on": ["zzz"]}, NotFound, "no job `zzz`"),
        ({"name": "n", "input_files": ["zzz"]}, NotFound, "no file `zzz`"),
        ({"name": "n", "output_user_data": ["zzz"]}, NotFound, "no user data `zzz`"),
        ({"name": "n", "requirement": "zzz"}, NotFound, "no resource requirement `zzz`"),
        ({"name": "n", "failure_handler": "s"}, NotFound, "no failure handler `s`"),
        ({"name": "n", "scheduler": "h"}, NotFound, "no slurm scheduler `h`"),
        ({"name": "n", "output_files": ["mid"]}, Conflict, "written by another job"),
        ({"name": "n", "output_files": ["raw"]}, Conflict, "would not wait for this one"),
        ({"name": "a\nb"}, Invalid, "name"),
        ({"name": "n", "command": "a\x00b"}, Invalid, "command"),
        ({"name": "n", "command": "  "}, Invalid, "command"),
        ({"name": "n", "env": {"A=B": "x"}}, Invalid, "env"),
    ],
)
def test_a_job_that_cannot_be_added_is_refused_and_nothing_is_stored(
    torc: Embedded, fields: dict[str, Any], kind: type[Exception], message: str
) -> None:
    wf = workflow(torc, "a", jobs={"a": {"input_files": ["raw"], "output_files": ["mid"]}}, **DATA)
    before = get(torc, wf)
    with pytest.raises(kind, match=message) as caught:
        torc.send(CreateJob(workflow_id=wf, **{"command": "true", **fields}))
    assert getattr(caught.value, "hint", None)
    assert get(torc, wf) == before
    assert listed(torc, wf) == ["a"]


def test_a_job_cannot_read_what_it_writes(torc: Embedded) -> None:
    wf = workflow(torc, "a", **DATA)
    with pytest.raises(Conflict, match="wait for itself"):
        add(torc, wf, "n", input_files=["raw"], output_files=["raw"])
    assert listed(torc, wf) == ["a"]


def test_an_added_job_uses_what_was_added_before(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    torc.send(CreateFile(workflow_id=wf, name="f", path="f.txt"))
    torc.send(CreateUserData(workflow_id=wf, name="x", data=[1]))
    torc.send(CreateRequirement(workflow_id=wf, name="wide", num_cpus=4))
    torc.send(CreateFailureHandler(workflow_id=wf, name="again", fields={"rules": [{"match_all_exit_codes": True}]}))
    add(torc, wf, "w", output_files=["f"], requirement="wide", failure_handler="again")
    assert add(torc, wf, "r", input_files=["f"], input_user_data=["x"]).depends_on == ["w"]


def test_an_update_changes_what_it_names(torc: Embedded) -> None:
    wf = workflow(
        torc, "a", jobs={"a": {"invocation_script": "bash", "failure_handler": "h", "scheduler": "s"}}, **DATA
    )
    before = job(torc, wf, "a")
    after = update(torc, wf, "a", command="false", priority=7, requirement="big", env={"Q": "1"})
    assert after == before.model_copy(
        update={
            "command": "false",
            "priority": 7,
            "requirement_id": after.requirement_id,
            "requirement_name": "big",
            "env": {"Q": "1"},
        }
    )
    assert after.requirement_id != before.requirement_id
    cleared = update(torc, wf, "a", invocation_script="", failure_handler="", scheduler="", env={})
    assert (cleared.invocation_script, cleared.failure_handler, cleared.scheduler, cleared.env) == (
        None,
        None,
        None,
        {},
    )
    assert get(torc, wf).version == 3


def test_a_raised_priority_is_given_first(torc: Embedded) -> None:
    wf = workflow(torc, "a b c")
    update(torc, wf, "b", priority=1)
    worker = runner(torc, wf)
    assert list(claim(torc, wf, worker, 1)) == ["b"]
    torc.send(EndRunner(workflow_id=wf, runner_id=worker))


@pytest.mark.parametrize("fields", [{"command": " "}, {"env": {"1": "x"}}, {"command": "a\x00"}])
def test_an_update_takes_only_what_a_spec_could_say(torc: Embedded, fields: dict[str, Any]) -> None:
    wf = workflow(torc, "a")
    before = job(torc, wf, "a")
    with pytest.raises(Invalid):
        update(torc, wf, "a", **fields)
    assert job(torc, wf, "a") == before


def test_a_job_that_a_runner_holds_stays_as_it_is(torc: Embedded) -> None:
    wf = workflow(torc, "a")
    worker = runner(torc, wf)
    given = claim(torc, wf, worker)
    with pytest.raises(Conflict, match="is running"):
        update(torc, wf, "a", command="false")
    exchange(torc, wf, worker, finished=[ended(given["a"])])
    assert update(torc, wf, "a", command="false").command == "false"


def test_events_of_a_job_include_those_of_sets_that_it_was_in(torc: Embedded) -> None:
    wf = workflow(torc, "a b")
    run_all(torc, wf)
    update(torc, wf, "a", priority=2)
    of = {
        name: [e.type for e in torc.send(ListEvents(workflow_id=wf, job_id=found.id)).items]
        for name, found in jobs(torc, wf).items()
    }
    assert of == {"a": ["jobs_completed", "job_updated"], "b": ["jobs_completed"]}


@pytest.mark.parametrize("command", ["cat ${files.input.x}", "cat ${file.input.x}", "cat ${files.output.x"])
def test_a_reference_in_a_command_that_is_changed_is_refused(torc: Embedded, command: str) -> None:
    number = workflow(torc, "a")
    for request in (
        UpdateJob(job_id=jobs(torc, number)["a"].id, command=command),
        CreateJob(workflow_id=number, name="b", command=command),
        CreateJob(workflow_id=number, name="b", command="true", env={"A": command}),
    ):
        with pytest.raises(Invalid, match="would not be replaced"):
            torc.send(request)
    torc.send(UpdateJob(job_id=jobs(torc, number)["a"].id, command="echo ${VAR:-x} ${files[@]}"))
