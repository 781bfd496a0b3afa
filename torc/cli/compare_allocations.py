"""What `torc submit --dry-run` says of one large allocation against many small ones: when the scheduler foresees that each begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torc.cli import allocation_plan
from torc.errors import Invalid, TorcError


def compared(work: Any) -> list[dict[str, Any]]:
    """Set a plan against the same work in one allocation, or in many; nothing where there is no choice or no estimate.

    Small ones begin one by one as nodes become free, so that the first one counts; a large one waits for all of its nodes.
    """
    starts: Mapping[str, float | None] | None = work.starts
    if work.plan is None or not starts:
        return []
    options = replace(work.options, single_allocation=not work.options.single_allocation, num_allocations=None)
    other = _planned(work, options)
    if other is None or _shape(other) == _shape(work.plan):
        return []
    option = "--single-allocation" if options.single_allocation else "--many-allocations"
    requests = allocation_plan.requests_of(other, work.scheduler, work.cluster, options, work.name, work.defaults)
    planned = {"option": None, **_figures(work.plan), "starts_at": _latest(starts), "refused": None}
    found = {"option": option, **_figures(other), "starts_at": None, "refused": None}
    try:
        asked = allocation_plan.starts(requests, work.writer())
    except Invalid as error:
        found["refused"] = str(error.details.get("words") or error.message)
    except TorcError:
        return []
    else:
        found["starts_at"] = _latest(asked)
    return [planned, found]


def show(found: list[dict[str, Any]], label: str) -> None:
    """Print a comparison in two lines; `label` is what the scheduler is called."""
    for item in found:
        name = "as planned" if item["option"] is None else f"with {item['option']}"
        print(f"{name}, {_of(item)}: {_when(item, label)}")


def _planned(work: Any, options: Any) -> Any:
    from torc.schedulers.allocation_planning import plan

    try:
        made = plan(work.demand, work.cluster, options, taken=work.taken)
    except Invalid:
        return None
    return None if made.refused else made


def _now(made: Any) -> list[Any]:
    return [planned for planned in made.allocations if planned.stage == 0]


def _shape(made: Any) -> list[tuple[int, int]]:
    return sorted((planned.num_allocations, planned.num_nodes) for planned in _now(made))


def _figures(made: Any) -> dict[str, Any]:
    now = _now(made)
    return {
        "num_allocations": sum(planned.num_allocations for planned in now),
        "num_nodes": max(planned.num_nodes for planned in now),
        "node_hours": sum(planned.node_hours for planned in now),
    }


def _latest(starts: Mapping[str, float | None]) -> float | None:
    known = [at for at in starts.values() if at is not None]
    return max(known) if len(known) == len(starts) else None


def _of(item: dict[str, Any]) -> str:
    allocations = f"{item['num_allocations']} allocation{'' if item['num_allocations'] == 1 else 's'}"
    nodes = f"{item['num_nodes']} node{'' if item['num_nodes'] == 1 else 's'}"
    return f"{allocations} of {nodes} (at most {item['node_hours']:.1f} node-hours)"


def _when(item: dict[str, Any], label: str) -> str:
    if item["refused"] is not None:
        return f"{label} would refuse it: {item['refused']}"
    what = "the first begins" if item["num_allocations"] > 1 else "it begins"
    if item["starts_at"] is None:
        return f"{label} does not foresee when"
    return f"{what} {allocation_plan.when(item['starts_at'])}"
