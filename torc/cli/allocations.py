"""The allocations of workflows, for commands that are about more than one scheduler: each is asked of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from torc.api.allocations import Allocation, ListAllocations
from torc.api.base import Torc
from torc.api.workflows import GetWorkflow, Workflow
from torc.cli import rendering
from torc.cli.session import SESSION
from torc.errors import Forbidden, Invalid, Unavailable

_MOST_TOLD = 8
#: what was seen in the last seconds is shown as it is
_FRESH_SECONDS = 10.0


def refresh(opened: Torc, numbers: Sequence[int]) -> bool:
    """Look at the cluster, when some of the allocations were not seen of late, or are about to end; tells whether it did."""
    due = [number for number in numbers if _is_stale(opened, number)]
    if not due:
        return False
    from torc.schedulers.polling import poll_all

    try:
        poll_all(opened, due, patience=0.0)
    except (
        Forbidden,
        Invalid,
        Unavailable,
    ) as error:  # who may look at a workflow may not note what its allocations do
        rendering.note(f"as last seen: {error.message}")
        return False
    return True


def _is_stale(opened: Torc, number: int) -> bool:
    open_ = opened.send(ListAllocations(workflow_id=number, active_only=True, limit=1000)).items
    is_over = opened.send(GetWorkflow(workflow_id=number)).ended_at is not None
    return is_over or any((item.seen_at or item.created_at) <= time.time() - _FRESH_SECONDS for item in open_)


def show_allocations(
    items: Sequence[Allocation],
    *,
    more: bool = False,
    empty: str = "no allocations",
    places: Mapping[str, object] | None = None,
) -> None:
    """Print allocations, one a line."""
    columns: list[rendering.Column] = [
        ("id", lambda item: item.id),
        ("job", lambda item: item.cluster_job_id or ""),
        ("scheduler", lambda item: item.scheduler or ""),
        ("nodes", lambda item: item.num_nodes),
        ("walltime", lambda item: rendering.duration(item.walltime_seconds)),
        (
            "state",
            lambda item: item.state.value if item.state.value != "ended" else f"ended {item.cluster_state or ''}",
        ),
        ("since", _since),
        ("where, or why it waits", lambda item: _where(item, places)),
    ]
    rendering.show_list(items, columns, empty=empty, more=more)


def _since(item: Allocation) -> str:
    at = item.ended_at or item.started_at or item.submitted_at or item.created_at
    return rendering.duration(max(0.0, float(int(time.time() - at))))


def _where(item: Allocation, places: Mapping[str, object] | None = None) -> str:
    if item.state.value == "running":
        return ", ".join(item.nodes)
    if item.cluster_state == "DEFERRED":
        return f"not accepted now; submitted again while the workflow is followed: {item.reason}"
    place = str((places or {}).get(item.cluster_job_id or "") or "")
    expected = f"expected {rendering.when(item.expected_start_at)}" if item.expected_start_at else ""
    return "; ".join(part for part in (item.reason, place, expected) if part)


def queue_positions(items: Sequence[Allocation]) -> Mapping[str, object]:
    """Ask for the places of those that wait in the queue; nothing where it cannot be asked from here."""
    waiting = [item for item in items if item.state.value == "pending" and item.cluster_job_id]
    if not waiting:
        return {}
    from torc.schedulers.base import Capability
    from torc.schedulers.registry import scheduler

    found: dict[str, object] = {}
    for name, group in _by_scheduler(waiting).items():
        asked = scheduler(name)
        if Capability.QUEUE_POSITION in asked.capabilities:
            try:
                found |= asked.queue_positions([item.cluster_job_id for item in group if item.cluster_job_id])
            except (Invalid, Unavailable):
                continue
    return found


def _by_scheduler(items: Iterable[Allocation]) -> dict[str, list[Allocation]]:
    from torc.schedulers.registry import type_of

    groups: dict[str, list[Allocation]] = {}
    for item in items:
        groups.setdefault(type_of(item), []).append(item)
    return groups


def cancel_all(opened: Torc, number: int) -> None:
    """Cancel the allocations of a workflow that was canceled; where the cluster cannot be told, say who will tell it."""
    open_ = open_allocations(opened, number)
    if not open_:
        return
    from torc.schedulers.polling import poll_all
    from torc.schedulers.registry import scheduler
    from torc.schedulers.submission import cancel

    made: list[Allocation] = []
    try:
        for name, group in _by_scheduler(open_).items():
            made += cancel(opened, number, scheduler(name), allocation_ids=[item.id for item in group])
        poll_all(opened, [number])
    except (Invalid, Unavailable) as error:
        rendering.note(f"allocations are marked to be cancelled, and still there: {error.message}")
        names = sorted(_by_scheduler(open_))
        rendering.note(f"on a login node of their cluster, `torc {names[0]} cancel {number}` ends them")
        return
    if made and not SESSION.json:
        print(f"cancelled {len(made)} allocation(s)")


def take_in_ends(opened: Torc, number: int) -> int:
    """Look at the cluster for the allocations of a workflow that are open; returns how many runners have ended with theirs."""
    if not opened.send(ListAllocations(workflow_id=number, active_only=True, limit=1)).items:
        return 0
    from torc.schedulers.polling import poll_all

    return poll_all(opened, [number]).runners_ended


def open_allocations(opened: Torc, number: int) -> list[Allocation]:
    """Return the allocations of a workflow that have not ended."""
    return opened.send(ListAllocations(workflow_id=number, active_only=True, limit=10_000)).items


def shown_state(workflow: Workflow, allocations: Sequence[Allocation]) -> str:
    """Return the state of a workflow for people: what is not begun, or was interrupted, may only wait for its allocations."""
    if workflow.state not in {"interrupted", "idle"} or workflow.ended_at is not None or not allocations:
        return str(workflow.state)
    from torc.schedulers.follow import is_to_come

    return "waits for allocations" if any(map(is_to_come, allocations)) else str(workflow.state)


def summary_lines(opened: Torc, number: int) -> list[str]:
    """Return what `torc status` says of the allocations of a workflow that have not ended."""
    items = open_allocations(opened, number)
    lines = []
    places = queue_positions(items[:_MOST_TOLD])
    for item in items[:_MOST_TOLD]:
        size = (
            f"{item.num_nodes} node{'s' if item.num_nodes > 1 else ''} for {rendering.duration(item.walltime_seconds)}"
        )
        where = _where(item, places)
        lines.append(
            f"allocation {item.id} (job {item.cluster_job_id or '-'}): {item.state.value}, {size}{': ' + where if where else ''}"
        )
    if len(items) > _MOST_TOLD:
        lines.append(f"and {len(items) - _MOST_TOLD} more: torc {sorted(_by_scheduler(items))[0]} list {number}")
    return lines
