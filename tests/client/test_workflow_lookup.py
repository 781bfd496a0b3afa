"""Which workflow is meant."""

from __future__ import annotations

import pytest

from tests.support.workflows import create, spec
from torc.api.base import Torc
from torc.client.workflow_lookup import find_workflow


def test_an_id_is_an_id_and_a_number_may_be_a_name(torc: Torc) -> None:
    first = create(torc, spec("a", name="x") | {"name": "2024"}).id
    second = create(torc, spec("a") | {"name": str(first)}).id
    for named, meant in ((first, first), (str(first), first), ("2024", first), ("name:2024", first)):
        found = find_workflow(torc, named)
        assert found is not None and found.id == meant, named
    found = find_workflow(torc, f"name:{first}")
    assert found is not None and found.id == second


@pytest.mark.parametrize("named", ["²", "9" * 30, "-1", "", "name:", "none of that name", 10**9])
def test_what_does_not_exist_is_not_found(torc: Torc, named: str | int) -> None:
    assert find_workflow(torc, named) is None
