"""The seam between following a workflow and getting its work done: here, or in allocations of a cluster.

`watch` decides when there is something to do; hands do it. Not for deciding what is worth doing (`policy`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

#: how it went: the run came to its end or others go on with it; somebody else does it from now on (allocations that wait in a
#: queue); what is left is too large for all that there is; somebody stopped it
Work = Literal["ended", "begun", "stuck", "stopped"]


class NodeLimits(NamedTuple):
    """The most that one node can give to a job; None: nobody knows."""

    memory_bytes: int | None = None
    runtime_seconds: int | None = None


class Executor(Protocol):
    """What gets the due jobs of a workflow going.

    An implementation must bear being made anew at any time: what it has begun is in the store, never only in memory.
    """

    def limits(self) -> NodeLimits:
        """Return what a recovery may ask for at most."""
        ...

    def is_busy(self, workflow_id: int) -> bool:
        """Look after what was begun, and tell whether some of it is still to come.

        Runners that are known to have died are given up. Allocations that wait in a queue, or have started and whose runners
        have not spoken yet, are to come. Runners that the store knows of need not be told: `watch` sees them there.
        """
        ...

    def work(self, workflow_id: int) -> Work:
        """Get due jobs going; called when nobody works on them. May return at the end of the run, or as soon as it has begun."""
        ...
