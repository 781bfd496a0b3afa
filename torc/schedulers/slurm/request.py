"""One allocation to ask for: what plans give and `submission` takes. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from torc.errors import Invalid
from torc.planning import sbatch_options
from torc.planning.sbatch_options import SbatchOption

#: other ways to ask for GPUs than by node: how many each node gets is Slurm's choice
_GPUS = frozenset({"gres", "gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "tres-per-task"})
_MEMORY = frozenset({"mem", "mem-per-cpu", "mem-per-gpu", "exclusive"})


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
    def by_user(self) -> tuple[SbatchOption, ...]:
        """The sbatch options that the user has written; what a scheduler says in `extra` replaces the defaults. Raises Invalid."""
        try:
            own = sbatch_options.read(self.extra or "")
        except ValueError as error:
            raise Invalid(
                f"`extra` of Slurm scheduler {self.scheduler or self.name}: {error}", hint="write it as for sbatch"
            ) from None
        replaced = {option.name for option in own} - {"exclude"}
        return (*(SbatchOption(name, value) for name, value in self.options if name not in replaced), *own)

    @property
    def clusters(self) -> str | None:
        """Other clusters than this machine's that it names, as Slurm's commands take them. The later one holds, as in the script."""
        try:
            written = self.by_user
        except Invalid:  # recorded by another version; following must go on
            return None
        named = [option.value for option in written if option.name in {"clusters", "cluster"}]
        return named[-1] if named else None

    @property
    def says_memory(self) -> bool:
        """Tell whether memory is asked for in the user's own words."""
        return any(option.name in _MEMORY for option in self.by_user)

    @property
    def leaves_gpus_to_slurm(self) -> bool:
        """Return whether GPUs are asked for in the user's own words, so that Torc asks for none beside them."""
        return self.gres is not None or any(option.name in _GPUS for option in self.by_user)
