"""Profiles of clusters as TOML: one or more in a file, each a table of its name with a list of partitions.

    [mycluster]
    display_name = "My cluster"
    detect_env = { CLUSTER = "mycluster" }
    [[mycluster.partitions]]
    name = "short"
    cpus_per_node = 64
    memory_mb = 256000
    max_walltime_secs = 14400

Not for finding files, nor for asking a cluster.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from torc.errors import Invalid
from torc.schedulers.partitions import UNKNOWN_NODES, Cluster, NodeKind, Partition

_LONGEST_PART = 2**31
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Nodes(_Strict):
    num_nodes: int = Field(ge=0)
    cpus_per_node: int = Field(ge=1, le=_LONGEST_PART)
    memory_mb: int = Field(ge=1, le=2**40)
    gpus_per_node: int = Field(0, ge=0)
    gpu_type: str | None = None
    features: list[str] = []


class _PartitionFields(_Strict):
    name: str = Field(min_length=1, max_length=200)
    cpus_per_node: int = Field(ge=1, le=_LONGEST_PART)
    memory_mb: int = Field(ge=1, le=2**40)
    num_nodes: int | None = Field(None, ge=0)
    gpus_per_node: int = Field(0, ge=0)
    gpu_type: str | None = None
    gpu_memory_gb: float | None = Field(None, gt=0)
    local_disk_gb: float | None = Field(None, ge=0)
    max_walltime_secs: int | None = Field(None, ge=1)
    default_walltime_secs: int | None = Field(None, ge=1)
    default_mem_per_cpu_mb: int | None = Field(None, ge=1, le=2**40)
    default_mem_per_node_mb: int | None = Field(None, ge=1, le=2**40)
    max_nodes: int | None = Field(None, ge=1)
    max_nodes_per_user: int | None = Field(None, ge=1)
    min_nodes: int = Field(1, ge=1)
    default: bool = False
    shared: bool = True
    requires_explicit_request: bool = False
    features: list[str] = []
    allowed_accounts: list[str] | None = None
    allowed_qos: list[str] | None = None
    other_nodes: list[_Nodes] = []


class _ProfileFields(_Strict):
    display_name: str | None = None
    detect_env: dict[str, str] = {}
    detect_cluster: str | None = None
    charge_factor_cpu: float | None = Field(None, ge=0)
    charge_factor_gpu: float | None = Field(None, ge=0)
    gpu_option: Literal["gres", "gpus"] = "gres"
    default_account: str | None = None
    partitions: list[_PartitionFields] = Field(min_length=1)


class Profile(_Strict):
    """A cluster as a file describes it, and how to tell that one is there. `origin`: the file, or `built-in`."""

    cluster: Cluster
    detect_env: dict[str, str]
    detect_cluster: str | None
    origin: str

    def is_here(self, environ: Mapping[str, str], cluster_name: str | None = None) -> bool:
        """Tell by the environment, or by what Slurm calls the cluster, whether this is where we are."""
        by_variables = bool(self.detect_env) and all(environ.get(name) == is_ for name, is_ in self.detect_env.items())
        return by_variables or (cluster_name is not None and cluster_name == (self.detect_cluster or self.cluster.name))


def read_profiles(text: str, origin: str) -> list[Profile]:
    """Read the profiles of a file. Raises Invalid, with the place of what is wrong."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"{origin} is no TOML: {error}") from None
    found = []
    for name, value in document.items():
        try:
            read = _ProfileFields.model_validate(value)
        except ValidationError as error:
            raise _complaint(error, name, origin) from None
        names = [partition.name for partition in read.partitions]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise Invalid(f"{origin}: {name} has two partitions named `{twice}`")
        found.append(
            Profile(
                cluster=Cluster(
                    name,
                    read.display_name or name,
                    tuple(map(_partition, read.partitions)),
                    read.gpu_option,
                    read.charge_factor_cpu,
                    read.charge_factor_gpu,
                    read.default_account,
                ),
                detect_env=read.detect_env,
                detect_cluster=read.detect_cluster,
                origin=origin,
            )
        )
    if not found:
        raise Invalid(
            f"{origin} has no profile", hint="a table of its name, with partitions: `torc hpc generate` writes one"
        )
    return found


def _complaint(error: ValidationError, name: str, origin: str) -> Invalid:
    # a name that is wrong is why another is missing
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in (name, *first["loc"]))
    hint = None
    if first["type"] == "extra_forbidden":
        model: type[_Strict] = _PartitionFields if "partitions" in first["loc"] else _ProfileFields
        model = _Nodes if "other_nodes" in first["loc"][:-1] else model
        near = difflib.get_close_matches(str(first["loc"][-1]), model.model_fields, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(model.model_fields)}"
        return Invalid(f"{origin}: there is no `{where}`", hint=hint)
    return Invalid(f"{origin}: {where}: {first['msg']}", hint=hint)


def _partition(read: _PartitionFields) -> Partition:
    return Partition(
        name=read.name,
        num_nodes=read.num_nodes if read.num_nodes is not None else read.max_nodes or UNKNOWN_NODES,
        cpus_per_node=read.cpus_per_node,
        memory_bytes_per_node=read.memory_mb << 20,
        gpus_per_node=read.gpus_per_node,
        gpu_type=read.gpu_type,
        max_walltime_seconds=read.max_walltime_secs,
        default_walltime_seconds=read.default_walltime_secs,
        default_memory_per_cpu_bytes=None if read.default_mem_per_cpu_mb is None else read.default_mem_per_cpu_mb << 20,
        default_memory_per_node_bytes=None
        if read.default_mem_per_node_mb is None
        else read.default_mem_per_node_mb << 20,
        max_nodes_per_job=read.max_nodes,
        max_nodes_per_user=read.max_nodes_per_user,
        is_default=read.default,
        is_shared=read.shared,
        requires_explicit_request=read.requires_explicit_request,
        features=frozenset(read.features),
        allowed_accounts=None if read.allowed_accounts is None else frozenset(read.allowed_accounts),
        allowed_qos=None if read.allowed_qos is None else frozenset(read.allowed_qos),
        min_nodes_per_job=read.min_nodes,
        gpu_memory_bytes=None if read.gpu_memory_gb is None else int(read.gpu_memory_gb * (1 << 30)),
        local_disk_bytes=None if read.local_disk_gb is None else int(read.local_disk_gb * 10**9),
        other_nodes=tuple(
            NodeKind(
                nodes.num_nodes,
                nodes.cpus_per_node,
                nodes.memory_mb << 20,
                nodes.gpus_per_node,
                nodes.gpu_type,
                frozenset(nodes.features),
            )
            for nodes in read.other_nodes
        ),
    )


def write_profile(cluster: Cluster, *, detect_env: Mapping[str, str] | None = None) -> str:
    """Write a profile that `read_profiles` reads as the same cluster."""
    head: dict[str, Any] = {
        "display_name": cluster.display_name,
        "detect_cluster": cluster.name,
        "charge_factor_cpu": cluster.charge_factor_cpu,
        "charge_factor_gpu": cluster.charge_factor_gpu,
        "gpu_option": cluster.gpu_option if cluster.gpu_option != "gres" else None,
        "default_account": cluster.default_account,
    }
    table = cluster.name if _BARE.fullmatch(cluster.name) else json.dumps(cluster.name)
    lines = [f"[{table}]", *_lines(head)]
    if detect_env:
        inside = ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in detect_env.items())
        lines.append(f"detect_env = {{ {inside} }}")
    for partition in cluster.partitions:
        lines += ["", f"[[{table}.partitions]]", *_lines(_fields(partition))]
        for kind in partition.other_nodes:
            lines += ["", f"[[{table}.partitions.other_nodes]]", *_lines(_fields_of_kind(kind))]
    return "\n".join(lines) + "\n"


def _fields(of: Partition) -> dict[str, Any]:
    return {
        "name": of.name,
        "cpus_per_node": of.cpus_per_node,
        "memory_mb": max(1, of.memory_bytes_per_node >> 20),
        "num_nodes": of.num_nodes if of.num_nodes != UNKNOWN_NODES else None,
        "gpus_per_node": of.gpus_per_node or None,
        "gpu_type": of.gpu_type,
        "gpu_memory_gb": None if of.gpu_memory_bytes is None else of.gpu_memory_bytes / (1 << 30),
        "local_disk_gb": None if of.local_disk_bytes is None else of.local_disk_bytes / 10**9,
        "max_walltime_secs": of.max_walltime_seconds,
        "default_walltime_secs": of.default_walltime_seconds,
        "default_mem_per_cpu_mb": None
        if of.default_memory_per_cpu_bytes is None
        else of.default_memory_per_cpu_bytes >> 20,
        "default_mem_per_node_mb": None
        if of.default_memory_per_node_bytes is None
        else of.default_memory_per_node_bytes >> 20,
        "max_nodes": of.max_nodes_per_job,
        "max_nodes_per_user": of.max_nodes_per_user,
        "min_nodes": of.min_nodes_per_job if of.min_nodes_per_job != 1 else None,
        "default": of.is_default or None,
        "shared": of.is_shared,
        "requires_explicit_request": of.requires_explicit_request or None,
        "features": sorted(of.features) or None,
        "allowed_accounts": None if of.allowed_accounts is None else sorted(of.allowed_accounts),
        "allowed_qos": None if of.allowed_qos is None else sorted(of.allowed_qos),
    }


def _fields_of_kind(of: NodeKind) -> dict[str, Any]:
    return {
        "num_nodes": of.num_nodes,
        "cpus_per_node": of.cpus_per_node,
        "memory_mb": max(1, of.memory_bytes_per_node >> 20),
        "gpus_per_node": of.gpus_per_node or None,
        "gpu_type": of.gpu_type,
        "features": sorted(of.features) or None,
    }


def _lines(values: Mapping[str, Any]) -> list[str]:
    """Write what is there; TOML's text, numbers, lists and booleans are JSON's, but for the non-ASCII that both may leave as is."""
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value is not None]
