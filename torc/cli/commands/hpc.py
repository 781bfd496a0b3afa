"""`torc hpc`: what clusters offer, which of their partitions fit, and a cluster of one's own to try things."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.hpc_sandbox import sandbox
from torc.cli.options.allocation_plans import GpuType
from torc.cli.options.amounts import memory_bytes, seconds
from torc.cli.session import SESSION
from torc.cli.terminal import print_document
from torc.errors import Conflict, Invalid, TorcError
from torc.schedulers.base import DescribedCluster
from torc.schedulers.partition_choice import PartitionWishes, choose, fit, refuse
from torc.schedulers.partitions import UNKNOWN_NODES, Cluster, Partition
from torc.schedulers.slurm import profiles
from torc.schedulers.slurm.profile_files import write_profile
from torc.units import human_duration
from torc.workflow.resources import ResourceRequest

hpc = App("Show what clusters offer and which partitions fit, and start a private cluster for experiments.")
hpc.add_typer(sandbox, name="sandbox")
Name = Annotated[
    str | None,
    typer.Argument(metavar="PROFILE", help="A profile, a TOML file with one, or `live`; default: this cluster."),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", help="A profile, a TOML file with one, or `live`; default: this cluster.", show_default=False
    ),
]


@hpc.command("list")
def list_() -> None:
    """List the profiles of clusters: built-in ones, those of this machine, and your own.

    Example: torc hpc list
    """
    here = profiles.here(os.environ)
    rows = [
        {
            "name": found.cluster.name,
            "display_name": found.cluster.display_name,
            "partitions": len(found.cluster.partitions),
            "origin": found.origin,
            "here": here is not None and here.cluster.name == found.cluster.name,
        }
        for found in profiles.profiles(os.environ).values()
    ]
    if SESSION.json:
        rendering.show_json(rows)
        return
    rendering.table(list(rows[0]), [[rendering.text(value) for value in row.values()] for row in rows])
    rendering.note(f"your own go to {profiles.user_folder(os.environ)}: `torc hpc generate` writes one")


@hpc.command()
def show(name: Name = None) -> None:
    """Show a cluster and its partitions.

    Example: torc hpc show kestrel
    """
    found = profiles.current(os.environ, name)
    if SESSION.json:
        rendering.show_json({**described(found.cluster), "source": found.source})
        return
    cluster = found.cluster
    lines = {
        "name": cluster.name,
        "display name": cluster.display_name,
        "from": found.source,
        "GPUs are asked for by": "--gres" if cluster.gpu_option == "gres" else "--gpus-per-node",
        "a node-hour costs": _charge(cluster.charge_factor_cpu),
        "a GPU-node-hour costs": _charge(cluster.charge_factor_gpu),
        "default account": cluster.default_account or "",
    }
    for title, value in lines.items():
        if value:
            print(f"{title.ljust(22)}  {value}")
    print()
    _show_partitions(cluster.partitions)


@hpc.command()
def detect() -> None:
    """Show which cluster this machine belongs to. Exit code 3 if it is not a known cluster.

    Example: torc hpc detect
    """
    found: DescribedCluster | None
    try:
        found = profiles.current(os.environ)
    except TorcError as error:
        reason = error
        found = None
    if found is None:
        if SESSION.json:
            rendering.show_json({"detected": None, "reason": reason.message})
        else:
            print(f"no cluster: {reason.message}", file=sys.stderr)
            if reason.hint:
                print(f"  hint: {reason.hint}", file=sys.stderr)
        raise typer.Exit(3)
    profile = profiles.detect(os.environ, found.cluster.name)
    if SESSION.json:
        rendering.show_json(
            {
                "detected": found.cluster.name,
                "display_name": found.cluster.display_name,
                "profile": profile and profile.cluster.name,
                "source": found.source,
            }
        )
    else:
        print(f"{found.cluster.name}  ({found.source})")


@hpc.command()
def partitions(name: Name = None) -> None:
    """List the partitions of a cluster: their nodes, limits and permitted users.

    Example: torc hpc partitions kestrel
    """
    found = profiles.current(os.environ, name)
    if SESSION.json:
        rendering.show_json(described(found.cluster)["partitions"])
        return
    rendering.note(f"{found.cluster.display_name}, from {found.source}")
    _show_partitions(found.cluster.partitions)


@hpc.command()
def match(  # noqa: PLR0913, PLR0917 - options of a command
    profile: Profile = None,
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="CPUs of a job.")] = 1,
    memory: Annotated[str, typer.Option("--memory", help="Memory of a job.")] = "1g",
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="GPUs of a job.")] = 0,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Nodes of a job.")] = 1,
    walltime: Annotated[str, typer.Option("--walltime", help="Runtime of a job: 4h, PT4H, 04:00:00.")] = "1h",
    partition: Annotated[
        list[str] | None, typer.Option("--partition", metavar="NAME", help="Only this partition; repeatable.")
    ] = None,
    account: Annotated[str | None, typer.Option("--account", help="Account to charge.", show_default=False)] = None,
    qos: Annotated[str | None, typer.Option("--qos", help="Quality of service.", show_default=False)] = None,
    constraint: Annotated[
        str | None, typer.Option("--constraint", help="Node feature to require.", show_default=False)
    ] = None,
    gpu_type: GpuType = None,
) -> None:
    """Show which partitions can run a job, and why the others cannot. Exit code 4 if none can.

    Example: torc hpc match --profile kestrel --cpus 64 --memory 300g --walltime 3d
    """
    found = profiles.current(os.environ, profile)
    request = ResourceRequest(
        num_cpus=cpus,
        memory_bytes=memory_bytes(memory, "--memory"),
        num_gpus=gpus,
        num_nodes=nodes,
        runtime_seconds=seconds(walltime, "--walltime"),
    )
    wishes = PartitionWishes(tuple(partition or ()), account, qos, constraint, gpu_type)
    if unknown := [name for name in wishes.partitions if found.cluster.partition(name) is None]:
        known = ", ".join(each.name for each in found.cluster.partitions)
        raise Invalid(f"{found.cluster.display_name} has no partition `{unknown[0]}`", hint=f"there are {known}")
    rows = [_row(each, request, wishes) for each in found.cluster.partitions]
    fits = [row["partition"] for row in rows if row["fits"]]
    refusal = None if fits else refuse(request, found.cluster, wishes, (0, "job", 1))
    chosen = choose(request, found.cluster, wishes)
    if SESSION.json:
        nearest = refusal.misfits[0].partition if refusal and refusal.misfits else None
        told = {
            "cluster": found.cluster.name,
            "source": found.source,
            "fits": fits,
            "chosen": chosen and chosen.name,
            "nearest": nearest,
        }
        rendering.show_json({**told, "hint": refusal and refusal.hint, "partitions": rows})
    else:
        rendering.note(f"{found.cluster.display_name}, from {found.source}")
        rendering.table(
            ["partition", "fits", "because"],
            [[row["partition"], rendering.text(row["fits"]), "; ".join(row["reasons"])] for row in rows],
        )
        if chosen is not None and len(fits) > 1:
            rendering.note(f"Torc would choose {chosen.name}")
    if refusal is not None:
        if SESSION.json:
            raise typer.Exit(Conflict.exit_code)
        raise Conflict(f"no partition of {found.cluster.display_name} runs such a job", hint=refusal.hint)


@hpc.command()
def generate(
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the profile; default: Slurm's name of the cluster.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.", show_default=False)
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Save the profile where `torc hpc list` finds it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a profile of this cluster, to edit it or to plan for the cluster from elsewhere.

    Example: torc hpc generate -o mycluster.toml
    """
    cluster = profiles.live_cluster()
    text = write_profile(cluster if name is None else _renamed(cluster, name))
    path = output or (profiles.user_folder(os.environ) / f"{_file_name(name or cluster.name)}.toml" if save else None)
    if SESSION.json:
        rendering.show_json({"profile": text, "file": path and str(path)})
    elif path is None:
        print_document(text)
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Conflict(f"{path} already exists", hint="--force writes over it") from None
    except OSError as error:
        raise Invalid(f"cannot write {path}: {error.strerror}") from None
    rendering.note(f"wrote {path}")


def described(cluster: Cluster) -> dict[str, Any]:
    """Return a cluster as JSON shows it."""
    made = asdict(cluster)
    made["partitions"] = [_plain(partition) for partition in cluster.partitions]
    return made


def _plain(partition: Partition) -> dict[str, Any]:
    made = _sorted(asdict(partition))
    del made["is_part"]
    made["num_nodes"] = _number(partition)
    made["other_nodes"] = [_sorted(kind) for kind in made["other_nodes"]]
    return made


def _sorted(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in fields.items()}


def _row(partition: Partition, request: ResourceRequest, wishes: PartitionWishes) -> dict[str, Any]:
    found = fit(request, partition, wishes)
    reasons = [*found.otherwise, *(f"a job needs {reason}" for reason, _ in found.short)]
    return {"partition": partition.name, "fits": found.fits, "nodes": _number(found.nodes), "reasons": reasons}


def _number(partition: Partition) -> int | None:
    return None if partition.num_nodes == UNKNOWN_NODES else partition.num_nodes


def _show_partitions(found: tuple[Partition, ...]) -> None:
    rows = [
        [
            partition.name + ("*" if partition.is_default else ""),
            "?" if _number(partition) is None else str(partition.num_nodes),
            str(partition.cpus_per_node),
            rendering.memory(partition.memory_bytes_per_node),
            f"{partition.gpus_per_node} {partition.gpu_type or ''}".strip() if partition.gpus_per_node else "",
            human_duration(partition.max_walltime_seconds) if partition.max_walltime_seconds else "no limit",
            rendering.text(partition.max_nodes_per_job),
            "shared" if partition.is_shared else "whole",
            _remarks(partition),
        ]
        for whole in found
        for partition in whole.kinds()
    ]
    header = ["partition", "nodes", "CPUs", "memory", "GPUs", "walltime", "nodes/job", "nodes are", "remarks"]
    rendering.table(header, rows)


def _remarks(partition: Partition) -> str:
    said = []
    if partition.requires_explicit_request:
        said.append("only when named")
    if partition.min_nodes_per_job > 1:
        said.append(f"at least {partition.min_nodes_per_job} nodes")
    if partition.max_nodes_per_user:
        said.append(f"{partition.max_nodes_per_user} nodes a user")
    for title, names in (("accounts", partition.allowed_accounts), ("qos", partition.allowed_qos)):
        if names is not None:
            said.append(f"{title} {', '.join(sorted(names))}")
    if partition.features:
        said.append(f"features {', '.join(sorted(partition.features))}")
    return "; ".join(said)


def _charge(factor: float | None) -> str:
    return "" if factor is None else f"{factor:g} allocation units"


def _renamed(cluster: Cluster, name: str) -> Cluster:
    return Cluster(name, name, cluster.partitions, cluster.gpu_option, default_account=cluster.default_account)


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)
