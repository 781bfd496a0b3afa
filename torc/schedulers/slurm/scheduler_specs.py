"""Slurm schedulers of a workflow, as specs write them, and the allocations that they stand for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torc.errors import Invalid
from torc.planning import sbatch_options
from torc.schedulers.allocation_planning import AllocationPlanOptions, PlannedAllocation
from torc.schedulers.base import NodeNeeds
from torc.schedulers.partitions import Cluster
from torc.schedulers.slurm.fields import walltime_text
from torc.schedulers.slurm.request import SlurmRequest
from torc.units import parse_duration, parse_memory, whole_number

_UNLIMITED = {"UNLIMITED", "INFINITE"}
#: sbatch counts in it
_MIB = 1 << 20
#: what sbatch means by no unit, and its units
_UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
#: a limit that no cluster has, for `UNLIMITED`
_YEAR = 365 * 86_400
#: fields that have the names of sbatch options
_FIELDS = frozenset({"account", "constraint", "gres", "mem", "partition", "qos", "tmp"})
#: fields that `slurm_defaults` may give
_DEFAULTED = ("account", "qos", "constraint")


def fields_of(planned: PlannedAllocation, cluster: Cluster, options: AllocationPlanOptions) -> dict[str, Any]:
    """Write a planned allocation as a Slurm scheduler of a spec."""
    wishes = options.wishes
    made: dict[str, Any] = {
        "account": wishes.account or cluster.default_account,
        "partition": planned.partition,
        "qos": wishes.qos,
        "nodes": planned.num_nodes,
        "walltime": walltime_text(planned.walltime_seconds),
        "cpus_per_node": planned.cpus_per_node,
        "mem": None if planned.memory_bytes_per_node is None else f"{planned.memory_bytes_per_node // _MIB}M",
        "constraint": wishes.constraint,
    }
    if planned.gpus_per_node:  # as this cluster wants it: who submits later knows the cluster no more
        gpus = f"{planned.gpu_type}:{planned.gpus_per_node}" if planned.gpu_type else str(planned.gpus_per_node)
        if cluster.gpu_option == "gres":
            made["gres"] = f"gpu:{gpus}"
        else:
            made["extra"] = f"--gpus-per-node={gpus}"
    return {name: value for name, value in made.items() if value is not None}


def settings_for(needs: NodeNeeds) -> list[str]:
    """Say how a Slurm scheduler of a spec asks for what jobs need."""
    memory, walltime = needs.memory_bytes, needs.walltime_seconds
    said = {
        "mem": None if memory is None else f"{-(-memory // _MIB)}M",
        "cpus_per_node": needs.cpus,
        "gres": None if needs.gpus is None else f"gpu:{needs.gpus}",
        "nodes": needs.nodes,
        "walltime": None if walltime is None else walltime_text(walltime),
    }
    return [f"{name}: {value}" for name, value in said.items() if value is not None]


def request_of(
    name: str,
    fields: Mapping[str, Any],
    *,
    job_name: str,
    defaults: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    gpu_option: str = "gres",
) -> SlurmRequest:
    """Return the allocation that a scheduler stands for. Raises Invalid.

    `fields` are those of the spec, `defaults` its `slurm_defaults`, `settings` those of the action that asks for it, and
    `job_name` is what squeue shows. What the scheduler says, as a field or in `extra`, comes before the defaults.
    """
    settings = settings or {}
    rest = {option.replace("_", "-"): value for option, value in (defaults or {}).items()}
    fields = {
        **_in_extra(fields.get("extra"), name),
        **{key: value for key, value in fields.items() if value is not None},
    }
    given = {key: fields.get(key, _text(rest.get(key))) for key in _DEFAULTED}
    for key in _DEFAULTED:
        rest.pop(key, None)
    return SlurmRequest(
        name=job_name,
        walltime_seconds=walltime_seconds(str(fields.get("walltime", "01:00:00")), name),
        num_nodes=int(fields.get("nodes", 1)),
        partition=fields.get("partition"),
        cpus_per_node=fields.get("cpus_per_node"),
        memory_bytes_per_node=memory_bytes(fields["mem"], name) if fields.get("mem") is not None else None,
        gpus_per_node=int(fields.get("gpus_per_node") or 0),
        gpu_option=gpu_option,
        gres=fields.get("gres"),
        tmp=fields.get("tmp"),
        ntasks_per_node=fields.get("ntasks_per_node"),
        extra=fields.get("extra"),
        options=tuple((option, _text(value)) for option, value in sorted(rest.items())),
        scheduler=name,
        start_one_worker_per_node=bool(settings.get("start_one_worker_per_node", True)),
        max_parallel_jobs=settings.get("max_parallel_jobs"),
        account=given["account"],
        qos=given["qos"],
        constraint=given["constraint"],
    )


def _in_extra(text: Any, scheduler: str) -> dict[str, str]:
    """Return what `extra` says that a scheduler has fields for: it is compared with partitions and jobs, too. Raises Invalid."""
    try:
        return {
            option.name: option.value
            for option in sbatch_options.read(text or "")
            if option.name in _FIELDS and option.value
        }
    except ValueError as error:
        raise Invalid(f"`extra` of Slurm scheduler {scheduler}: {error}", hint="write it as for sbatch") from None


def _text(value: Any) -> str | None:
    """Write the value of an sbatch option; an option that is true takes none."""
    return None if value is None or value is True else str(value)


def walltime_seconds(text: str, scheduler: str) -> int:
    """Read a walltime of a spec; a number alone is minutes, as for sbatch (sbatch(1), --time). Raises Invalid."""
    stripped = text.strip()
    if stripped.upper() in _UNLIMITED:
        return _YEAR
    minutes = whole_number(stripped)
    if minutes is not None:
        return minutes * 60
    try:
        return parse_duration(stripped)
    except ValueError as error:
        raise Invalid(
            f"walltime of Slurm scheduler {scheduler}: {error}", hint="write HH:MM:SS or D-HH:MM:SS"
        ) from None


def memory_bytes(text: Any, scheduler: str) -> int:
    """Read an amount of memory as sbatch does (sbatch(1), --mem): without a unit it is MiB; 0 is all of a node. Raises Invalid."""
    stripped = str(text).strip().upper()
    number, unit = (stripped[:-1], stripped[-1]) if stripped[-1:].isalpha() else (stripped, "")
    amount = whole_number(number)
    if amount is not None and unit in _UNITS:
        return amount * _UNITS[unit]
    try:
        return parse_memory(stripped)
    except ValueError as error:
        raise Invalid(f"mem of Slurm scheduler {scheduler}: {error}", hint="write 200G, as for sbatch --mem") from None
