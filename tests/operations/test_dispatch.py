"""Every request has exactly one function that answers it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from tests.support.workflows import finish, get, run_all, states, workflow
from torc.api.registry import REQUESTS
from torc.client.embedded import Embedded
from torc.operations.dispatch import HANDLERS
from torc.operations.handlers import load, module_of
from torc.operations.transaction import Tx
from torc.workflow.access import Rights


def test_every_request_is_answered_where_it_is_looked_for() -> None:
    for kind in REQUESTS.values():
        load(kind)
    assert set(HANDLERS) == set(REQUESTS.values())
    assert {kind.__name__: HANDLERS[kind].__module__ for kind in HANDLERS} == {
        kind.__name__: module_of(kind) for kind in REQUESTS.values()
    }


@pytest.mark.usefixtures("processes")
def test_a_command_imports_what_it_asks_for_alone(tmp_path: Path) -> None:
    program = (
        "import sys; from torc.client.connect import connect; from torc.api.workflows import ListWorkflows; "
        "connect().send(ListWorkflows()); "
        "print(*sorted(name for name in sys.modules if name.startswith(('torc.api.', 'torc.operations.'))))"
    )
    run = [sys.executable, "-c", program]
    loaded = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert "torc.operations.workflows" in loaded
    assert not {
        "torc.operations.creation",
        "torc.operations.planning",
        "torc.api.registry",
        "torc.api.allocations",
    } & set(loaded)


def test_the_vocabulary_runs_a_workflow(torc: Embedded) -> None:
    wf = workflow(torc, "a b -> c", "c -> d")
    finish(torc, wf, "a")
    assert states(torc, wf) == "a:completed b:ready c:blocked d:blocked"
    assert run_all(torc, wf).state == "completed"
    assert get(torc, wf).counts.total == 4


def test_rights_are_added_to_a_transaction_and_nothing_of_it_is_lost() -> None:
    filled = {field.name: object() for field in fields(Tx)}
    tx = Tx(**filled)
    rights = Rights("ada", 1, is_admin=False, scope="read")
    assert tx.with_rights(rights) == replace(tx, rights=rights)
