"""What `torc watch` does on a cluster: looks after allocations while it follows, and gets new ones when it recovers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from torc.api.base import Torc
from torc.cli.options.amounts import seconds

Automatic = Annotated[
    bool,
    typer.Option("--auto-schedule", help="On a cluster, add allocations for jobs that no open allocation can take."),
]
Threshold = Annotated[
    int,
    typer.Option("--auto-schedule-threshold", min=1, help="Add allocations at once if this many jobs are stranded."),
]
Cooldown = Annotated[str, typer.Option("--auto-schedule-cooldown", help="Shortest time between two such additions.")]
StrandedTimeout = Annotated[
    str,
    typer.Option(
        "--auto-schedule-stranded-timeout",
        help="Add allocations for fewer jobs after they have been stranded for this long.",
    ),
]


class AutoSchedule(NamedTuple):
    """When allocations are added for jobs that no open one can take."""

    threshold: int
    cooldown: str
    stranded_timeout: str


def is_on_cluster(opened: Torc, number: int) -> bool:
    """Return whether a workflow has allocations, or asks for some, or has schedulers and nobody who runs it here."""
    from torc.api.allocations import ListAllocations, ListDueScheduling

    if opened.send(ListAllocations(workflow_id=number, limit=1)).items:
        return True
    return bool(opened.send(ListDueScheduling(workflow_id=number)))


def hands_on_cluster(opened: Torc, number: int, folder: Path, automatic: AutoSchedule | None) -> Any:
    """Return the hands of the cluster for a recovery."""
    from torc.automation.scheduler_executor import SchedulerExecutor
    from torc.cli.cluster_access import scheduler_for, take_in_left
    from torc.schedulers.autoscaling import StrandedJobs

    cluster = scheduler_for(opened, number, folder)
    stranded = None
    if automatic is not None:
        stranded = StrandedJobs(
            opened,
            number,
            cluster,
            automatic.threshold,
            seconds(automatic.cooldown, "--auto-schedule-cooldown"),
            seconds(automatic.stranded_timeout, "--auto-schedule-stranded-timeout"),
        )
    return SchedulerExecutor(
        opened,
        cluster,
        stranded,
        before_looking=lambda each: take_in_left(opened, each, folder),
        log_folder=folder,
    )
