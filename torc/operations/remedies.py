"""What would help jobs of one class that failed alike: more memory or time, or another try. Nothing is changed here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import RowMapping

from torc.api.recovery import RecoverWorkflow
from torc.core.correction import alike, raised
from torc.core.diagnosis import Diagnosis
from torc.core.quantities import human_bytes, human_duration
from torc.core.resources import Capacity, ResourceRequest

Action = Literal["more memory", "more time", "again"]
#: from this share of what was asked for on, a peak was cut off there: what the job wanted is not known
_NEARLY = 0.9


class Failed(NamedTuple):
    """A job that failed, why, and what it used."""

    row: RowMapping
    found: Diagnosis

    @property
    def asked(self) -> ResourceRequest:
        """Give what it asked for."""
        return ResourceRequest(*(self.row[field] for field in ResourceRequest._fields))


class Limits(NamedTuple):
    """What no node or partition has more of; None: nobody knows."""

    memory_bytes: int | None
    runtime_seconds: int | None

    @classmethod
    def of(cls, largest: Capacity | None, request: RecoverWorkflow) -> Limits:
        """Give the most of what runners had and what the caller knows of."""
        memory = [bound for bound in (largest and largest.memory_bytes, request.max_memory_bytes) if bound]
        return cls(max(memory, default=None), request.max_runtime_seconds)


class Remedy(NamedTuple):
    """Jobs that are to run again in the same way. `gives` is what they are given, as a part of a key."""

    action: Action
    category: Any
    members: list[Failed]
    old: ResourceRequest
    new: ResourceRequest
    reason: str
    gives: str


def propose(
    members: Sequence[Failed], request: RecoverWorkflow, limits: Limits
) -> tuple[list[Remedy], Mapping[str, list[Failed]]]:
    """Propose for jobs of one class and category; what cannot be helped is given by the reason.

    Each job is looked at by itself, and those that need about as much go together: a giant does not raise the others.
    """
    remedy = members[0].found.remedy
    if remedy == "more memory":
        return _more_memory(members, request, limits.memory_bytes)
    if remedy == "more time":
        return _more_time(members, request, limits.runtime_seconds)
    found, asked = members[0].found, members[0].asked
    return [Remedy("again", found.category, list(members), asked, asked, found.what, "again")], {}


def _more_memory(
    members: Sequence[Failed], request: RecoverWorkflow, most: int | None
) -> tuple[list[Remedy], Mapping[str, list[Failed]]]:
    helped: list[tuple[Failed, int]] = []
    helpless: dict[str, list[Failed]] = defaultdict(list)
    for member in members:
        old, peak = member.asked, member.row["peak_memory_bytes"] or 0
        wanted = raised(old, memory_factor=request.memory_multiplier, peak_memory=peak).memory_bytes
        if most is not None and wanted > most and most <= max(old.memory_bytes, peak):
            has = f"no runner or partition has more memory than they asked for or used (at most {human_bytes(most)})"
            helpless[f"{has}: have them use less, or find a larger node"].append(member)
        else:
            helped.append((member, wanted if most is None else min(wanted, most)))
    made = []
    for part in alike([float(wanted) for _, wanted in helped]):
        those = [helped[at][0] for at in sorted(part)]
        old = those[0].asked
        new = old._replace(memory_bytes=max(helped[at][1] for at in part))
        capped = f"; {human_bytes(most)} is as much as the largest node has" if new.memory_bytes == most else ""
        reason = _why_memory(those, old) + capped
        made.append(
            Remedy(
                "more memory", those[0].found.category, those, old, new, reason, _plain(human_bytes(new.memory_bytes))
            )
        )
    return made, helpless


def _why_memory(members: Sequence[Failed], old: ResourceRequest) -> str:
    """Say what was measured, and what was made of it."""
    peak = max(member.row["peak_memory_bytes"] or 0 for member in members)
    asked = human_bytes(old.memory_bytes)
    if peak > old.memory_bytes:
        return f"they used up to {human_bytes(peak)} of {asked}"
    if peak >= _NEARLY * old.memory_bytes:
        return f"they used up to {human_bytes(peak)} of {asked}, where they were cut off"
    if peak:
        return f"{human_bytes(peak)} of {asked} is all that was measured before the memory was refused"
    return f"what they used of {asked} was not measured"


def _more_time(
    members: Sequence[Failed], request: RecoverWorkflow, most: int | None
) -> tuple[list[Remedy], Mapping[str, list[Failed]]]:
    helped: list[tuple[Failed, int]] = []
    helpless: dict[str, list[Failed]] = defaultdict(list)
    for member in members:
        old, wall = member.asked, member.row["wall_seconds"] or 0.0
        wanted = raised(old, runtime_factor=request.runtime_multiplier, wall_seconds=wall).runtime_seconds
        if most is not None and wanted > most and most <= old.runtime_seconds:
            has = f"no partition lets them run longer ({human_duration(most)})"
            helpless[f"{has}: save the work and go on from there, or make them smaller"].append(member)
        else:
            helped.append((member, wanted if most is None else min(wanted, most)))
    made = []
    for part in alike([float(wanted) for _, wanted in helped]):
        those = [helped[at][0] for at in sorted(part)]
        old = those[0].asked
        new = old._replace(runtime_seconds=max(helped[at][1] for at in part))
        wall = max(member.row["wall_seconds"] or 0.0 for member in those)
        capped = (
            f"; {human_duration(most)} is the longest that there is" if most and new.runtime_seconds == most else ""
        )
        reason = f"they ran up to {human_duration(max(1, int(wall)))} of {human_duration(old.runtime_seconds)}{capped}"
        gives = _plain(human_duration(new.runtime_seconds))
        made.append(Remedy("more time", those[0].found.category, those, old, new, reason, gives))
    return made, helpless


def _plain(text: str) -> str:
    return text.replace(" ", "")
