"""The options by which allocations are planned: shared by `torc submit`, `torc slurm generate` and `torc slurm regenerate`."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from torc.cli.session import SESSION
from torc.errors import Invalid

Account = Annotated[
    str | None,
    typer.Option("--account", "-A", help="Account to charge; default: as set (slurm.account), or Slurm's own."),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", help="Cluster to plan for: a profile (torc hpc list) or a file; default: the one here."),
]
Partitions = Annotated[
    list[str] | None,
    typer.Option("--partition", "-p", help="Use only this partition; repeat. Default: the smallest that fits."),
]
Qos = Annotated[str | None, typer.Option("--qos", help="Quality of service.")]
Constraint = Annotated[str | None, typer.Option("--constraint", help="Features that nodes must have, as for sbatch.")]
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by", metavar="resource-requirements|partition", help="Who shares allocations: each class (default), or a partition."
    ),
]  # fmt: skip
Strategy = Annotated[
    str | None,
    typer.Option(
        "--walltime-strategy", metavar="max-job-runtime|max-partition-time",
        help="As long as the longest job, on more nodes (default); or as long as the partition allows, on fewer.",
    ),
]  # fmt: skip
Multiplier = Annotated[
    float | None,
    typer.Option(
        "--walltime-multiplier", help="Ask for so many times what the jobs need (1.5): room for what goes slower."
    ),
]
Single = Annotated[
    bool | None,
    typer.Option(
        "--single-allocation/--many-allocations",
        help="All nodes in one allocation, instead of many that start one by one.",
    ),
]
NumAllocations = Annotated[int | None, typer.Option("--num-allocations", min=1, help="In so many allocations.")]
MaxNodes = Annotated[
    int | None, typer.Option("--max-nodes", min=1, help="Use at most so many nodes at once, for longer.")
]

GROUPS = ("resource-requirements", "partition")
STRATEGIES = ("max-job-runtime", "max-partition-time")


def cluster_of(profile: str | None) -> tuple[Any, str]:
    """Give the cluster to plan for, and say where its description comes from. Raises NotFound or Unavailable."""
    from torc.slurm import profiles

    found = profiles.current(dict(os.environ), profile or SESSION.settings.text("slurm.profile"))
    return found.cluster, found.source


def given_of(**given: Any) -> dict[str, Any]:
    """Give what was given of the options of a plan; None: nothing. Raises Invalid."""
    for name, choices in (("group_by", GROUPS), ("walltime_strategy", STRATEGIES)):
        if given[name] not in {None, *choices}:
            raise Invalid(f"--{name.replace('_', '-')} {given[name]} is unknown", hint=f"choose {' or '.join(choices)}")
    given["partitions"] = tuple(given.pop("partition") or ()) or None
    return given


def options_of(given: dict[str, Any], before: Any = None) -> Any:
    """Give the options of a plan: as given, else as chosen for the plan before, else as set."""
    from torc.slurm.plans import kept_options

    if before is None or before.wishes.account is None:
        given = {**given, "account": given["account"] or SESSION.settings.text("slurm.account")}
    return kept_options(before, given)
