"""What to give jobs of one class that ran out of memory or time, and the reason in words.

Jobs are considered individually and grouped by need, so that a giant does not raise the request of the others. Whether they are
retried is decided by `torc.operations.recovery`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from torc.failures.resource_adjustment import alike, more_memory, more_time
from torc.units import human_bytes, human_duration

#: a peak of at least this share of the request was cut off there: what the job needed is unknown
_NEARLY = 0.9


class ScarceResource(NamedTuple):
    """A resource that jobs run out of, and how to describe it."""

    remedy: Literal["more memory", "more time"]
    field: Literal["memory_bytes", "runtime_seconds"]
    more: Callable[[int, float, float], int]  # given the request, the use, and a factor
    shown: Callable[[float], str]
    why: Callable[[int, Sequence[float]], str]
    is_largest: str  # describes an amount that is the maximum available
    none_is_larger: str


class ResourceRaise(NamedTuple):
    """Jobs that get the same amount; `members` are their input positions."""

    members: list[int]
    amount: int
    reason: str


def raises(
    scarce: ScarceResource, asked: int, used: Sequence[float], *, factor: float, most: int | None
) -> tuple[list[ResourceRaise], list[int]]:
    """Return the raises that help jobs with equal requests and these uses, and the jobs that nothing helps.

    `most`: the largest amount that any node or partition has; None if unknown.
    """
    wanted: dict[int, int] = {}
    helpless = []
    for at, amount in enumerate(used):
        more = scarce.more(asked, amount, factor)
        if most is None or more <= most:
            wanted[at] = more
        elif most > max(asked, amount):
            wanted[at] = most
        else:
            helpless.append(at)
    places, found = list(wanted), []
    for part in alike([float(amount) for amount in wanted.values()]):
        members = sorted(places[at] for at in part)
        given = max(wanted[at] for at in members)
        reason = scarce.why(asked, [used[at] for at in members])
        capped = f"; {scarce.shown(given)} {scarce.is_largest}" if given == most else ""
        found.append(ResourceRaise(members, given, reason + capped))
    return found, helpless


def beyond(scarce: ScarceResource, most: int) -> str:
    """Return why nothing helps jobs that would need more than there is."""
    return scarce.none_is_larger.format(scarce.shown(most))


def _why_memory(asked: int, peaks: Sequence[float]) -> str:
    """Describe what was measured, with counts if it is not the same for all jobs."""
    of = human_bytes(asked)
    kinds = (
        ([peak for peak in peaks if peak > asked], "used up to {} of {}"),
        ([peak for peak in peaks if _NEARLY * asked <= peak <= asked], "used up to {} of {}, where they were cut off"),
        ([peak for peak in peaks if 0 < peak < _NEARLY * asked], "used {} of {} when last measured"),
        ([peak for peak in peaks if not peak], "ended before their use of {1} was measured"),
    )
    said = [(len(those), words.format(human_bytes(max(those)), of)) for those, words in kinds if those]
    return f"they {said[0][1]}" if len(said) == 1 else "; ".join(f"{number} {words}" for number, words in said)


def _why_time(asked: int, walls: Sequence[float]) -> str:
    return f"they ran up to {human_duration(max(1, *walls))} of {human_duration(asked)}"


MEMORY = ScarceResource(
    "more memory",
    "memory_bytes",
    more_memory,
    human_bytes,
    _why_memory,
    "is as much as the largest node has",
    "no runner or partition has more memory than they requested or used (at most {}): "
    "reduce their use, or find a larger node",
)
TIME = ScarceResource(
    "more time",
    "runtime_seconds",
    more_time,
    human_duration,
    _why_time,
    "is the longest that there is",
    "no partition lets them run longer ({}): save the work and resume from there, or make them smaller",
)
