"""Finds the scheduler that is meant: by the name that a spec, a plan or an allocation has for it, or by the commands that are here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple, cast

from torc.api.allocations import DueScheduling, ListAllocations, NewAllocation
from torc.api.base import Torc
from torc.api.data import ListSchedulers
from torc.errors import Invalid
from torc.planning.scheduler_types import DEFAULT_TYPE
from torc.schedulers.base import Scheduler


class _Package(NamedTuple):
    """Where a scheduler is. Only the one that is asked for is loaded."""

    backend: str  # module:class, a `Scheduler`
    command: str  # by which it is known to be here


_PACKAGES: Mapping[str, _Package] = {
    "slurm": _Package("torc.schedulers.slurm.backend:SlurmBackend", "sbatch"),
}


def scheduler(
    name: str | None = None,
    *,
    workflow_id: int = 0,
    program: tuple[str, ...] = ("torc",),
    directory: str = "/",
    output_dir: str = "/tmp",
    variables: Mapping[str, str] | None = None,
    patience: float | None = None,
) -> Scheduler:
    """Return a scheduler by its name, else the one here; what its scripts need of a workflow may be left out where none is written.

    `patience` is how long a busy cluster is asked again, in seconds. Raises Invalid.
    """
    name = name or here()
    if name not in _PACKAGES:
        raise Invalid(f"there is no scheduler `{name}`", hint=f"Torc knows {', '.join(_PACKAGES)}")
    module, _, what = _PACKAGES[name].backend.partition(":")
    factory = getattr(import_module(module), what)
    more = {} if patience is None else {"patience": patience}
    return cast(
        Scheduler,
        factory(
            workflow_id=workflow_id,
            program=program,
            directory=directory,
            output_dir=output_dir,
            variables=dict(variables or {}),
            **more,
        ),
    )


def here() -> str:
    """Return the name of the scheduler whose commands are on this machine; where none is, the one that is meant by default."""
    return next((name for name, package in _PACKAGES.items() if shutil.which(package.command)), DEFAULT_TYPE.name)


def type_of(allocation: NewAllocation) -> str:
    """Return the name of the scheduler that an allocation was asked of."""
    return str(allocation.request.get("type") or DEFAULT_TYPE.name)


def type_of_due(due: DueScheduling) -> str:
    """Return the name of the scheduler that an action asks."""
    return str(due.settings.get("scheduler_type") or DEFAULT_TYPE.name)


def type_of_workflow(torc: Torc, workflow_id: int) -> str:
    """Return the name of the scheduler that a workflow uses: that of its last allocation, of its spec, else the one here."""
    last = torc.send(ListAllocations(workflow_id=workflow_id, limit=1)).items
    if last:
        return type_of(last[0])
    described = torc.send(ListSchedulers(workflow_id=workflow_id, limit=1)).items
    return described[0].type if described else here()
