"""What a cluster offers: partitions and what their nodes have. Values only, whether read live or from a profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: more than any cluster has
UNKNOWN_NODES = 1_000_000


@dataclass(frozen=True, slots=True)
class Partition:
    """A set of nodes that are asked for alike. What is None is not limited, or not known."""

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

    def partition(self, name: str) -> Partition | None:
        """Find a partition by name."""
        return next((found for found in self.partitions if found.name == name), None)
