"""Prerequisites as gates: each distinct set of prerequisite jobs once, so that M jobs before N jobs cost M + N.

Not for opening gates: that is `progress` in memory and `torc.store.gates` on rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

#: Sets larger than this are recognised by identity first. Smaller ones are looked up faster than remembered.
_WORTH_REMEMBERING = 16


def build_gates(prerequisites: Iterable[Collection[int]]) -> tuple[list[tuple[int, ...]], list[int | None]]:
    """Return (gates, gate of each job) from the prerequisites of each job, in order of jobs.

    A gate is a sorted tuple of distinct job indexes, never empty; a job without prerequisites has gate None. Gates are
    numbered by the first job that waits for them. Jobs that share one tuple or frozenset object are recognised without
    looking into it: 1,000 jobs that share one tuple of 1,000 take 2,000 steps.
    """
    gates: list[tuple[int, ...]] = []
    gate_of: list[int | None] = []
    by_members: dict[tuple[int, ...], int] = {}
    # The object is kept beside its gate: while it lives, nothing else can have its id. Only what cannot change is kept.
    by_identity: dict[int, tuple[Collection[int], int]] = {}
    for members in prerequisites:
        if not members:
            gate_of.append(None)
            continue
        known = by_identity.get(id(members))
        if known is not None:
            gate_of.append(known[1])
            continue
        key = _normalised(members)
        gate = by_members.setdefault(key, len(gates))
        if gate == len(gates):
            gates.append(key)
        if len(members) > _WORTH_REMEMBERING and isinstance(members, tuple | frozenset):
            by_identity[id(members)] = (members, gate)
        gate_of.append(gate)
    return gates, gate_of


def _normalised(members: Collection[int]) -> tuple[int, ...]:
    if len(members) == 1:
        return members if isinstance(members, tuple) else tuple(members)
    ordered = tuple(sorted(set(members)))
    return members if isinstance(members, tuple) and members == ordered else ordered
