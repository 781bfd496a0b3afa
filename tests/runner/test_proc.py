"""What is measured of jobs: samples of whole trees, peaks that are theirs and not the runner's, limits, and time series."""

from __future__ import annotations

import os
import re
import resource
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.running import kill_with_spawner, results, run, run_jobs, start_process, store, wait_until
from torc.api.runs import Assignment, Usage
from torc.client.embedded import Embedded
from torc.runner import cgroup
from torc.runner.context import RunnerView
from torc.runner.gpus import Gpus, loads_in
from torc.runner.local_run import RunOptions, run_here
from torc.runner.monitor import Monitor, Monitoring
from torc.runner.proc import ProcessTrees, proportional_bytes
from torc.runner.time_series import recorded
from torc.workflow.resources import ResourceRequest

pytestmark = pytest.mark.usefixtures("processes")

MIB = 1 << 20
HOLD = "import sys; x = b'x' * (40 << 20); open(sys.argv[1], 'w').close(); sys.stdin.read()"
NAME = (7, 1)


@contextmanager
def two_that_hold_memory(folder: Path, between: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Run a session of a shell and two processes of 40 MiB each."""
    python = f'{sys.executable} -c "$0"'
    command = f"exec 3<&0; {between} {python} {folder}/one <&3 & {python} {folder}/two <&3; wait"
    environ = {**os.environ, "TORC_RUNNER": "outer mark", "TORC_JOB_ID": "7", "TORC_ATTEMPT_ID": "1"}
    with subprocess.Popen(
        ["/bin/sh", "-c", command, HOLD], stdin=subprocess.PIPE, start_new_session=True, env=environ
    ) as job:
        wait_until(lambda: all((folder / name).exists() for name in ("one", "two")), "both processes hold memory")
        try:
            yield job
        finally:
            job.communicate()


def test_a_job_smaller_than_the_runner_is_not_recorded_with_the_size_of_the_runner(
    local: Embedded, tmp_path: Path
) -> None:
    own = int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    usage = run_jobs(local, tmp_path, {"name": "a", "command": "true"})["a"].usage
    assert 1 * MIB < usage.peak_memory_bytes < 20 * MIB < own


def test_a_sample_sums_the_processes_of_a_session_and_no_others(tmp_path: Path) -> None:
    trees = ProcessTrees("mark")
    with two_that_hold_memory(tmp_path) as job:
        sample = trees.look({job.pid: NAME})[job.pid]
        assert 80 * MIB < sample.memory_bytes < 160 * MIB and len(sample.pids) == 3
        assert sample.cpu_seconds > 0
    assert trees.look({job.pid: NAME})[job.pid].memory_bytes == 0, "a session that is gone uses nothing"


def test_what_left_the_session_of_its_job_is_counted_for_it(tmp_path: Path) -> None:
    with two_that_hold_memory(tmp_path, between="setsid") as job:
        assert len(ProcessTrees("mark").look({job.pid: NAME})[job.pid].pids) == 3
        assert len(ProcessTrees("mark").look({job.pid: (8, 1)})[job.pid].pids) == 2, "another job's"
        assert len(ProcessTrees("other").look({job.pid: NAME})[job.pid].pids) == 2, "another runner's"


def test_memory_that_processes_share_counts_once_where_a_limit_is_at_stake(tmp_path: Path) -> None:
    program = (
        "import os, sys; x = b'x' * (60 << 20); children = [os.fork() for _ in range(2)] if True else 0\n"
        "open(f'{sys.argv[1]}/{os.getpid()}', 'w').close(); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, start_new_session=True
    ) as job:
        wait_until(lambda: len(list(tmp_path.iterdir())) == 4, "all processes are there")
        sample = ProcessTrees("mark").look({job.pid: NAME})[job.pid]
        assert sample.memory_bytes > 240 * MIB and proportional_bytes(sample) < 130 * MIB
        for limit, is_over in ((150, False), (50, True)):
            monitor = Monitor(Monitoring(enforce_memory=True), "mark")
            request = ResourceRequest(memory_bytes=limit * MIB)
            monitor.prepare(1, Assignment(job_id=7, name="a", attempt=1, command="", request=request), (), [])
            monitor.began(1, job.pid, time.monotonic(), time.time())
            over = monitor.look(time.monotonic())
            assert [each.job_id for each in over] == ([7] if is_over else [])
            monitor.close()
        job.communicate()


def test_a_look_takes_no_more_than_its_share_of_the_time() -> None:
    monitor = Monitor(Monitoring(interval_seconds=0.001), "mark")
    assert monitor.due() is None, "nothing runs"
    monitor.prepare(1, Assignment(job_id=1, name="a", attempt=1, command="", request=ResourceRequest()), (), [])
    assert monitor.due() is None, "it has not begun"
    monitor.began(1, os.getpid(), time.monotonic(), time.time())
    now, before = time.monotonic(), time.thread_time()
    monitor.look(now)
    due = monitor.due()
    assert due is not None and due - now > 50 * min(time.thread_time() - before, 0.001)
    monitor.close()


def test_looks_are_as_far_apart_as_the_spec_says() -> None:
    for seconds in (0.5, 300.0):
        monitor = Monitor(Monitoring(interval_seconds=seconds), "mark")
        monitor.prepare(1, Assignment(job_id=1, name="a", attempt=1, command="", request=ResourceRequest()), (), [])
        monitor.began(1, os.getpid(), 1000.0, time.time())
        monitor.look(1000.0)
        due = monitor.due()
        assert due is not None and seconds <= due - 1000.0 < 2 * seconds + 60.0
        monitor.close()


def test_an_attempt_is_summed_up(local: Embedded, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = f"{sys.executable} -c \"import os, time; x = b'x' * (50 << 20)\nwhile not os.path.exists('{seen}'): time.sleep(.01)\""
    monitor = {"enabled": True, "sample_interval_seconds": 0.05}
    number = store(local, tmp_path, [{"name": "a", "command": f"{program} & wait"}], resource_monitor=monitor)

    def look(view: RunnerView) -> None:
        if any(memory > 50 * MIB for *_, memory in view.running):
            seen.touch()

    run_here(local, number, RunOptions(output_dir=tmp_path / "out", wait_seconds=0.2, display_seconds=0.05), look)
    usage = results(local, number)["a"].usage
    assert usage.max_processes == 2 and usage.average_memory_bytes is not None
    assert 50 * MIB < usage.peak_memory_bytes < 120 * MIB
    assert usage.read_bytes is not None and usage.written_bytes is not None


def test_what_is_written_to_storage_is_counted(local: Embedded, tmp_path: Path) -> None:
    def command(name: str) -> str:
        return f"dd if=/dev/zero of={tmp_path}/{name} bs=1M count=8 conv=fsync 2>/dev/null"

    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock
    subprocess.run(["/bin/sh", "-c", command("here")], check=True)
    here = 512 * (resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock - before)  # nothing where files are in memory
    usage = run_jobs(local, tmp_path, {"name": "a", "command": command("there")})["a"].usage
    assert usage.written_bytes is not None
    assert abs(usage.written_bytes - here) < MIB


def test_nothing_is_sampled_where_the_spec_says_so(local: Embedded, tmp_path: Path) -> None:
    usage = run_jobs(
        local, tmp_path, {"name": "a", "command": "sleep 0.2"}, fields={"resource_monitor": {"enabled": False}}
    )["a"].usage
    assert usage.max_processes is None and usage.peak_memory_bytes > 0, "but for what the kernel counts anyway"


# -- time series ------------------------------------------------------------------------------------------------

SERIES = {"enabled": True, "granularity": "time_series", "sample_interval_seconds": 0.05}


def test_time_series_hold_each_attempt_from_its_start_to_its_end(local: Embedded, tmp_path: Path) -> None:
    jobs = [{"name": "a", "command": "sleep 0.4"}, {"name": "b", "command": "true"}]
    run_jobs(local, tmp_path, *jobs, fields={"resource_monitor": SERIES})
    found = {each.job_name: each for each in recorded(tmp_path / "out", 1)}
    assert set(found) == {"a", "b"} and all(each.points for each in found.values())
    seconds = [point.seconds for point in found["a"].points]
    assert seconds == sorted(seconds) and seconds[-1] >= 0.4
    assert found["a"].request == ResourceRequest() and found["a"].points[-1].cpu_seconds > 0
    assert [path.suffix for path in (tmp_path / "out").glob("resource_metrics_*_wf1_r1_*")] == [".db"]


def test_time_series_survive_the_death_of_their_runner(local: Embedded, tmp_path: Path) -> None:
    number = store(
        local, tmp_path, [{"name": "a", "command": "test $TORC_ATTEMPT_ID = 2 || sleep 600"}], resource_monitor=SERIES
    )
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until(lambda: any(each.points for each in recorded(tmp_path / "out", number)), "samples are on disk")
    kill_with_spawner(process)
    process.communicate()
    assert [each.attempt for each in recorded(tmp_path / "out", number)] == [1]
    run(local, number, tmp_path)
    assert sorted(each.attempt for each in recorded(tmp_path / "out", number, 1)) == [1, 2]
    assert results(local, number)["a"].state.value == "completed"


# -- control groups ---------------------------------------------------------------------------------------------

GREEDY = f"{sys.executable} -c \"x = b'x' * (300 << 20)\""


@pytest.fixture
def groups() -> Iterator[cgroup.Groups]:
    found = cgroup.delegated(f"{os.getpid()}.test")
    if found is None:
        pytest.skip("this machine delegates no control group with an account of memory")
    yield found
    found.close()


def ours(groups: cgroup.Groups) -> list[str]:
    return [path.name for path in groups.root.glob("torc-*")]


def test_the_kernel_keeps_a_job_within_its_memory_and_the_reason_is_told(
    local: Embedded, tmp_path: Path, groups: cgroup.Groups
) -> None:
    request = {"memory": "100m"}
    jobs = [
        {"name": "greedy", "command": GREEDY, "resource_requirements": request},
        {"name": "modest", "command": "echo fine", "resource_requirements": request},
    ]
    found = run_jobs(local, tmp_path, *jobs, fields={"enforce_memory": True})
    greedy, usage = found["greedy"], found["greedy"].usage
    assert (greedy.state.value, greedy.reason) == ("terminated", "out_of_memory")
    assert greedy.detail == "needed more memory than the 100 MiB requested: the kernel killed it at 100 MiB"
    assert usage.memory_limit_bytes == 100 * MIB and usage.oom_kills and 95 * MIB < usage.peak_memory_bytes <= 100 * MIB
    assert found["modest"].state.value == "completed"
    assert ours(groups) == []


def test_a_peak_between_two_samples_is_seen_by_the_kernel_and_files_are_no_part_of_it(
    local: Embedded, tmp_path: Path, groups: cgroup.Groups
) -> None:
    command = f"dd if=/dev/zero of={tmp_path}/data bs=1M count=80 2>/dev/null; {GREEDY} & wait"
    usage = run_jobs(
        local,
        tmp_path,
        {"name": "a", "command": command, "resource_requirements": {"memory": "500m"}},
        fields={"enforce_memory": True},
    )["a"].usage
    assert 300 * MIB < usage.peak_memory_bytes < 360 * MIB
    assert (
        usage.peak_memory_with_cache_bytes is not None and usage.peak_memory_with_cache_bytes > usage.peak_memory_bytes
    )


BEHIND = {
    "a program behind a shell": f"{GREEDY} > table.txt; echo next step",
    "a child of a program": f"{sys.executable} -c 'import subprocess, sys; subprocess.run(sys.argv[1:])' "
    f"{GREEDY}; echo fine",
    "the program itself": f"exec {GREEDY}",
}


def test_a_job_that_lost_a_process_for_its_memory_has_not_completed_whatever_it_made_of_that(
    local: Embedded, tmp_path: Path, groups: cgroup.Groups
) -> None:
    request = {"memory": "100m"}
    jobs = [{"name": name, "command": command, "resource_requirements": request} for name, command in BEHIND.items()]
    found = run_jobs(local, tmp_path, *jobs, fields={"enforce_memory": True})
    ends = {name: (result.state.value, result.reason, result.return_code) for name, result in found.items()}
    assert ends == dict.fromkeys(BEHIND, ("terminated", "out_of_memory", 137))
    assert all(result.usage.oom_kills for result in found.values()) and ours(groups) == []


READS = {
    "that stays": "head -c 300M /dev/zero > data; cat data",
    "that is removed": "head -c 300M /dev/zero > data; cat data; rm data",
    "that is mapped": "head -c 300M /dev/zero > data; "
    f"""{sys.executable} -c 'import mmap, time; f = open("data"); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
sum(m[at] for at in range(0, len(m), 4096)); time.sleep(0.5)'""",
}


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("in_group", [True, False])
def test_a_file_on_disk_is_no_memory_of_the_job_that_reads_it(
    local: Embedded, tmp_path: Path, request: pytest.FixtureRequest, how: str, in_group: bool
) -> None:
    if in_group:
        request.getfixturevalue("groups")
    job = {"name": "a", "command": READS[how], "resource_requirements": {"memory": "1g"}}
    monitor = {"enabled": True, "sample_interval_seconds": 0.1}
    found = run_jobs(local, tmp_path, job, fields={"enforce_memory": in_group, "resource_monitor": monitor})["a"]
    assert found.state.value == "completed" and found.usage.peak_memory_bytes < 60 * MIB
    assert (found.usage.peak_memory_with_cache_bytes is not None) == in_group


def test_files_in_memory_count(local: Embedded, tmp_path: Path, groups: cgroup.Groups, memory_disk: Path) -> None:
    job = {
        "name": "a",
        "command": f"head -c 80M /dev/zero > {memory_disk}/data",
        "resource_requirements": {"memory": "1g"},
    }
    usage = run_jobs(local, tmp_path, job, fields={"enforce_memory": True})["a"].usage
    assert 80 * MIB <= usage.peak_memory_bytes < 120 * MIB


@pytest.fixture
def memory_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        if (
            subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout
            != "tmpfs\n"
        ):
            pytest.skip("this machine has no files in memory")
        yield Path(folder)


V1 = """cache 325058560
rss 5406720
rss_huge 0
shmem 10485760
mapped_file 0
swap 0
pgpgin 4121
total_cache 325058560
total_rss 5406720
total_rss_huge 0
total_shmem 10485760
total_mapped_file 0
"""
V2 = """anon 5406720
file 325058560
kernel 1646592
kernel_stack 49152
shmem 10485760
file_mapped 0
inactive_file 314572800
slab_reclaimable 1219624
"""


def test_both_versions_of_control_groups_say_the_same_of_the_same_memory() -> None:
    of_process, of_files_in_memory = 5406720, 10485760
    for names, written in ((cgroup._V1, V1), (cgroup._V2, V2)):
        assert cgroup.kept_bytes(written, names.kept) == of_process + of_files_in_memory
        assert cgroup.kept_bytes("", names.kept) == 0


@pytest.mark.parametrize("names", [cgroup._V1, cgroup._V2])
def test_a_group_of_either_version_is_accounted_from_its_files(tmp_path: Path, names: cgroup._Names) -> None:
    files = {
        "memory.stat": V1 if names is cgroup._V1 else V2,
        names.peak: "340000000\n",
        names.events: "low 0\noom_kill 2\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    group = cgroup.Cgroup(tmp_path, names, 100 * MIB)
    assert group.account() == cgroup.CgroupUsage(15892480, 340000000, 2)


def test_groups_of_runners_that_died_are_removed(groups: cgroup.Groups) -> None:
    left = groups.root / "torc-1.1@1.00000000-5"  # no process 1 began then
    left.mkdir()
    again = cgroup.delegated(f"{os.getpid()}.again")
    assert again is not None and not left.exists()
    again.close()


def test_a_runner_goes_back_to_its_group_where_the_kernel_keeps_no_peaks(tmp_path: Path) -> None:
    own = str(os.getpid())
    for name, text in (("controllers", "cpu memory"), ("subtree_control", ""), ("procs", own)):
        (tmp_path / f"cgroup.{name}").write_text(text)
    assert cgroup._second(tmp_path, f"{own}.test") is None  # before Linux 5.19: no memory.peak
    assert (tmp_path / "cgroup.procs").read_text() == own
    assert (tmp_path / "cgroup.subtree_control").read_text() == "-memory"


def test_where_no_group_can_be_made_attempts_start_as_ever(tmp_path: Path) -> None:
    made = cgroup.Groups(tmp_path / "missing", cgroup._V2, "mark")
    assert made.make(1, MIB) is None


# -- GPUs -------------------------------------------------------------------------------------------------------


def test_loads_of_gpus_are_read_as_nvidia_smi_writes_them() -> None:
    assert loads_in("1, GPU-5a, 50, 1024") == {
        "1": loads_in("1, GPU-5a, 50, 1024")["GPU-5a"],
        "GPU-5a": loads_in("1, GPU-5a, 50, 1024")["1"],
    }
    found = loads_in("0, GPU-5a, [N/A], 12")["0"]
    assert (found.busy, found.memory_bytes) == (0.0, 12 * MIB)
    assert loads_in("No devices were found") == {}


def test_an_attempt_is_told_the_load_of_the_gpus_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-aa11, 50, 1000'\necho '1, GPU-bb22, 100, 24'\nexec sleep 600\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    gpus = Gpus(1.0)
    wait_until(lambda: gpus.load(["0"]) is not None, "the program has reported")
    both = gpus.load(["0", "GPU-bb"])
    assert both is not None and (both.busy, both.memory_bytes) == (1.5, 1024 * MIB)
    assert gpus.load(["5"]) is None and len(gpus.pids) == 1
    gpus.close()


def test_without_gpus_nothing_is_known_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    gpus = Gpus(1.0)
    assert gpus.load(["0"]) is None and gpus.pids == set()
    gpus.close()


def test_usage_without_a_look_is_that_of_the_kernel() -> None:
    monitor = Monitor(Monitoring(), "mark")
    monitor.prepare(1, Assignment(job_id=1, name="a", attempt=1, command="", request=ResourceRequest()), (), [])
    usage = Usage(user_cpu_seconds=1.0, peak_memory_bytes=5)
    assert monitor.ended(1, usage, 0, (0.0, 0.0)) == (usage, None)
    monitor.close()
