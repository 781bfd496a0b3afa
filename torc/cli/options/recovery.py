"""The options by which failed jobs are recovered: shared by `torc recover` and `torc watch --recover`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import typer

MemoryMultiplier = Annotated[
    float,
    typer.Option(
        "--memory-multiplier", min=1.0, help="Factor on the memory that was used or requested, whichever is larger."
    ),
]
RuntimeMultiplier = Annotated[
    float,
    typer.Option(
        "--runtime-multiplier", min=1.0, help="Factor on the runtime that was used or requested, whichever is larger."
    ),
]
RetryUnknown = Annotated[bool, typer.Option("--retry-unknown", help="Include jobs that failed for an unknown reason.")]
Retry = Annotated[
    list[str] | None,
    typer.Option("--retry", metavar="CATEGORY", help="Include jobs that failed in this category; repeatable."),
]
MaxAttempts = Annotated[
    int, typer.Option("--max-attempts", min=1, help="Leave out jobs that have had this many attempts.")
]
MaxRetries = Annotated[
    int | None,
    typer.Option(
        "--max-retries",
        min=0,
        show_default=False,
        help="Most recoveries of this workflow; default: 3 for `torc watch`, otherwise no limit.",
    ),
]
MaxNodeHours = Annotated[
    float | None,
    typer.Option(
        "--max-node-hours", min=0.0, help="Budget in node-hours: groups that do not fit into it are left out."
    ),
]
NewBudget = Annotated[
    bool, typer.Option("--new-budget", help="Do not count what earlier recoveries of this workflow spent.")
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="GROUP", help="Only this group: CLASS/CATEGORY, CLASS, or '*/CATEGORY'; repeatable."
    ),
]
Skip = Annotated[list[str] | None, typer.Option("--skip", metavar="GROUP", help="Leave out this group; repeatable.")]
Hook = Annotated[
    str | None,
    typer.Option("--recovery-hook", help="Command to run before each recovery; if it fails, nothing is changed."),
]
Reason = Annotated[str | None, typer.Option("--reason", help="The reason to record in the workflow's event log.")]


@dataclass(frozen=True)
class CorrectionOptions:
    """What is changed, and for which jobs."""

    memory_multiplier: MemoryMultiplier = 1.5
    runtime_multiplier: RuntimeMultiplier = 1.4
    retry_unknown: RetryUnknown = False
    retry: Retry = None
    max_attempts: MaxAttempts = 10


@dataclass(frozen=True)
class BudgetOptions:
    """What may be spent."""

    max_retries: MaxRetries = None
    max_node_hours: MaxNodeHours = None
    new_budget: NewBudget = False


@dataclass(frozen=True)
class Choice:
    """Which groups of failed jobs are taken."""

    only: Only = None
    skip: Skip = None


def given(*groups: Choice | CorrectionOptions | BudgetOptions) -> list[str]:
    """Name the options that were given."""
    return [
        f"--{field.name.replace('_', '-')}"
        for group in groups
        for field in fields(group)
        if getattr(group, field.name) != field.default
    ]


def fields_of(choice: Choice, corrections: CorrectionOptions, budget: BudgetOptions) -> dict[str, Any]:
    """Return what was said, for a request; what was not is left to the request's defaults."""
    return {
        name: value
        for name, value in {**asdict(choice), **asdict(corrections), **asdict(budget)}.items()
        if value is not None
    }
