"""Find a workflow by id or name."""

from __future__ import annotations

from torc.api.base import Torc
from torc.api.workflows import GetWorkflow, ListWorkflows, Workflow
from torc.errors import NotFound
from torc.units import whole_number

#: marks a name that could also be an id
NAME_PREFIX = "name:"


def find_workflow(torc: Torc, named: int | str) -> Workflow | None:
    """Return the workflow with an id or, where there is none, the newest with that name; `name:2024` is always a name."""
    number = named if isinstance(named, int) else whole_number(named)
    if number is not None:
        try:
            return torc.send(GetWorkflow(workflow_id=number))
        except NotFound:
            if isinstance(named, int):
                return None
    names = [str(named)]
    if names[0].startswith(NAME_PREFIX):
        names.append(names[0].removeprefix(NAME_PREFIX))
    for name in names:
        found = torc.send(ListWorkflows(name=name, include_archived=True, limit=1)).items
        if found:
            return found[0]
    return None
