"""The interface between following a workflow and running its jobs, here or in allocations of a cluster.

`watch` decides when there is something to do, and an executor does it. What is worth doing is decided by `policy`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

#: ended: the run has ended, or others continue it; begun: others do it from now on (allocations waiting in a queue); stuck: the
#: remaining jobs are too large for everything available; stopped: somebody stopped it
Work = Literal["ended", "begun", "stuck", "stopped"]


class NodeLimits(NamedTuple):
    """The most that one node can give to a job; None: unknown."""

    memory_bytes: int | None = None
    runtime_seconds: int | None = None


class Executor(Protocol):
    """Runs the due jobs of a workflow.

    An implementation may be recreated at any time: what it has started must be in the store, never only in memory.
    """

    def limits(self) -> NodeLimits:
        """Return the upper limits for a recovery's requests."""
        ...

    def is_busy(self, workflow_id: int) -> bool:
        """Take care of what was started, and return whether some of it is still expected.

        Runners known to have died are given up. Allocations in a queue, and started ones whose runners have not registered yet, are
        expected. Registered runners need not be reported: `watch` sees them in the store.
        """
        ...

    def work(self, workflow_id: int) -> Work:
        """Run due jobs; called when nobody works on them. May return at the end of the run, or as soon as it has started."""
        ...
