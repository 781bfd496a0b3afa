"""What an allocation of Slurm may ask for beside what every scheduler knows. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torc.errors import Invalid
from torc.planning import sbatch_options
from torc.planning.sbatch_options import SbatchOption
from torc.planning.scheduler_types import SchedulerName
from torc.schedulers.request import AllocationRequest

#: other ways to ask for GPUs than by node: how many each node gets is Slurm's choice
_GPUS = frozenset({"gres", "gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "tres-per-task"})
_MEMORY = frozenset({"mem", "mem-per-cpu", "mem-per-gpu", "exclusive"})


@dataclass(frozen=True, slots=True)
class SlurmRequest(AllocationRequest):
    """An allocation to ask Slurm for."""

    type: ClassVar[SchedulerName] = "slurm"

    gpu_type: str | None = None
    gpu_option: str = "gres"
    gres: str | None = None  # as a spec wrote it; else made from the GPUs
    constraint: str | None = None
    tmp: str | None = None
    ntasks_per_node: int | None = None
    extra: str | None = None  # as a spec wrote it: further sbatch options
    options: tuple[tuple[str, str | None], ...] = ()  # long sbatch options: slurm_defaults

    @classmethod
    def recorded(cls, values: Mapping[str, Any]) -> Self:
        """Read what `record` wrote, whose pairs JSON has made lists of."""
        options = tuple((name, value) for name, value in values.get("options") or ())
        return super(SlurmRequest, cls).recorded({**values, "options": options})

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
    def elsewhere(self) -> str | None:
        """Other clusters that it names, as Slurm's commands take them. The later one holds, as in the script."""
        try:
            written = self.by_user
        except Invalid:  # recorded by another version; following must go on
            return None
        named = [option.value for option in written if option.name in {"clusters", "cluster"}]
        return named[-1] if named else None

    @property
    def says_memory(self) -> bool:
        """Return whether an sbatch option of the user asks for memory."""
        return any(option.name in _MEMORY for option in self.by_user)

    @property
    def leaves_gpus(self) -> bool:
        """Return whether an sbatch option of the user asks for GPUs."""
        return self.gres is not None or any(option.name in _GPUS for option in self.by_user)
