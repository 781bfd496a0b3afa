"""What a recovery that nobody looks at may do, and spend. What was spent is in the store: this is only what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torc.api.recovery import RecoverWorkflow
from torc.automation.executor import NodeLimits
from torc.failures.categories import Category

#: by this name the store knows whose rounds these are
AUTOMATION = "watch"
DEFAULT_MAX_RETRIES = 3


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """How to recover, and within which budget: `max_retries` rounds and `max_node_hours` since the budget began."""

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
        """Ask for a recovery within the budget: a proposal without `mark`, else that it is done."""
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
