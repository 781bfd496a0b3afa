"""What a runner reads of its allocation in the variables that Slurm sets."""

from __future__ import annotations

from torc.planning.reserve import memory_for_jobs
from torc.schedulers.allotment import Allotment, seconds_kept
from torc.schedulers.slurm.environ import environ_of_jobs, expand_counts, read

MIB = 1 << 20
#: as Slurm 22.05 sets them in a step of one task a node, on the second of two nodes
STEP = {
    "CUDA_VISIBLE_DEVICES": "0,1",
    "GPU_DEVICE_ORDINAL": "0,1",
    "ROCR_VISIBLE_DEVICES": "0,1",
    "ZE_AFFINITY_MASK": "0,1",
    "SLURMD_NODENAME": "n2",
    "SLURM_CONF": "/etc/slurm.conf",
    "SLURM_CPUS_ON_NODE": "3",
    "SLURM_CPUS_PER_TASK": "3",
    "SLURM_GPUS_ON_NODE": "2",
    "SLURM_JOBID": "7",
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_CPUS_PER_NODE": "3(x2)",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_MEM_PER_NODE": "900",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_TMPDIR": "/local",
    "PMI_RANK": "1",
    "SBATCH_PARTITION": "debug",
    "PATH": "/bin",
}


def _read(**fields: str) -> Allotment:
    found = read({**STEP, **fields}, num_cpus=64, memory_bytes=1 << 40)
    assert found is not None
    return found


def test_a_node_of_several_knows_itself_and_the_others() -> None:
    found = _read()
    assert (found.job_id, found.node, found.nodes, found.task, found.num_tasks) == ("7", "n2", ("n1", "n2"), 1, 2)
    assert found.here.num_cpus == 3 and found.here.num_gpus == 2 and found.gpus == ("0", "1") and not found.is_alone
    assert found.here.memory_bytes == memory_for_jobs(900 * MIB) and found.counts_memory
    assert found.scratch == "/local" and found.end_time is None and len(found.gpu_variables) == 4


def test_nodes_may_have_different_numbers_of_cpus_and_memory_by_cpu() -> None:
    found = _read(SLURM_JOB_CPUS_PER_NODE="4,2", SLURM_MEM_PER_NODE="", SLURM_MEM_PER_CPU="500")
    assert [at.num_cpus for at in found.capacities] == [4, 2]
    assert [at.memory_bytes for at in found.capacities] == [memory_for_jobs(2000 * MIB), memory_for_jobs(1000 * MIB)]


def test_the_machine_tells_what_no_variable_says() -> None:
    bare = read({"SLURM_JOB_ID": "1"}, num_cpus=8, memory_bytes=4000 * MIB)
    assert bare is not None and bare.nodes == ("localhost",) and not bare.counts_memory and not bare.gpus
    assert bare.here.num_cpus == 8 and bare.here.memory_bytes == memory_for_jobs(4000 * MIB)
    assert read({}, num_cpus=8, memory_bytes=1) is None
    assert _read(SLURM_JOB_END_TIME="1700000000").end_time == 1.7e9


def test_a_limit_of_the_machine_holds_on_this_node_where_it_is_stricter() -> None:
    found = read(STEP, num_cpus=64, memory_bytes=600 * MIB)
    assert (
        found is not None and found.here.memory_bytes == memory_for_jobs(600 * MIB) < found.capacities[0].memory_bytes
    )


def test_one_runner_for_several_nodes_is_alone() -> None:
    assert _read(SLURM_STEP_NUM_TASKS="1", SLURM_PROCID="0").is_alone


def test_jobs_are_told_where_they_run_and_nothing_of_the_step_of_the_runner() -> None:
    kept = environ_of_jobs(STEP)
    assert kept["SLURM_JOB_ID"] == "7" and kept["SLURM_CONF"] and kept["PATH"] and kept["SLURMD_NODENAME"] == "n2"
    left_out = {"SLURM_JOBID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_MEM_PER_NODE", "PMI_RANK", "SBATCH_PARTITION"}
    assert not left_out & kept.keys()


def test_nodes_are_found_in_lists_with_several_ranges_in_a_name() -> None:
    found = _read(SLURM_JOB_NODELIST="r[1-2]n[08-09]", SLURMD_NODENAME="r2n08", SLURM_JOB_CPUS_PER_NODE="3(x4)")
    assert found.nodes == ("r1n08", "r1n09", "r2n08", "r2n09") and len(found.capacities) == 4


def test_counts_are_expanded_and_the_end_is_kept_free() -> None:
    assert expand_counts("4(x2),3") == (4, 4, 3)
    assert (
        seconds_kept(86_400) == 60
        and seconds_kept(100) == 5
        and seconds_kept(600) == 30
        and seconds_kept(9, 300) == 300
    )
