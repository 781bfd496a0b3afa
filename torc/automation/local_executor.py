"""Runs due jobs on this machine, with a runner in this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torc.api.base import Torc
from torc.api.workflows import GetWorkflow, Workflow
from torc.automation.executor import NodeLimits, Work
from torc.runner import dead_runners, hardware
from torc.runner.local_run import RunOptions, run_here

Display = Callable[[Workflow], AbstractContextManager[Callable[[Any], None] | None]]


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    torc: Torc
    options: RunOptions
    display: Display  # returns a callback that displays the runner while it works

    def limits(self) -> NodeLimits:
        """Return this machine's capacity for jobs."""
        return NodeLimits(self.options.memory_bytes or hardware.node()[0].memory_bytes)

    def is_busy(self, workflow_id: int) -> bool:
        """Give up dead runners of this machine; nothing else is expected."""
        dead_runners.give_up_dead_runners(
            self.torc, workflow_id, hardware.identity(), self.options.output_dir.absolute()
        )
        return False

    def work(self, workflow_id: int) -> Work:
        """Run due jobs until none is left that can run."""
        with self.display(self.torc.send(GetWorkflow(workflow_id=workflow_id))) as on_update:
            outcome = run_here(self.torc, workflow_id, self.options, on_update)
        if outcome.was_stopped:
            return "stopped"
        return "stuck" if outcome.is_stuck else "ended"
