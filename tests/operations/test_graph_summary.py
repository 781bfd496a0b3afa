"""Outlines: small workflows as they are drawn, large ones counted in the store, and both alike."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workflows import create, finish, run_all, workflow
from torc.api.workflows import Outline, OutlineWorkflow
from torc.client.embedded import Embedded
from torc.errors import NotFound
from torc.operations import graph_summary


def parts(found: Outline) -> list[tuple[str, int, dict[str, int]]]:
    return [
        (part.label, part.stage, {state.value: count for state, count in part.states.items()}) for part in found.parts
    ]


def test_a_small_workflow_is_drawn_job_by_job(torc: Embedded) -> None:
    wf = workflow(torc, "a b -> c")
    found = torc.send(OutlineWorkflow(workflow_id=wf))
    assert sorted(parts(found)) == [("a", 0, {"ready": 1}), ("b", 0, {"ready": 1}), ("c", 1, {"blocked": 1})]
    assert found.is_exact
    assert len(found.edges) == 2
    assert all(found.parts[target].label == "c" for _, target in found.edges)
    run_all(torc, wf)
    assert {part.label: part.num_jobs for part in torc.send(OutlineWorkflow(workflow_id=wf)).parts} == {
        "a": 1,
        "b": 1,
        "c": 1,
    }
    with pytest.raises(NotFound):
        torc.send(OutlineWorkflow(workflow_id=99))


SWEEP: dict[str, Any] = {
    "name": "sweep",
    "parameters": {"i": "1:6"},
    "jobs": [
        {"name": "prepare", "command": "true"},
        {"name": "train_{i}", "command": "true", "use_parameters": ["i"], "depends_on": ["prepare"]},
        {"name": "test_{i}", "command": "true", "use_parameters": ["i"], "depends_on": ["train_{i}"]},
        {"name": "report", "command": "true", "depends_on": [f"test_{i}" for i in range(1, 7)]},
    ],
}


def test_a_large_workflow_is_counted_by_how_names_begin(torc: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_summary, "MOST_JOBS_DRAWN", 5)
    wf = create(torc, SWEEP).id
    finish(torc, wf, "prepare")
    found = torc.send(OutlineWorkflow(workflow_id=wf))
    assert parts(found) == [
        ("prepare", 0, {"completed": 1}),
        ("train_*", 1, {"ready": 6}),
        ("test_*", 2, {"blocked": 6}),
        ("report", 3, {"blocked": 1}),
    ]
    assert (found.edges, found.is_exact) == ([(0, 1), (1, 2), (2, 3)], False)


def test_of_names_that_have_nothing_in_common_classes_are_counted(
    torc: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_summary, "MOST_JOBS_DRAWN", 5)
    named = [
        {"name": f"{chr(97 + n % 26)}x{n}y", "command": "true", "resource_requirements": "small"} for n in range(60)
    ]
    last = {"name": "last", "command": "true", "depends_on": [job["name"] for job in named]}
    wf = create(
        torc, {"name": "many", "jobs": [*named, last], "resource_requirements": [{"name": "small", "memory": "1g"}]}
    ).id
    found = torc.send(OutlineWorkflow(workflow_id=wf))
    assert [(label, sum(states.values())) for label, _, states in parts(found)] == [("small", 60), ("default", 1)]
    assert found.edges == [(0, 1)]
