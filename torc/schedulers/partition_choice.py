"""Which partition jobs of a class go to, and why not to others. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torc.planning.reserve import END_SECONDS, START_SECONDS, memory_for_jobs, memory_with_headroom
from torc.schedulers.partitions import UNKNOWN_NODES, Cluster, Partition
from torc.schedulers.request import AllocationRequest
from torc.units import human_bytes, human_duration
from torc.workflow.packing import how_many_fit
from torc.workflow.resources import Capacity, ResourceRequest

_FEATURE = re.compile(r"[A-Za-z0-9_.:-]+")
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class PartitionWishes:
    """What the user wants of the partition. Empty: anything."""

    partitions: tuple[str, ...] = ()
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gpu_type: str | None = None  # of those that need GPUs


@dataclass(frozen=True, slots=True)
class PartitionMisfit:
    """A partition that cannot take a class, and why. `closeness` orders them: how far the worst is off, as a factor."""

    partition: str
    reasons: tuple[str, ...]
    closeness: float


def capacity(partition: Partition) -> Capacity:
    """Return what a node of a partition has for jobs: the runner keeps some memory."""
    return Capacity(partition.cpus_per_node, memory_for_jobs(partition.memory_bytes_per_node), partition.gpus_per_node)


def most_nodes(partition: Partition) -> int:
    """Return how many nodes one allocation may have, and a user at once."""
    limits = (partition.max_nodes_per_job, partition.max_nodes_per_user)
    return max(1, min([partition.num_nodes, *(limit for limit in limits if limit is not None)]))


class NodeFit(NamedTuple):
    """The nodes of a partition that come nearest to what jobs ask for, and what is against them; nothing: they fit.

    They are those that have as much, of whatever kind.
    """

    nodes: Partition
    otherwise: tuple[str, ...]  # whatever the nodes have
    short: tuple[tuple[str, float], ...]  # what they lack, and by which factor

    @property
    def fits(self) -> bool:
        """Return whether jobs can run there."""
        return not self.otherwise and not self.short

    @property
    def reasons(self) -> tuple[str, ...]:
        """Say what is against it."""
        return (*self.otherwise, *(f"needs {reason}" for reason, _ in self.short))

    @property
    def closeness(self) -> float:
        """Return how far the worst is off, as a factor."""
        return max((by for _, by in self.short), default=1.0)


def fit(request: ResourceRequest, partition: Partition, wishes: PartitionWishes) -> NodeFit:
    """Return the nodes of a partition for jobs: those on which most of them can run at once, or those that come nearest."""
    kinds = partition.kinds()
    allowed = [
        kind
        for kind in kinds
        if not asked_otherwise(kind, wishes) and not _other_gpus(request, kind, wishes, partition)
    ]
    able = [kind for kind in allowed if _at_once(request, kind)]
    if not able:
        return min(
            (_misfit(request, kind, wishes, partition) for kind in kinds),
            key=lambda fit: (not fit.fits, fit.closeness, _preference(request, fit.nodes)),
        )
    least = replace(
        able[0],
        cpus_per_node=min(kind.cpus_per_node for kind in able),
        memory_bytes_per_node=min(kind.memory_bytes_per_node for kind in able),
        gpus_per_node=min(kind.gpus_per_node for kind in able),
    )
    found = [_all_like(nodes, allowed, len(kinds)) for nodes in (*able, least)]
    nodes = min(found, key=lambda nodes: (-nodes.num_nodes * _at_once(request, nodes), _preference(request, nodes)))
    return NodeFit(nodes, (), tuple(_shortages(request, nodes)))


def _misfit(request: ResourceRequest, nodes: Partition, wishes: PartitionWishes, of: Partition) -> NodeFit:
    short = [*_other_gpus(request, nodes, wishes, of), *_shortages(request, nodes)]
    return NodeFit(nodes, tuple(asked_otherwise(nodes, wishes)), tuple(short))


def _at_once(request: ResourceRequest, nodes: Partition) -> int:
    return how_many_fit(request.untimed._replace(num_nodes=1), capacity(nodes))


def _all_like(nodes: Partition, kinds: Sequence[Partition], num_kinds: int) -> Partition:
    """Count all nodes that have as much, of so many kinds in all."""
    alike = [kind for kind in kinds if kind.has_all_of(nodes)]
    types = {kind.gpu_type for kind in alike}
    return replace(
        nodes,
        num_nodes=min(UNKNOWN_NODES, sum(kind.num_nodes for kind in alike)),
        gpu_type=types.pop() if len(types) == 1 else None,
        is_part=len(alike) < num_kinds,
    )


def choose(request: ResourceRequest, cluster: Cluster, wishes: PartitionWishes) -> Partition | None:
    """Choose the nodes that jobs go to: of the partitions that fit, the default one, else the smallest. None: nothing fits."""
    fitting = [found.nodes for partition in cluster.partitions if (found := fit(request, partition, wishes)).fits]
    return min(fitting, key=lambda nodes: _preference(request, nodes), default=None)


def _other_gpus(
    request: ResourceRequest, nodes: Partition, wishes: PartitionWishes, of: Partition
) -> list[tuple[str, float]]:
    if not request.num_gpus or wishes.gpu_type in {None, nodes.gpu_type} or not nodes.gpus_per_node:
        return []
    has = sorted({kind.gpu_type or "some whose type is not known" for kind in of.kinds() if kind.gpus_per_node})
    return [(f"GPUs of type {wishes.gpu_type} (it has {', '.join(has)})", 1e3)]


def _preference(request: ResourceRequest, partition: Partition) -> tuple[object, ...]:
    wasted_gpus = partition.gpus_per_node - request.num_gpus
    return (
        partition.min_nodes_per_job > request.num_nodes,
        wasted_gpus > 0 and request.num_gpus == 0 and not partition.is_default,
        not partition.is_default,
        wasted_gpus,
        partition.memory_bytes_per_node,
        partition.cpus_per_node,
        partition.max_walltime_seconds if partition.max_walltime_seconds is not None else float("inf"),
        partition.name,
    )


def asked_otherwise(partition: Partition, wishes: PartitionWishes) -> list[str]:
    """Say why a partition is not to be used, whatever it has."""
    found = []
    if wishes.partitions and partition.name not in wishes.partitions:
        found.append("another one was named")
    if partition.requires_explicit_request and partition.name not in wishes.partitions:
        found.append("it is used only when named (--partition)")
    if partition.allowed_accounts is not None and wishes.account and wishes.account not in partition.allowed_accounts:
        found.append(f"account {wishes.account} may not use it (these may: {_named(partition.allowed_accounts)})")
    if partition.allowed_qos is not None and wishes.qos and wishes.qos not in partition.allowed_qos:
        found.append(f"qos {wishes.qos} is not allowed there (these are: {_named(partition.allowed_qos)})")
    feature = wishes.constraint
    if feature and _FEATURE.fullmatch(feature) and partition.features and feature not in partition.features:
        found.append(f"no node of it has the feature {feature}")
    return found


def _named(names: frozenset[str]) -> str:
    first = sorted(names)[:_MOST_NAMED]
    return ", ".join(first) + (", ..." if len(names) > len(first) else "")


def _plural(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _shortages(request: ResourceRequest, partition: Partition) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    if request.num_cpus > partition.cpus_per_node:
        found.append(
            (
                f"{_plural(request.num_cpus, 'CPU')} on a node (it has {partition.cpus_per_node})",
                request.num_cpus / max(1, partition.cpus_per_node),
            )
        )
    memory = memory_for_jobs(partition.memory_bytes_per_node)
    if request.memory_bytes > memory:
        kept = human_bytes(partition.memory_bytes_per_node - memory)
        found.append(
            (
                f"{human_bytes(request.memory_bytes)} of memory on a node (it has {human_bytes(partition.memory_bytes_per_node)}, "
                f"of which the runner keeps {kept})",
                request.memory_bytes / max(1, memory),
            )
        )
    if request.num_gpus > partition.gpus_per_node:
        found.append(
            (
                f"{_plural(request.num_gpus, 'GPU')} on a node (it has {partition.gpus_per_node or 'none'})",
                request.num_gpus / partition.gpus_per_node if partition.gpus_per_node else 1e6,
            )
        )
    if request.num_nodes > most_nodes(partition):
        found.append(
            (
                f"{request.num_nodes} nodes (an allocation may have {most_nodes(partition)})",
                request.num_nodes / most_nodes(partition),
            )
        )
    longest = partition.max_walltime_seconds
    needed = request.runtime_seconds + START_SECONDS + END_SECONDS
    if longest is not None and needed > longest:
        found.append(
            (
                f"{human_duration(request.runtime_seconds)} and {human_duration(START_SECONDS + END_SECONDS)} for the runner "
                f"(its limit is {human_duration(longest)})",
                needed / max(1, longest),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class UnrunnableRequest:
    """A class that nothing on the cluster runs, as asked for."""

    requirement: int
    name: str
    num_jobs: int
    message: str
    hint: str
    misfits: tuple[PartitionMisfit, ...]


def refuse(
    request: ResourceRequest, cluster: Cluster, wishes: PartitionWishes, about: tuple[int, str, int]
) -> UnrunnableRequest:
    """Say why a class cannot run, and what comes nearest. `about`: its index, its name, how many jobs it has."""
    number, name, num_jobs = about
    found = [fit(request, partition, wishes) for partition in cluster.partitions]
    elsewhere = [item.nodes for item in found if not item.short]
    misfits = [PartitionMisfit(item.nodes.name, item.reasons, item.closeness) for item in found]
    explicit = {partition.name for partition in cluster.partitions if partition.requires_explicit_request}
    misfits.sort(key=lambda misfit: (misfit.closeness, misfit.partition in explicit, misfit.partition))
    jobs = f"{num_jobs:,} job{'' if num_jobs == 1 else 's'} of class {name}"
    message = f"{jobs} fit{'s' if num_jobs == 1 else ''} into no partition of {cluster.display_name}" + (
        f" that was named ({', '.join(wishes.partitions)})" if wishes.partitions else ""
    )
    if not misfits:
        hint = "the cluster has no partition: check the profile (torc hpc show)"
    elif elsewhere:  # it could run, but for what was wished
        fits = min(elsewhere, key=lambda found: (found.requires_explicit_request, _preference(request, found)))
        why = "; ".join(asked_otherwise(fits, wishes))
        hint = f"{fits.name} fits, but {why}: " + _way_out(fits, wishes)
    else:
        nearest = misfits[0]
        nodes = next(item.nodes for item in found if item.nodes.name == nearest.partition)
        hint = f"nearest is {nearest.partition}: {'; '.join(nearest.reasons)}" + _smaller(request, nodes)
    return UnrunnableRequest(number, name, num_jobs, message, hint, tuple(misfits))


def _way_out(fits: Partition, wishes: PartitionWishes) -> str:
    plain = replace(wishes, partitions=(fits.name,))
    if not asked_otherwise(fits, plain):
        return f"--partition {fits.name}"
    return "ask for another account, qos or constraint"


def _smaller(request: ResourceRequest, partition: Partition) -> str:
    """Say what the class may ask for at most."""
    most = []
    memory = memory_for_jobs(partition.memory_bytes_per_node)
    if request.memory_bytes > memory:
        most.append(f"memory {memory // (1 << 20)}m")
    if request.num_cpus > partition.cpus_per_node:
        most.append(f"num_cpus {partition.cpus_per_node}")
    if request.num_gpus > partition.gpus_per_node:
        most.append(f"num_gpus {partition.gpus_per_node}")
    if request.num_nodes > most_nodes(partition):
        most.append(f"num_nodes {most_nodes(partition)}")
    longest = partition.max_walltime_seconds
    if longest is not None and request.runtime_seconds > longest - START_SECONDS - END_SECONDS:
        most.append(f"runtime {max(0, longest - START_SECONDS - END_SECONDS)}s")
    return f". At most it may ask for {', '.join(most)}" if most else ""


def memory_to_ask(jobs_bytes: int, partition: Partition) -> int:
    """Return the memory of a node to ask for: that of its jobs and of the runner, in whole MiB, as sbatch counts."""
    asked = -(-memory_with_headroom(jobs_bytes) >> 20) << 20
    return min(asked, partition.memory_bytes_per_node)


def problems_of(request: AllocationRequest, cluster: Cluster) -> list[str]:
    """Say why an allocation that somebody wrote by hand would wait for ever, or be refused; empty: nothing is known against it.

    Of several partitions, the scheduler takes the first that can run it: only what is against all of them is a problem.
    """
    known = (*cluster.partitions, *cluster.closed)  # what is closed now lets allocations wait
    if request.partition is None:
        named = [partition for partition in known if partition.is_default][:1]
    else:
        named = []
        for name in request.partition.split(","):
            partition = next((found for found in known if found.name == name), None)
            if partition is None:
                return [f"there is no partition {name} (there are {', '.join(found.name for found in known)})"]
            named.append(partition)
    return min((_problems_in(partition, request) for partition in named), key=len, default=[])


def default_memory(request: AllocationRequest, cluster: Cluster) -> int | None:
    """Return the memory of a node that an allocation gets without asking for any; None: all of a node, or it is not known.

    Of several partitions, the least counts: the scheduler takes the first that can run it.
    """
    cpus = request.cpus_per_node
    if request.memory_bytes_per_node is not None or cpus is None or request.says_memory:
        return None
    named = None if request.partition is None else request.partition.split(",")
    known = [
        (found.default_memory_per_cpu_bytes or 0) * cpus or found.default_memory_per_node_bytes
        for found in (*cluster.partitions, *cluster.closed)
        if (found.is_default if named is None else found.name in named)
    ]
    return min((memory for memory in known if memory is not None), default=None)


def _problems_in(partition: Partition, request: AllocationRequest) -> list[str]:
    found = []
    limit = partition.max_walltime_seconds
    if limit is not None and request.walltime_seconds > limit:
        found.append(
            f"{human_duration(request.walltime_seconds)} in {partition.name}, which allows {human_duration(limit)}"
        )
    lacking = [(kind, _lacks(request, kind)) for kind in partition.kinds()]
    able = sum(kind.num_nodes for kind, lacks in lacking if not lacks) or partition.num_nodes
    most = min(able, partition.max_nodes_per_job or able)
    if partition.num_nodes and request.num_nodes > most:  # where all nodes are down, they come back
        found.append(f"{request.num_nodes} nodes of {partition.name}, where an allocation may have {most}")
    least: list[str] = min((lacks for _, lacks in lacking), key=len)
    found += least
    accounts = partition.allowed_accounts
    if accounts is not None and request.account and request.account not in accounts:
        found.append(f"account {request.account} in {partition.name}, which takes {_named(accounts)}")
    return found


def _lacks(request: AllocationRequest, nodes: Partition) -> list[str]:
    """Say what an allocation asks of a node that none of these has."""
    of, memory = f"of a node of {nodes.name}, which has", request.memory_bytes_per_node or 0
    found = []
    if (request.cpus_per_node or 0) > nodes.cpus_per_node:
        found.append(f"{request.cpus_per_node} CPUs {of} {nodes.cpus_per_node}")
    if memory > nodes.memory_bytes_per_node:
        found.append(f"{human_bytes(memory)} {of} {human_bytes(nodes.memory_bytes_per_node)}")
    if request.gpus_per_node > nodes.gpus_per_node:
        found.append(f"{request.gpus_per_node} GPUs {of} {nodes.gpus_per_node}")
    return found
