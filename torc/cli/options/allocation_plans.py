"""The options by which allocations are planned: shared by `torc submit`, `torc slurm generate` and `torc slurm regenerate`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from torc.cli.session import SESSION
from torc.errors import Invalid
from torc.schedulers.allocation_planning import AllocationPlanOptions
from torc.schedulers.base import DescribedCluster, Scheduler

Account = Annotated[
    str | None,
    typer.Option("--account", "-A", help="Account to charge; default: the setting slurm.account, or Slurm's default."),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", help="Cluster to plan for: a profile (torc hpc list) or a file; default: this cluster."),
]
Partitions = Annotated[
    list[str] | None,
    typer.Option(
        "--partition",
        "-p",
        help="Use only this partition; repeatable. Default: the default partition, or else the smallest that fits.",
    ),
]
Qos = Annotated[str | None, typer.Option("--qos", help="Quality of service.")]
Constraint = Annotated[str | None, typer.Option("--constraint", help="Node features to require, as for sbatch.")]
GpuType = Annotated[
    str | None,
    typer.Option("--gpu-type", metavar="TYPE", help="Only GPUs of this type, such as h100 (torc hpc partitions)."),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        metavar="resource-requirements|partition",
        help="Which jobs share allocations: those of a class (default), or all in a partition.",
    ),
]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--walltime-strategy",
        metavar="max-job-runtime|max-partition-time",
        help="As long as the longest job, on more nodes (default), or as long as the partition allows, on fewer nodes.",
    ),
]
Multiplier = Annotated[
    float | None,
    typer.Option(
        "--walltime-multiplier",
        help="Factor on the time that the jobs need, as a margin for slower runs; default: 1.5.",
    ),
]
Single = Annotated[
    bool | None,
    typer.Option(
        "--single-allocation/--many-allocations",
        help="Request all nodes in one allocation, or many allocations that start one by one (default).",
    ),
]
NumAllocations = Annotated[int | None, typer.Option("--num-allocations", min=1, help="Number of allocations to use.")]
MaxNodes = Annotated[
    int | None, typer.Option("--max-nodes", min=1, help="Use at most this many nodes at once, for longer.")
]

GROUPS = ("resource-requirements", "partition")
STRATEGIES = ("max-job-runtime", "max-partition-time")


@dataclass(frozen=True)
class Planning:
    """How allocations are to be planned, as the options say; None: not said. The account is an option of its own."""

    profile: Profile = None
    partition: Partitions = None
    qos: Qos = None
    constraint: Constraint = None
    gpu_type: GpuType = None
    group_by: GroupBy = None
    walltime_strategy: Strategy = None
    walltime_multiplier: Multiplier = None
    single_allocation: Single = None
    num_allocations: NumAllocations = None
    max_nodes: MaxNodes = None

    def cluster(self, scheduler: Scheduler) -> DescribedCluster:
        """Return the cluster to plan for, and say where its description comes from. Raises NotFound or Unavailable."""
        return scheduler.plan_for(
            dict(os.environ), self.profile or SESSION.settings.text(f"{scheduler.type.name}.profile")
        )

    def given(self, account: str | None) -> dict[str, Any]:
        """Return what was said of the options of a plan, by the names that a plan has for them. Raises Invalid."""
        _choose("--group-by", self.group_by, GROUPS)
        _choose("--walltime-strategy", self.walltime_strategy, STRATEGIES)
        fields = {name: value for name, value in vars(self).items() if name not in {"profile", "partition"}}
        return {**fields, "account": account, "partitions": tuple(self.partition or ()) or None}


def _choose(option: str, given: str | None, choices: tuple[str, ...]) -> None:
    if given not in {None, *choices}:
        raise Invalid(f"{option} {given} is unknown", hint=f"choose {' or '.join(choices)}")


def options_of(
    given: dict[str, Any], scheduler: Scheduler, before: AllocationPlanOptions | None = None
) -> AllocationPlanOptions:
    """Return the options of a plan: as given, else as chosen for the plan before, else as set."""
    from torc.schedulers.workflow_plans import kept_options

    if before is None or before.wishes.account is None:
        given = {**given, "account": given["account"] or SESSION.settings.text(f"{scheduler.type.name}.account")}
    return kept_options(before, given)
