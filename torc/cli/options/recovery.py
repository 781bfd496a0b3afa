"""The options by which failed jobs are recovered: shared by `torc recover` and `torc watch --recover`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import typer

MemoryMultiplier = Annotated[
    float, typer.Option("--memory-multiplier", min=1.0, help="Times what was used, or asked for.")
]
RuntimeMultiplier = Annotated[float, typer.Option("--runtime-multiplier", min=1.0, help="Likewise, of time.")]
RetryUnknown = Annotated[bool, typer.Option("--retry-unknown", help="Also jobs of which nothing says why they failed.")]
Retry = Annotated[
    list[str] | None, typer.Option("--retry", metavar="CATEGORY", help="Also those of this category; repeat.")
]
MaxAttempts = Annotated[int, typer.Option("--max-attempts", min=1, help="Leave jobs that were tried so often.")]
MaxRetries = Annotated[
    int | None,
    typer.Option(
        "--max-retries", min=0, show_default=False, help="At most so many recoveries; `torc watch`: 3, else no bound."
    ),
]
MaxNodeHours = Annotated[
    float | None,
    typer.Option("--max-node-hours", min=0.0, help="Leave what would cost more than is left of so many node-hours."),
]
NewBudget = Annotated[
    bool, typer.Option("--new-budget", help="Do not count what earlier recoveries of this workflow have spent.")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="GROUP", help="Only this group: CLASS/CATEGORY, CLASS, or '*/CATEGORY'; repeat."),
]
Skip = Annotated[list[str] | None, typer.Option("--skip", metavar="GROUP", help="Not this group; repeat.")]
Hook = Annotated[
    str | None, typer.Option("--recovery-hook", help="A command to run before: its failure stops the recovery.")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the log of the workflow.")]


@dataclass(frozen=True)
class CorrectionOptions:
    """What is changed, and for which jobs."""

    memory_multiplier: MemoryMultiplier = 1.5
    runtime_multiplier: RuntimeMultiplier = 1.4
    retry_unknown: RetryUnknown = False
    retry: Retry = None
    max_attempts: MaxAttempts = 10


@dataclass(frozen=True)
class Budget:
    """What may be spent."""

    max_retries: MaxRetries = None
    max_node_hours: MaxNodeHours = None
    new_budget: NewBudget = False


@dataclass(frozen=True)
class Choice:
    """Which groups of failed jobs are taken."""

    only: Only = None
    skip: Skip = None


def given(*groups: Choice | CorrectionOptions | Budget) -> list[str]:
    """Name the options that were given."""
    return [
        f"--{field.name.replace('_', '-')}"
        for group in groups
        for field in fields(group)
        if getattr(group, field.name) != field.default
    ]


def fields_of(choice: Choice, corrections: CorrectionOptions, budget: Budget) -> dict[str, Any]:
    """Return what was said, for a request; what was not is left to the request's defaults."""
    return {
        name: value
        for name, value in {**asdict(choice), **asdict(corrections), **asdict(budget)}.items()
        if value is not None
    }
