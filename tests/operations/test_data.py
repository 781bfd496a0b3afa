"""Files, user data, requirement classes, failure handlers, Slurm schedulers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.workflows import get, jobs, workflow
from torc.api import data as api
from torc.api.events import ListEvents
from torc.client.embedded import Embedded
from torc.errors import Conflict, Invalid, NotFound

DATA: dict[str, Any] = {
    "files": [{"name": "raw", "path": "raw.txt"}, {"name": "mid", "path": "mid.txt"}, {"name": "idle", "path": "i"}],
    "user_data": [{"name": "u", "data": {"k": [1]}}, {"name": "v"}, {"name": "e", "data": 0, "is_ephemeral": True}],
    "resource_requirements": [{"name": "big", "num_cpus": 3, "memory": "2g"}, {"name": "unused"}],
    "failure_handlers": [{"name": "h", "rules": [{"exit_codes": [3], "recovery_script": "fix"}]}],
    "slurm_schedulers": [{"name": "s", "account": "x"}, {"name": "t", "account": "y"}],
    "actions": [
        {
            "trigger_type": "on_workflow_start",
            "action_type": "schedule_nodes",
            "scheduler": "t",
            "scheduler_type": "slurm",
        }
    ],
}
JOBS = {
    "a": {
        "input_files": ["raw"],
        "output_files": ["mid"],
        "input_user_data": ["u"],
        "output_user_data": ["v"],
        "resource_requirements": "big",
        "failure_handler": "h",
        "scheduler": "s",
    },
    "b": {"input_files": ["mid", "raw"], "input_user_data": ["v"]},
}


@pytest.fixture
def wf(torc: Embedded) -> int:
    return workflow(torc, "a", "b", jobs=JOBS, **DATA)


def files(torc: Embedded, workflow_id: int, **fields: Any) -> dict[str, api.File]:
    return {file.name: file for file in torc.send(api.ListFiles(workflow_id=workflow_id, **fields)).items}


def user_data(torc: Embedded, workflow_id: int, **fields: Any) -> dict[str, api.UserData]:
    return {item.name: item for item in torc.send(api.ListUserData(workflow_id=workflow_id, **fields)).items}


def test_files_know_who_writes_and_how_many_read_them(torc: Embedded, wf: int) -> None:
    assert {name: (file.path, file.producer) for name, file in files(torc, wf).items()} == {
        "raw": ("raw.txt", None),
        "mid": ("mid.txt", "a"),
        "idle": ("i", None),
    }
    readers = {name: torc.send(api.GetFile(file_id=file.id)).num_consumers for name, file in files(torc, wf).items()}
    assert readers == {"raw": 2, "mid": 1, "idle": 0}


def test_files_can_be_listed_by_what_they_are_for(torc: Embedded, wf: int) -> None:
    assert list(files(torc, wf, required_existing=True)) == ["raw"]
    assert list(files(torc, wf, written=True)) == ["mid"]
    assert list(files(torc, wf, read=True)) == ["raw", "mid"]
    assert list(files(torc, wf, name="?[a-z]*")) == []
    assert list(files(torc, wf, name="*i*")) == ["mid", "idle"]


def test_a_file_is_added_changed_and_deleted(torc: Embedded, wf: int) -> None:
    made = torc.send(api.CreateFile(workflow_id=wf, name="new", path="dir/new file.txt"))
    assert torc.send(api.UpdateFile(file_id=made.id, path="p")).path == "p"
    assert torc.send(api.DeleteFile(file_id=made.id)) is None
    with pytest.raises(NotFound, match=f"no file {made.id}"):
        torc.send(api.GetFile(file_id=made.id))
    assert get(torc, wf).version == 4
    types = [event.type for event in torc.send(ListEvents(workflow_id=wf)).items]
    assert types == ["workflow_created", "file_created", "file_updated", "file_deleted"]


@pytest.mark.parametrize(("name", "path"), [("raw", "x"), ("a\tb", "x"), ("n", "a\x00b"), ("n", "  ")])
def test_a_file_that_no_spec_could_have_is_refused(torc: Embedded, wf: int, name: str, path: str) -> None:
    with pytest.raises((Invalid, Conflict)):
        torc.send(api.CreateFile(workflow_id=wf, name=name, path=path))
    assert len(files(torc, wf)) == 3


def test_what_is_in_use_cannot_be_deleted_and_the_user_is_named(torc: Embedded, wf: int) -> None:
    found = jobs(torc, wf)
    handlers = torc.send(api.ListFailureHandlers(workflow_id=wf)).items
    schedulers = torc.send(api.ListSlurmSchedulers(workflow_id=wf)).items
    for request, user in (
        (api.DeleteFile(file_id=files(torc, wf)["raw"].id), "job `a`"),
        (api.DeleteFile(file_id=files(torc, wf)["mid"].id), "job `a`"),
        (api.DeleteUserData(user_data_id=user_data(torc, wf)["v"].id), "job `a`"),
        (api.DeleteRequirement(requirement_id=found["a"].requirement_id), "job `a`"),
        (api.DeleteFailureHandler(failure_handler_id=handlers[0].id), "job `a`"),
        (api.DeleteSlurmScheduler(slurm_scheduler_id=schedulers[0].id), "job `a`"),
        (api.DeleteSlurmScheduler(slurm_scheduler_id=schedulers[1].id), "action 1"),
    ):
        with pytest.raises(Conflict, match=user) as caught:
            torc.send(request)
        assert caught.value.hint
    torc.send(api.DeleteFile(file_id=files(torc, wf)["idle"].id))
    torc.send(api.DeleteUserData(user_data_id=user_data(torc, wf)["e"].id))


def test_user_data_gives_back_what_was_written(torc: Embedded, wf: int) -> None:
    assert {name: (d.data, d.is_ephemeral, d.producer) for name, d in user_data(torc, wf).items()} == {
        "u": ({"k": [1]}, False, None),
        "v": (None, False, "a"),
        "e": (0, True, None),
    }
    made = torc.send(api.CreateUserData(workflow_id=wf, name="n", data="text", is_ephemeral=True))
    assert (made.data, made.is_ephemeral) == ("text", True)
    assert torc.send(api.SetUserData(user_data_id=made.id, data=None)).data is None
    assert list(user_data(torc, wf, name="n")) == ["n"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(categories=["L", "N"])), inner),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(60))
@given(JSON)
def test_any_json_is_kept(torc: Embedded, wf: int, value: Any) -> None:
    number = user_data(torc, wf)["u"].id
    written = torc.send(api.SetUserData(user_data_id=number, data=value)).data
    read = torc.send(api.GetUserData(user_data_id=number)).data
    assert (read, type(read)) == (value, type(value)) == (written, type(written))


def test_writing_the_same_user_data_again_changes_nothing(torc: Embedded, wf: int) -> None:
    before = get(torc, wf)
    torc.send(api.SetUserData(user_data_id=user_data(torc, wf)["u"].id, data={"k": [1]}))
    assert get(torc, wf) == before
    torc.send(api.SetUserData(user_data_id=user_data(torc, wf)["u"].id, data={"k": [True]}))
    assert user_data(torc, wf)["u"].data["k"][0] is True


def test_requirement_classes_are_kept(torc: Embedded, wf: int) -> None:
    found = {item.name: item for item in torc.send(api.ListRequirements(workflow_id=wf)).items}
    big = torc.send(api.GetRequirement(requirement_id=found["big"].id))
    assert (big.num_cpus, big.memory_bytes, big.num_jobs) == (3, 2 << 30, 1)
    changed = torc.send(api.UpdateRequirement(requirement_id=big.id, memory_bytes=1 << 62, runtime_seconds=5))
    assert (changed.num_cpus, changed.memory_bytes, changed.runtime_seconds) == (3, 1 << 62, 5)
    torc.send(api.DeleteRequirement(requirement_id=found["unused"].id))
    made = torc.send(api.CreateRequirement(workflow_id=wf, name="unused", num_gpus=2))
    assert (made.num_gpus, made.num_jobs) == (2, 0)
    assert [item.name for item in torc.send(api.ListRequirements(workflow_id=wf, name="b*")).items] == ["big"]


def test_handlers_and_schedulers_are_checked_like_those_of_a_spec(torc: Embedded, wf: int) -> None:
    made = torc.send(
        api.CreateFailureHandler(workflow_id=wf, name="n", fields={"rules": [{"match_all_exit_codes": True}]})
    )
    with pytest.raises(Invalid, match="exit_code"):
        torc.send(api.UpdateFailureHandler(failure_handler_id=made.id, fields={"rules": [{"exit_code": [1]}]}))
    with pytest.raises(Invalid, match="rules"):
        torc.send(api.CreateFailureHandler(workflow_id=wf, name="m", fields={"rules": []}))
    changed = torc.send(api.UpdateFailureHandler(failure_handler_id=made.id, fields={"rules": [{"exit_codes": [9]}]}))
    assert changed.fields == {"rules": [{"exit_codes": [9]}]}
    with pytest.raises(Invalid, match="walltime"):
        torc.send(api.CreateSlurmScheduler(workflow_id=wf, name="z", fields={"walltime": "soon"}))
    scheduler = torc.send(api.CreateSlurmScheduler(workflow_id=wf, name="h", fields={"nodes": 2}))
    assert scheduler == torc.send(api.GetSlurmScheduler(slurm_scheduler_id=scheduler.id))


def test_a_handler_is_no_scheduler(torc: Embedded, wf: int) -> None:
    handler = torc.send(api.ListFailureHandlers(workflow_id=wf)).items[0]
    with pytest.raises(NotFound):
        torc.send(api.GetSlurmScheduler(slurm_scheduler_id=handler.id))
    with pytest.raises(NotFound):
        torc.send(api.DeleteSlurmScheduler(slurm_scheduler_id=handler.id))


@pytest.mark.parametrize(
    "request_",
    [
        api.CreateUserData(workflow_id=1, name="u"),
        api.CreateRequirement(workflow_id=1, name="big"),
        api.CreateFailureHandler(workflow_id=1, name="h", fields={"rules": [{"exit_codes": [1]}]}),
        api.CreateSlurmScheduler(workflow_id=1, name="s", fields={}),
    ],
)
def test_a_taken_name_is_refused(torc: Embedded, wf: int, request_: Any) -> None:
    assert wf == 1
    with pytest.raises(Conflict, match="already"):
        torc.send(request_)


def test_lists_give_pages(torc: Embedded, wf: int) -> None:
    first = torc.send(api.ListFiles(workflow_id=wf, limit=2))
    rest = torc.send(api.ListFiles(workflow_id=wf, limit=2, cursor=first.cursor))
    assert [file.name for file in [*first.items, *rest.items]] == ["raw", "mid", "idle"]
    assert rest.cursor is None
