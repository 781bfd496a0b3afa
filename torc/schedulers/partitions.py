"""What a cluster offers: partitions and what their nodes have. Values only, whether read live or from a profile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

#: more than any cluster has
UNKNOWN_NODES = 1_000_000


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Nodes of a partition that are alike."""

    num_nodes: int
    cpus_per_node: int
    memory_bytes_per_node: int
    gpus_per_node: int = 0
    gpu_type: str | None = None
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Partition:
    """A set of nodes that are asked for alike. What is None is not limited, or not known.

    Where its nodes differ, it describes those that are most, and `other_nodes` the others.
    """

    name: str
    num_nodes: int  # that can be used; UNKNOWN_NODES where a profile does not say
    cpus_per_node: int
    memory_bytes_per_node: int
    gpus_per_node: int = 0
    gpu_type: str | None = None
    max_walltime_seconds: int | None = None
    default_walltime_seconds: int | None = None
    max_nodes_per_job: int | None = None
    max_nodes_per_user: int | None = None
    is_default: bool = False
    is_shared: bool = True  # several jobs share a node; else each gets whole ones
    requires_explicit_request: bool = False  # not chosen unless it is named
    features: frozenset[str] = frozenset()
    allowed_accounts: frozenset[str] | None = None
    allowed_qos: frozenset[str] | None = None
    min_nodes_per_job: int = 1
    gpu_memory_bytes: int | None = None
    local_disk_bytes: int | None = None
    default_memory_per_cpu_bytes: int | None = None  # what an allocation gets that asks for none; None: all of a node
    default_memory_per_node_bytes: int | None = None
    other_nodes: tuple[NodeKind, ...] = ()
    is_part: bool = False  # of a partition with other nodes, too: these are got by asking for what they have

    def kinds(self) -> tuple[Partition, ...]:
        """Return the nodes of each kind as a partition of their own."""
        if not self.other_nodes:
            return (self,)
        first = replace(self, other_nodes=(), is_part=True)
        others = [
            replace(
                first,
                num_nodes=kind.num_nodes,
                cpus_per_node=kind.cpus_per_node,
                memory_bytes_per_node=kind.memory_bytes_per_node,
                gpus_per_node=kind.gpus_per_node,
                gpu_type=kind.gpu_type,
                features=kind.features,
                gpu_memory_bytes=None,
            )
            for kind in self.other_nodes
        ]
        return (first, *others)

    def has_all_of(self, other: Partition) -> bool:
        """Return whether its nodes can stand for those of another."""
        return (
            self.cpus_per_node >= other.cpus_per_node
            and self.memory_bytes_per_node >= other.memory_bytes_per_node
            and self.gpus_per_node >= other.gpus_per_node
        )


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as plans see it."""

    name: str
    display_name: str
    partitions: tuple[Partition, ...]
    gpu_option: Literal["gres", "gpus"] = "gres"  # how GPUs are asked for: --gres=gpu:N, or --gpus-per-node=N
    charge_factor_cpu: float | None = None  # allocation units for a node-hour
    charge_factor_gpu: float | None = None
    default_account: str | None = None
    #: partitions that are there and take nothing now (inactive, drained, or down): plans leave them out
    closed: tuple[Partition, ...] = ()

    def partition(self, name: str) -> Partition | None:
        """Find a partition by name."""
        return next((found for found in self.partitions if found.name == name), None)
