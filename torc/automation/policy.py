"""What an automatic recovery may do and spend. What it has spent is computed from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torc.api.recovery import RecoverWorkflow
from torc.automation.executor import NodeLimits
from torc.failures.categories import Category

#: the name under which the store counts these recoveries
AUTOMATION = "watch"
DEFAULT_MAX_RETRIES = 3


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """How to recover, and the budget: `max_retries` rounds and `max_node_hours` since the budget started."""

    memory_multiplier: float = 1.5
    runtime_multiplier: float = 1.4
    retry_unknown: bool = False
    retry: Sequence[Category] = ()
    max_attempts: int = 10
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    max_retries: int = DEFAULT_MAX_RETRIES
    max_node_hours: float | None = None
    new_budget: bool = False
    reason: str | None = None

    def request(
        self, workflow_id: int, limits: NodeLimits, *, mark: str | None = None, new_budget: bool = False
    ) -> RecoverWorkflow:
        """Return the request for a recovery within the budget: a dry run without `mark`, otherwise the real one."""
        return RecoverWorkflow(
            workflow_id=workflow_id,
            memory_multiplier=self.memory_multiplier,
            runtime_multiplier=self.runtime_multiplier,
            retry_unknown=self.retry_unknown,
            retry=list(self.retry),
            max_attempts=self.max_attempts,
            only=list(self.only),
            skip=list(self.skip),
            max_retries=self.max_retries,
            max_node_hours=self.max_node_hours,
            new_budget=new_budget,
            max_memory_bytes=limits.memory_bytes,
            max_runtime_seconds=limits.runtime_seconds,
            reason=self.reason,
            automation=AUTOMATION,
            mark=mark,
            dry_run=mark is None,
        )
