"""The cluster that this machine belongs to, as it tells of itself: partitions, nodes, limits, the caller's accounts.

Three or four commands, whatever its size. Not for profiles in files.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torc.errors import Invalid, Unavailable
from torc.schedulers.partitions import Cluster, NodeKind, Partition
from torc.schedulers.slurm import commands, fields, queries
from torc.schedulers.slurm.output_parser import Record

#: of a node that will run nothing soon
_UNUSABLE = {
    "DOWN",
    "DRAIN",
    "DRAINED",
    "DRAINING",
    "FAIL",
    "FAILING",
    "FUTURE",
    "INVALID_REG",
    "NOT_RESPONDING",
    "UNKNOWN",
}
_SETTING = re.compile(r"^\s*(\w+)\s*=\s*(.*?)\s*$")
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Association:
    """An account that a user may name, with the qos that go with it. `partition`: where alone, or anywhere."""

    account: str
    partition: str | None
    qos: frozenset[str]
    is_default: bool


def live_cluster(*, patience: float = _PATIENCE_SECONDS) -> Cluster:
    """Ask the cluster of this machine what it has. Raises Unavailable, or Invalid where there are no Slurm commands."""
    config = configuration(patience=patience)
    cluster = cluster_from(config, queries.partitions(patience=patience), queries.nodes(patience=patience))
    default = next((found.account for found in associations(config, patience=patience) if found.is_default), None)
    return replace(cluster, default_account=default)


def configuration(*, patience: float = _PATIENCE_SECONDS) -> dict[str, str]:
    """Ask for the settings of the controller."""
    text = commands.run(["scontrol", "show", "config"], patience=patience)
    return {match[1]: match[2] for line in text.splitlines() if (match := _SETTING.match(line))}


def associations(config: Mapping[str, str] | None = None, *, patience: float = _PATIENCE_SECONDS) -> list[Association]:
    """Ask which accounts the caller may name; none where the cluster keeps no accounts, or where they cannot be had now."""
    config = configuration(patience=patience) if config is None else config
    if not config.get("AccountingStorageType", "").endswith("slurmdbd"):
        return []
    user = getpass.getuser()
    ask = ["sacctmgr", "--noheader", "--parsable2", "show", "user", f"user={user}", "withassoc"]
    if cluster := config.get("ClusterName"):
        ask.append(f"cluster={cluster}")
    try:
        # what is not known is left out: nobody waits for an accounting that is away
        text = commands.run(
            [*ask, "format=Account,Partition,QOS,DefaultAccount"], timeout=10.0, patience=min(patience, 2.0)
        )
    except (Invalid, Unavailable):
        return []
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 3]
    return [
        Association(account, partition or None, fields.names(qos), account == default)
        for account, partition, qos, default in rows
    ]


def cluster_from(config: Mapping[str, str], partitions: Iterable[Record], nodes: Iterable[Record]) -> Cluster:
    """Make a cluster of what scontrol tells. Partitions that take no jobs, or have no node, are left out."""
    of: dict[str, list[Record]] = {}
    for node in nodes:
        for name in fields.names(node.text("Partitions")):
            of.setdefault(name, []).append(node)
    name = config.get("ClusterName", "") or "cluster"
    linear = config.get("SelectType", "") == "select/linear"
    is_open: dict[bool, list[Partition]] = {True: [], False: []}
    for record in partitions:
        if own := of.get(record.text("PartitionName")):
            is_open[record.text("State") in {"UP", ""}].append(_partition(record, own, linear, config))
    return Cluster(name, name, tuple(is_open[True]), closed=tuple(is_open[False]))


def _partition(record: Record, nodes: Sequence[Record], linear: bool, config: Mapping[str, str]) -> Partition:
    usable = [
        node for node in nodes if not _UNUSABLE & set(node.text("State").replace("*", "+NOT_RESPONDING").split("+"))
    ]
    most, *others = _kinds(record, usable or nodes)
    per_cpu, per_node = _default_memory(record, config)
    return Partition(
        name=record.text("PartitionName"),
        num_nodes=most.num_nodes if usable else 0,
        cpus_per_node=most.cpus_per_node,
        memory_bytes_per_node=most.memory_bytes_per_node,
        gpus_per_node=most.gpus_per_node,
        gpu_type=most.gpu_type,
        max_walltime_seconds=fields.duration(record.text("MaxTime")),
        default_walltime_seconds=fields.duration(record.text("DefaultTime")),
        max_nodes_per_job=record.number("MaxNodes"),
        is_default=record.text("Default") == "YES",
        is_shared=not linear and not record.text("OverSubscribe").startswith("EXCLUSIVE"),
        requires_explicit_request=record.text("ReqResv") == "YES" or record.text("RootOnly") == "YES",
        features=most.features,
        allowed_accounts=_allowed(record.text("AllowAccounts")),
        allowed_qos=_allowed(record.text("AllowQos")),
        min_nodes_per_job=max(1, record.number("MinNodes") or 1),
        default_memory_per_cpu_bytes=per_cpu,
        default_memory_per_node_bytes=per_node,
        other_nodes=tuple(others) if usable else (),
    )


def _default_memory(record: Record, config: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Read what a job gets that asks for no memory, for each CPU and for each node: of the partition, else of all (slurm.conf(5))."""
    for get in (record.text, lambda name: config.get(name, "")):
        per_cpu, per_node = (fields.memory(get(name)) or None for name in ("DefMemPerCPU", "DefMemPerNode"))
        if per_cpu or per_node:
            return per_cpu, per_node
    return None, None


def _kinds(record: Record, nodes: Sequence[Record]) -> list[NodeKind]:
    """Tell the nodes of a partition apart by what they have, within its limits; those that are most first, of equal ones the larger."""
    most_cpus, most_memory = record.number("MaxCPUsPerNode"), fields.memory(record.text("MaxMemPerNode"))
    alike: dict[tuple[int, int, int, str | None], list[Record]] = {}
    for node in nodes:
        cpus, memory, gpus, gpu_type = _shape(node)
        shape = (min(cpus, most_cpus or cpus), min(memory, most_memory or memory), gpus, gpu_type)
        alike.setdefault(shape, []).append(node)
    return [
        NodeKind(
            len(found), *shape, frozenset().union(*(fields.names(node.text("AvailableFeatures")) for node in found))
        )
        for shape, found in sorted(
            alike.items(), key=lambda item: (len(item[1]), item[0][:3], item[0][3] or ""), reverse=True
        )
    ]


def _shape(node: Record) -> tuple[int, int, int, str | None]:
    cpus = node.number("CPUEfctv") or node.number("CPUTot") or 1
    memory = (fields.memory(node.text("RealMemory")) or 0) - (fields.memory(node.text("MemSpecLimit")) or 0)
    gpus, gpu_type = fields.gpus(node.text("Gres"))
    return cpus, max(memory, 1 << 20), gpus, gpu_type


def _allowed(text: str) -> frozenset[str] | None:
    return None if text in {"", "ALL"} else fields.names(text)
