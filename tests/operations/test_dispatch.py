"""Every request has exactly one function that answers it."""

from __future__ import annotations

from tests.support.workflows import finish, get, run_all, states, workflow
from torc.api import REQUESTS
from torc.client.embedded import Embedded
from torc.operations.dispatch import HANDLERS


def test_every_request_is_answered() -> None:
    assert set(HANDLERS) == set(REQUESTS.values())


def test_the_vocabulary_runs_a_workflow(torc: Embedded) -> None:
    wf = workflow(torc, "a b -> c", "c -> d")
    finish(torc, wf, "a")
    assert states(torc, wf) == "a:completed b:ready c:blocked d:blocked"
    assert run_all(torc, wf).state == "completed"
    assert get(torc, wf).counts.total == 4
