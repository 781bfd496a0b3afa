"""Large workflows made over the network: other people's runners are answered meanwhile, and nobody makes more than they may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tests.server.conftest import Http
from tests.support.accounts import People
from tests.support.serving import Door
from tests.support.stores import check_all
from tests.support.workflows import exchange, runner, workflow
from torc.api.jobs import CreateJob, ListJobs
from torc.api.workflows import CreateWorkflow, DeleteWorkflow, GetWorkflow, ListWorkflows, ReinitializeWorkflow
from torc.client.embedded import Embedded
from torc.client.remote import Remote
from torc.errors import Forbidden, Invalid, Unavailable
from torc.server.authentication import Accounts
from torc.server.concurrency import AccountLimits
from torc.store.engine import Store

pytestmark = pytest.mark.usefixtures("large")


def large(num_jobs: int) -> CreateWorkflow:
    """A spec of some 120 bytes."""
    job = {"name": "j{i}", "command": "true", "use_parameters": ["i"]}
    spec = {"name": "big", "parameters": {"i": f"1:{num_jobs}"}, "jobs": [job]}
    return CreateWorkflow(spec=json.dumps(spec), format="json", directory="/tmp")


def being_stored(store: Store) -> int:
    with store.dialect.begin_read(store.engine) as db:
        return int(db.execute(text("SELECT count(*) FROM loading")).scalar_one())


def test_a_runner_of_another_workflow_is_answered_between_the_slices(door: Door) -> None:
    other = workflow(door, "a")
    runner_id = runner(door, other)
    maker = Remote(door.url)
    answered = 0
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(maker.send, large(100_000))
        while not making.done():
            before = being_stored(door.store)
            exchange(door, other, runner_id)
            if before and being_stored(door.store):  # it began and ended while the workflow was being stored
                answered += 1
                assert [found.id for found in door.send(ListWorkflows()).items] == [other] or making.done()
        made = making.result()
    maker.close()
    assert answered > 1
    assert made.counts.total == 100_000 and being_stored(door.store) == 0


def test_a_runner_of_another_workflow_is_answered_while_what_was_deleted_is_removed(door: Door) -> None:
    other = workflow(door, "a")
    runner_id = runner(door, other)
    made = door.send(large(100_000))
    door.send(DeleteWorkflow(workflow_id=made.id))
    answered = 0
    while being_stored(door.store):
        exchange(door, other, runner_id)
        answered += 1
        assert [found.id for found in door.send(ListWorkflows()).items] == [other]
    assert answered > 1
    with door.store.dialect.begin_read(door.store.engine) as db:
        assert db.execute(text("SELECT count(*) FROM job")).scalar_one() == 1


@pytest.fixture
def people(store_with_people: tuple[Embedded, People]) -> Iterator[tuple[People, Door]]:
    """Return people with accounts, and a server on which each may have 25,000 jobs and make one large workflow at a time."""
    opened, gathered = store_with_people
    door = Door(opened.store, Accounts(opened.store, owner_token="x" * 43), account_limits=AccountLimits(25_000, 1))
    yield gathered, door
    door.close()
    check_all(opened)
    opened.close()


def test_nobody_stores_more_jobs_than_they_may(people: tuple[People, Door]) -> None:
    gathered, door = people
    eve, wim = (Remote(door.url, token=gathered.token(name).token) for name in ("eve", "wim"))
    assert eve.send(large(20_000)).counts.total == 20_000
    for number in (5_001, 20_000, 4_000_000):  # the last of these is counted, and never made
        with pytest.raises(Forbidden, match="room for"):
            eve.send(large(number))
    assert eve.send(large(5_000)).counts.total == 5_000
    with pytest.raises(Forbidden, match="room for"):
        eve.send(large(1))
    assert wim.send(large(1)).counts.total == 1
    root = Remote(door.url, token=gathered.token("root", "admin").token)
    assert root.send(large(26_000)).counts.total == 26_000
    for torc in (eve, wim, root):
        torc.close()


def test_no_job_is_added_to_a_workflow_beyond_what_its_owner_may_have(people: tuple[People, Door]) -> None:
    gathered, door = people
    eve = Remote(door.url, token=gathered.token("eve").token)
    made = eve.send(large(24_999))
    assert eve.send(CreateJob(workflow_id=made.id, name="last", command="c")).name == "last"
    with pytest.raises(Forbidden, match="room for"):
        eve.send(CreateJob(workflow_id=made.id, name="one_more", command="c"))
    for number in (25_001, 1_000_000):
        edited = large(number)
        with pytest.raises(Forbidden, match="room for"):
            eve.send(ReinitializeWorkflow(workflow_id=made.id, spec=edited.spec, format="json", directory="/tmp"))
    # what it has already does not stand in the way of its edited spec
    edited = large(25_000)
    reply = eve.send(ReinitializeWorkflow(workflow_id=made.id, spec=edited.spec, format="json", directory="/tmp"))
    assert reply.result is not None and eve.send(GetWorkflow(workflow_id=made.id)).counts.total == 25_000
    eve.close()


def test_nobody_makes_more_large_workflows_at_a_time_than_they_may(people: tuple[People, Door]) -> None:
    gathered, door = people
    token = gathered.token("eve").token
    makers = [Remote(door.url, token=token, patience_seconds=0.0) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        replies = [pool.submit(maker.send, large(12_000)) for maker in makers]
        errors = [reply.exception() for reply in replies]
    assert sum(error is None for error in errors) >= 1
    for error in errors:
        assert error is None or (isinstance(error, Unavailable | Forbidden)), error
    assert any(isinstance(error, Unavailable) and "already being created" in error.message for error in errors)
    for maker in makers:
        maker.close()


def test_a_spec_that_makes_too_much_for_anybody_is_refused_before_it_is_made(http: Http) -> None:
    answer = http("POST", "/api/v1/workflows", json=large(10**12).model_dump(mode="json", exclude_unset=True))
    assert answer.status == 422 and "values" in answer.json()["detail"]


def test_a_spec_that_is_wrong_is_told_as_ever_however_large(door: Door) -> None:
    request = large(30_000)
    with pytest.raises(Invalid, match="not valid"):
        door.send(request.model_copy(update={"spec": request.spec.replace('"command"', '"comand"')}))
    assert door.send(ListWorkflows()).items == [] and being_stored(door.store) == 0
    made = door.send(large(11_000))
    assert len(door.send(ListJobs(workflow_id=made.id, limit=5)).items) == 5
