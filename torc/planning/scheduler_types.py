"""The batch schedulers that Torc knows, and what specs, the store and files call what is theirs. Pure.

What a scheduler does is in `torc.schedulers`. Its names are here, because specs are read and stored below that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SchedulerName = Literal["slurm"]


@dataclass(frozen=True, slots=True)
class SchedulerType:
    """A batch scheduler. Its name is the `scheduler_type` of actions and the kind of the runners in its allocations."""

    name: SchedulerName
    label: str  # for people
    variables: tuple[str, ...]  # prefixes of what it sets in the environment of jobs
    job_variable: str  # of these, the one with the id of the job

    @property
    def noun(self) -> str:
        """What messages call an allocation that a spec describes."""
        return f"{self.label} scheduler"

    @property
    def spec_field(self) -> str:
        """The field of a spec that lists such allocations."""
        return f"{self.name}_schedulers"

    @property
    def row_kind(self) -> str:
        """The kind of such allocations among the named objects of the store, and their node in KDL."""
        return f"{self.name}_scheduler"

    @property
    def defaults_field(self) -> str:
        """The field of a spec with the options of all its allocations."""
        return f"{self.name}_defaults"

    @property
    def commands(self) -> str:
        """The command that lists such allocations of a workflow."""
        return f"{self.name}-schedulers"

    @property
    def log_prefix(self) -> str:
        """How the names of the logs of allocations begin: `slurm_output_wf{workflow}_sl{job}.o` and `.e`."""
        return f"{self.name}_output_"


#: the first is meant where nothing says which
SCHEDULER_TYPES: Mapping[str, SchedulerType] = {
    each.name: each
    for each in (SchedulerType("slurm", "Slurm", ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_"), "SLURM_JOB_ID"),)
}
DEFAULT_TYPE = next(iter(SCHEDULER_TYPES.values()))
ROW_KINDS: Mapping[str, SchedulerType] = {each.row_kind: each for each in SCHEDULER_TYPES.values()}

#: the logs of allocations, as patterns of file names
ALLOCATION_LOGS = tuple(f"{each.log_prefix}*" for each in SCHEDULER_TYPES.values())
#: what messages call what a job names, where they cannot know its type
SCHEDULER_NOUN = " or ".join(each.noun for each in SCHEDULER_TYPES.values())


def is_in_allocation(runner_kind: str) -> bool:
    """Return whether runners of a kind are in allocations, which end at a known time."""
    return runner_kind in SCHEDULER_TYPES
