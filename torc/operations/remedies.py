"""What would help jobs of one class that failed in the same way: more memory or time, or another attempt. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sqlalchemy import RowMapping

from torc.api.recovery import RecoverWorkflow
from torc.failures.categories import Category
from torc.failures.diagnosis import FailureDiagnosis
from torc.failures.shortage import MEMORY, TIME, ScarceResource, beyond, raises
from torc.operations.row_mapping import request_of
from torc.workflow.resources import Capacity, ResourceRequest

Action = Literal["more memory", "more time", "again"]
#: what jobs ran out of, where it is written what they used of it, and by how much a caller wants it raised
_SCARCE: Mapping[str, tuple[ScarceResource, str, str]] = {
    MEMORY.remedy: (MEMORY, "peak_memory_bytes", "memory_multiplier"),
    TIME.remedy: (TIME, "wall_seconds", "runtime_multiplier"),
}


class FailedAttempt(NamedTuple):
    """A job that failed, why, and what it used."""

    row: RowMapping
    found: FailureDiagnosis

    @property
    def asked(self) -> ResourceRequest:
        """Return what it asked for."""
        return request_of(self.row)


class ResourceLimits(NamedTuple):
    """What no node or partition has more of; None: nobody knows."""

    memory_bytes: int | None
    runtime_seconds: int | None

    @classmethod
    def of(cls, largest: Capacity | None, request: RecoverWorkflow) -> ResourceLimits:
        """Return the most of what runners had and what the caller knows of."""
        memory = [bound for bound in (largest and largest.memory_bytes, request.max_memory_bytes) if bound]
        return cls(max(memory, default=None), request.max_runtime_seconds)


class Remedy(NamedTuple):
    """Jobs that will run again in the same way. `gives` is the new amount, as a part of a key."""

    action: Action
    category: Category
    members: list[FailedAttempt]
    old: ResourceRequest
    new: ResourceRequest
    reason: str
    gives: str


def propose(
    members: Sequence[FailedAttempt], request: RecoverWorkflow, limits: ResourceLimits
) -> tuple[list[Remedy], Mapping[str, list[FailedAttempt]]]:
    """Propose for jobs of one class and category; what cannot be helped is given by the reason."""
    found, asked = members[0].found, members[0].asked
    if found.remedy not in _SCARCE:
        return [Remedy("again", found.category, list(members), asked, asked, found.what, "again")], {}
    scarce, column, multiplier = _SCARCE[found.remedy]
    most = getattr(limits, scarce.field)
    groups, helpless = raises(
        scarce,
        getattr(asked, scarce.field),
        [member.row[column] or 0 for member in members],
        factor=getattr(request, multiplier),
        most=most,
    )
    made = [
        Remedy(
            scarce.remedy,
            found.category,
            [members[at] for at in group.members],
            asked,
            asked._replace(**{scarce.field: group.amount}),
            group.reason,
            scarce.shown(group.amount).replace(" ", ""),
        )
        for group in groups
    ]
    return made, {beyond(scarce, most): [members[at] for at in helpless]} if helpless else {}
