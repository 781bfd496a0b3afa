"""How many jobs an account may have stored holds whoever stores how many at the same time."""

from __future__ import annotations

import json
import threading

from tests.support.stores import empty_postgres
from torc.api.users import CreateUser
from torc.api.workflows import CreateWorkflow
from torc.client.embedded import Embedded
from torc.errors import Forbidden
from torc.operations.transaction import Quota
from torc.store.engine import Store
from torc.workflow.access import Caller

_JOB = {"name": "j{i}", "command": "true", "parameters": {"i": "1:60"}}


def test_several_at_once_store_no_more_jobs_than_one_account_may_have(postgres_store: Store) -> None:
    user = empty_postgres(postgres_store).send(CreateUser(name="ada", password="a long password"))
    server = Embedded(postgres_store, "server", Quota(max_jobs=100))
    caller = Caller("user:ada", "192.0.2.1", account_id=user.id)
    request = CreateWorkflow(spec=json.dumps({"name": "w", "jobs": [_JOB]}), format="json", directory="/")
    barrier, made, refused = threading.Barrier(5), list[int](), list[str]()

    def create() -> None:
        prepared = server.prepare(request, caller)
        barrier.wait(30)
        try:
            made.append(server.answer(request, caller=caller, check=None, prepared=prepared).id)
        except Forbidden as error:
            refused.append(error.message)

    threads = [threading.Thread(target=create) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 4)
    assert all("room for 40 more" in said for said in refused)
