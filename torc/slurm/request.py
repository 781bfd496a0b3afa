"""One allocation to ask for: what plans give and `submit` takes. Values only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torc.core import sbatch
from torc.core.sbatch import Option
from torc.errors import Invalid

_CLUSTERS = re.compile(r"(?:^|\s)(?:--clusters?[=\s]\s*|-M\s*)(\S+)")


@dataclass(frozen=True, slots=True)
class AllocationRequest:
    """An allocation to ask Slurm for, in which runners will live. What is None is left to Slurm."""

    name: str  # for people: shown by squeue
    walltime_seconds: int
    num_nodes: int = 1
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    cpus_per_node: int | None = None  # None: whole nodes
    memory_bytes_per_node: int | None = None  # None: all that a node has, or the default of the cluster
    gpus_per_node: int = 0
    gpu_type: str | None = None
    gpu_option: str = "gres"
    gres: str | None = None  # as a spec wrote it; else made from the GPUs
    constraint: str | None = None
    exclude: tuple[str, ...] = ()  # nodes
    tmp: str | None = None
    ntasks_per_node: int | None = None
    extra: str | None = None  # as a spec wrote it: further sbatch options
    options: tuple[tuple[str, str | None], ...] = ()  # long sbatch options: slurm_defaults
    scheduler: str | None = None  # the runners take jobs that name it, beside those that name none
    start_one_worker_per_node: bool = True
    max_parallel_jobs: int | None = None

    @property
    def by_user(self) -> tuple[Option, ...]:
        """The sbatch options that the user has written; a later one holds. Raises Invalid."""
        try:
            return (*sbatch.read(self.extra or ""), *(Option(name, value) for name, value in self.options))
        except ValueError as error:
            raise Invalid(
                f"`extra` of Slurm scheduler {self.scheduler or self.name}: {error}", hint="write it as for sbatch"
            ) from None

    @property
    def clusters(self) -> str | None:
        """Other clusters than this machine's that it names, as Slurm's commands take them. The later one holds, as in the script."""
        named = [value for name, value in self.options if name in {"clusters", "cluster"}]
        found = named or _CLUSTERS.findall(self.extra or "")
        return found[-1] if found else None
