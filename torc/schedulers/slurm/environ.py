"""What an allocation of Slurm gives to a runner, read from the variables that Slurm sets. Pure: variables in, values out.

Not for how long it lasts where no variable says so: `torc.schedulers.slurm` asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torc import hostlist
from torc.planning.reserve import memory_for_jobs
from torc.schedulers.allotment import Allotment
from torc.units import whole_number
from torc.workflow.resources import Capacity

_MIB = 1 << 20
_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")
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
