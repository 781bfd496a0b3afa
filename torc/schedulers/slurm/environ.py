"""What an allocation of Slurm gives to a runner, read from the variables that Slurm sets. Pure: variables in, values out.

Not for how long it lasts where no variable says so: `torc.schedulers.slurm` asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torc import hostlist
from torc.planning.reserve import END_SECONDS, memory_for_jobs
from torc.units import whole_number
from torc.workflow.resources import Capacity

_MIB = 1 << 20
_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")
_SHARE_OF_TIME, _LEAST_SECONDS = 0.05, 5.0
#: in the order in which the names of GPUs are looked for
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")
_GPU_LISTS = (*GPU_VARIABLES, "SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
#: what says where a job runs. The rest describes the runner's own step, and is read as options by `srun`, `sbatch` and `mpirun`:
#: a program that finds SLURM_NTASKS takes itself for one of so many
_KEPT = frozenset(
    {
        "SLURM_CONF",
        "SLURM_JOB_ID",
        "SLURM_JOB_NAME",
        "SLURM_JOB_USER",
        "SLURM_JOB_UID",
        "SLURM_JOB_GID",
        "SLURM_JOB_ACCOUNT",
        "SLURM_JOB_PARTITION",
        "SLURM_JOB_QOS",
        "SLURM_JOB_START_TIME",
        "SLURM_JOB_END_TIME",
        "SLURM_CLUSTER_NAME",
        "SLURM_TMPDIR",
        "SLURM_SUBMIT_DIR",
        "SLURM_SUBMIT_HOST",
        "SLURMD_NODENAME",
        "SLURM_TOPOLOGY_ADDR",
    }
)
_OF_SLURM = (
    "SLURM",
    "SBATCH_",
    "SRUN_",
    "SALLOC_",
    "SQUEUE_",
    "SACCT_",
    "SCANCEL_",
    "SINFO_",
    "PMI_",
    "PMI2_",
    "PMIX_",
)


@dataclass(frozen=True, slots=True)
class Allotment:
    """An allocation, seen from one of its nodes. `capacities`: what each node has for jobs, in the order of `nodes`."""

    job_id: str
    node: str
    nodes: tuple[str, ...]
    task: int  # of the runners that `srun` started, which one this is
    num_tasks: int
    capacities: tuple[Capacity, ...]
    gpus: tuple[str, ...]  # on this node, by name
    gpu_variables: tuple[str, ...]
    counts_memory: bool
    end_time: float | None
    scratch: str | None

    @property
    def here(self) -> Capacity:
        """Return what this node has for jobs."""
        return self.capacities[self.nodes.index(self.node)]

    @property
    def is_alone(self) -> bool:
        """Return whether this is the only runner of an allocation of several nodes."""
        return self.num_tasks == 1 and len(self.nodes) > 1

    def at_most(self, wait_seconds: float, now: float) -> float:
        """Shorten a wait so that it ends before the time in which nothing runs any more."""
        if self.end_time is None:
            return wait_seconds
        left = self.end_time - now
        return max(0.0, min(wait_seconds, left - seconds_kept(left)))


def read(environ: Mapping[str, str], *, num_cpus: int, memory_bytes: int) -> Allotment | None:
    """Read an allocation from its variables; None: this is none. The rest is what the machine itself says of this node."""
    job_id = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID")
    if not job_id:
        return None
    nodes = hostlist.expand(environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST") or "")
    node = environ.get("SLURMD_NODENAME") or (nodes[0] if nodes else "localhost")
    if node not in nodes:
        nodes = (node,)
    cpus = expand_counts(environ.get("SLURM_JOB_CPUS_PER_NODE", ""))
    if len(cpus) != len(nodes):
        cpus = (_number(environ.get("SLURM_CPUS_ON_NODE")) or num_cpus,) * len(nodes)
    gpus = _gpus(environ)
    per_node, per_cpu = _number(environ.get("SLURM_MEM_PER_NODE")), _number(environ.get("SLURM_MEM_PER_CPU"))
    capacities = tuple(
        Capacity(count, memory_for_jobs(_memory(count, per_node, per_cpu, memory_bytes, at == node)), len(gpus))
        for count, at in zip(cpus, nodes, strict=True)
    )
    end = environ.get("SLURM_JOB_END_TIME", "")
    return Allotment(
        job_id,
        node,
        nodes,
        _number(environ.get("SLURM_PROCID")) or 0,
        _number(environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS")) or 1,
        capacities,
        gpus,
        tuple(name for name in GPU_VARIABLES if environ.get(name)) or GPU_VARIABLES[:1],
        bool(per_node or per_cpu),
        None if whole_number(end) is None else float(end),
        environ.get("SLURM_TMPDIR") or None,
    )


def environ_of_jobs(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of a runner's environment its jobs get: the step that the runner itself is, is not theirs."""
    return {name: value for name, value in environ.items() if name in _KEPT or not name.startswith(_OF_SLURM)}


def seconds_kept(left_seconds: float, wanted: float | None = None) -> float:
    """Return the time before the end of an allocation in which nothing runs any more but what saves its work."""
    if wanted is not None:
        return wanted
    return min(END_SECONDS, max(_LEAST_SECONDS, _SHARE_OF_TIME * left_seconds))


def expand_counts(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `4(x2),3`: one for each node."""
    return tuple(int(number) for number, times in _COUNT.findall(text) for _ in range(int(times or 1)))


def _memory(num_cpus: int, per_node: int | None, per_cpu: int | None, found: int, is_here: bool) -> int:
    asked = per_node * _MIB if per_node else per_cpu * num_cpus * _MIB if per_cpu else found
    return min(asked, found) if is_here else asked


def _gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    for variable in _GPU_LISTS:
        names = [name.strip() for name in environ.get(variable, "").split(",")]
        names = [name for name in names if name and name != "NoDevFiles"]
        if names:
            return tuple(dict.fromkeys(names))
    return tuple(map(str, range(_number(environ.get("SLURM_GPUS_ON_NODE")) or 0)))


def _number(text: str | None) -> int | None:
    return whole_number(text)
