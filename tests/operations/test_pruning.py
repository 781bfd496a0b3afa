"""Old workflows are deleted: all that are meant, and no other."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.support.workflows import create, run_all, runner, spec
from torc.api.workflows import ArchiveWorkflow, ListWorkflows, PruneWorkflows
from torc.client.embedded import Embedded

DAY = 86400.0


def _make(torc: Embedded, name: str, days: float, *, run: bool = True) -> int:
    number = create(torc, spec("a", name=name)).id
    if run:
        run_all(torc, number)
    _age(torc, number, days)
    return number


def _age(torc: Embedded, number: int, days: float) -> None:
    """Let a workflow be older than it is: nobody waits for days."""
    older = text("UPDATE workflow SET ended_at = ended_at - :s, updated_at = updated_at - :s WHERE id = :id")
    with torc.store.dialect.begin_write(torc.store.engine) as db:
        db.execute(older, {"s": days * DAY, "id": number})


def _left(torc: Embedded) -> list[int]:
    return sorted(workflow.id for workflow in torc.send(ListWorkflows(include_archived=True)).items)


def test_what_is_old_goes_and_what_is_young_runs_or_was_interrupted_stays(torc: Embedded) -> None:
    old, young, idle = _make(torc, "a", 40), _make(torc, "b", 10), _make(torc, "c", 40, run=False)
    running = create(torc, spec("a", name="d")).id
    runner(torc, running)
    _age(torc, running, 40)
    request = PruneWorkflows(older_than_seconds=30 * DAY, dry_run=True)
    assert sorted(workflow.id for workflow in torc.send(request)) == [old, idle]
    assert _left(torc) == [old, young, idle, running]
    torc.send(request.model_copy(update={"dry_run": False}))
    assert _left(torc) == [young, running]
    assert torc.send(request) == []


def test_what_became_old_after_it_was_shown_stays(torc: Embedded) -> None:
    old, young = _make(torc, "a", 40), _make(torc, "b", 10)
    request = PruneWorkflows(older_than_seconds=30 * DAY, dry_run=True)
    shown = [workflow.id for workflow in torc.send(request)]
    _age(torc, young, 30)
    torc.send(request.model_copy(update={"dry_run": False, "only": shown}))
    assert (shown, _left(torc)) == ([old], [young])


def test_the_newest_of_each_name_can_be_kept(torc: Embedded) -> None:
    numbers = [_make(torc, "nightly", 100 - n) for n in range(4)]
    other = _make(torc, "weekly", 100)
    torc.send(PruneWorkflows(older_than_seconds=DAY, keep=2))
    assert _left(torc) == [*numbers[2:], other]


@pytest.mark.parametrize("archived", [True, False])
def test_only_what_was_archived_where_that_is_wanted(torc: Embedded, archived: bool) -> None:
    number = _make(torc, "a", 10)
    if archived:
        torc.send(ArchiveWorkflow(workflow_id=number))
        _age(torc, number, 10)
    torc.send(PruneWorkflows(older_than_seconds=DAY, archived_only=True))
    assert _left(torc) == ([] if archived else [number])
