"""The list of machines on which a workflow has workers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.workflows import spec, workflow
from torc.api.data import ListSlurmSchedulers
from torc.api.events import ListEvents
from torc.api.remote_workers import (
    AddRemoteWorkers,
    ListRemoteWorkers,
    NewRemoteWorker,
    RemoteWorker,
    RemoveRemoteWorker,
)
from torc.api.workflows import DeleteWorkflow, ReinitializeWorkflow
from torc.client.embedded import Embedded
from torc.errors import Conflict, NotFound


@pytest.fixture
def wf(torc: Embedded) -> int:
    return workflow(torc, "a")


def add(torc: Embedded, wf: int, /, *hosts: str, replace: bool = False, **fields: Any) -> list[RemoteWorker]:
    workers = [NewRemoteWorker(host=host, **fields) for host in hosts]
    return torc.send(AddRemoteWorkers(workflow_id=wf, workers=workers, replace=replace))


def hosts(torc: Embedded, wf: int, **fields: Any) -> list[str]:
    return [worker.host for worker in torc.send(ListRemoteWorkers(workflow_id=wf, **fields)).items]


def test_machines_are_kept_with_all_that_was_said_of_them(torc: Embedded, wf: int) -> None:
    fields: dict[str, Any] = {
        "torc": "/opt/torc/bin/torc",
        "directory": "/scratch/a b",
        "output_dir": "out",
        "num_cpus": 4,
        "num_gpus": 0,
        "memory_bytes": 1 << 40,
        "max_parallel_jobs": 9,
        "labels": {"rack": "7", "note": "it's $HOME"},
    }
    added = add(torc, wf, "me@node-1:2222", **fields)
    assert torc.send(ListRemoteWorkers(workflow_id=wf)).items == added
    assert added[0].model_dump(exclude={"id", "workflow_id"}) == {"host": "me@node-1:2222", **fields}


def test_several_are_added_at_once_or_none(torc: Embedded, wf: int) -> None:
    add(torc, wf, "one", "[::1]:22")
    with pytest.raises(Conflict, match="`one` already"):
        add(torc, wf, "two", "one")
    assert hosts(torc, wf) == ["one", "[::1]:22"]
    assert hosts(torc, wf, name="o*") == ["one"]


def test_replacing_changes_what_is_there_and_keeps_its_id(torc: Embedded, wf: int) -> None:
    (before,) = add(torc, wf, "one", num_cpus=1)
    after, new = add(torc, wf, "one", "two", num_cpus=2, replace=True)
    assert (after.id, after.num_cpus, new.num_cpus) == (before.id, 2, 2)
    assert hosts(torc, wf) == ["one", "two"]


def test_a_machine_is_taken_off_the_list_once(torc: Embedded, wf: int) -> None:
    (one,) = add(torc, wf, "one")
    torc.send(RemoveRemoteWorker(workflow_id=wf, worker_id=one.id))
    assert hosts(torc, wf) == []
    with pytest.raises(NotFound) as raised:
        torc.send(RemoveRemoteWorker(workflow_id=wf, worker_id=one.id))
    assert "torc remote list-workers" in (raised.value.hint or "")


def test_a_machine_of_another_workflow_is_not_taken_off(torc: Embedded, wf: int) -> None:
    (one,) = add(torc, wf, "one")
    other = workflow(torc, "a", name="other")
    with pytest.raises(NotFound, match=f"workflow {other} has no remote worker {one.id}"):
        torc.send(RemoveRemoteWorker(workflow_id=other, worker_id=one.id))
    assert hosts(torc, wf) == ["one"]


def test_lists_come_in_pages(torc: Embedded, wf: int) -> None:
    add(torc, wf, *(f"node{n}" for n in range(5)))
    page = torc.send(ListRemoteWorkers(workflow_id=wf, limit=3))
    rest = torc.send(ListRemoteWorkers(workflow_id=wf, limit=3, cursor=page.cursor))
    assert [w.host for w in page.items + rest.items] == [f"node{n}" for n in range(5)] and rest.cursor is None


def test_changes_of_the_list_are_events(torc: Embedded, wf: int) -> None:
    (one,) = add(torc, wf, "one")
    torc.send(RemoveRemoteWorker(workflow_id=wf, worker_id=one.id))
    kinds = [event.type for event in torc.send(ListEvents(workflow_id=wf)).items]
    assert kinds[-2:] == ["remote_worker_created", "remote_worker_deleted"]


def test_a_list_stays_when_an_edited_spec_is_brought_in(torc: Embedded, wf: int) -> None:
    machines = add(torc, wf, "one", num_cpus=3)
    edited = json.dumps(spec("a", "b", slurm_schedulers=[{"name": "s", "account": "x"}]))
    asked = ReinitializeWorkflow(workflow_id=wf, spec=edited, format="json")
    assert torc.send(asked).result is not None
    assert torc.send(ReinitializeWorkflow(workflow_id=wf, spec=json.dumps(spec("a")), format="json")).result is not None
    assert torc.send(ListSlurmSchedulers(workflow_id=wf)).items == []
    assert torc.send(ListRemoteWorkers(workflow_id=wf)).items == machines


def test_a_list_goes_with_its_workflow(torc: Embedded, wf: int) -> None:
    (one,) = add(torc, wf, "one")
    torc.send(DeleteWorkflow(workflow_id=wf))
    with pytest.raises(NotFound):
        torc.send(RemoveRemoteWorker(workflow_id=wf, worker_id=one.id))


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "-oProxyCommand=evil"},
        {"host": "a b"},
        {"host": "a\n"},
        {"host": "a", "torc": "-c"},
        {"host": "a", "directory": "x\ny"},
        {"host": "a", "labels": {"a b": "c"}},
        {"host": "a", "num_cpus": 0},
        {"host": "a", "labels": {"a": "x\0"}},
        {"host": "a", "colour": "red"},
    ],
    ids=str,
)
def test_what_could_be_taken_for_something_else_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NewRemoteWorker.model_validate(fields)


def test_a_machine_may_not_be_named_twice() -> None:
    with pytest.raises(ValidationError, match="named twice"):
        AddRemoteWorkers(workflow_id=1, workers=[NewRemoteWorker(host="a"), NewRemoteWorker(host="a")])
