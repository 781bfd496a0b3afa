"""Prerequisites as gates: each distinct set of prerequisite jobs is stored once, so a barrier of M jobs before N jobs costs M + N.

A job has at most one gate. A gate counts the members that have not finished yet. It opens when the count reaches zero, and all jobs
that wait for it become ready together; a member that must run again is counted on again and shuts it. With plain edges the same
barrier would cost M * N, both in storage and with each finished job. Counting is done by `progress` in memory and by
`torc.store.gates` in the database; this module only finds the distinct sets.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

#: Larger sets are first compared by identity. Smaller ones are faster to look up than to remember.
_WORTH_REMEMBERING = 16


def build_gates(prerequisites: Iterable[Collection[int]]) -> tuple[list[tuple[int, ...]], list[int | None]]:
    """Return (gates, gate of each job) from the prerequisites of each job, in job order.

    A gate is a sorted tuple of distinct job indexes, never empty; a job without prerequisites has gate None. Gates are
    numbered by the first job that waits for them. A tuple or frozenset shared by many jobs is examined only once: 1,000 jobs
    that share one tuple of 1,000 take 2,000 steps.
    """
    gates: list[tuple[int, ...]] = []
    gate_of: list[int | None] = []
    by_members: dict[tuple[int, ...], int] = {}
    # The object is kept with its gate, because its id cannot be reused while it lives. Only immutable objects are kept.
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
