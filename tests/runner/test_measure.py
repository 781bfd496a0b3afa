"""What is measured of jobs: samples of whole trees, and peaks that are theirs and not the runner's."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from tests.support.running import run_jobs, wait_until
from torc.api.runs import Usage
from torc.client.embedded import Embedded
from torc.runner.measure import Sampler

MIB = 1 << 20


def test_a_job_smaller_than_the_runner_is_not_recorded_with_the_size_of_the_runner(
    local: Embedded, tmp_path: Path
) -> None:
    own = int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]) * 1024
    usage = run_jobs(local, tmp_path, {"name": "a", "command": "true"})["a"].usage
    assert 1 * MIB < usage.peak_memory_bytes < 20 * MIB < own


def test_a_sample_sums_the_processes_of_a_session_and_no_others(tmp_path: Path) -> None:
    hold = "import sys; x = b'x' * (40 << 20); open(sys.argv[1], 'w').close(); sys.stdin.read()"
    command = f'{sys.executable} -c "$0" {tmp_path}/one & {sys.executable} -c "$0" {tmp_path}/two < /dev/stdin; wait'
    with subprocess.Popen(["/bin/sh", "-c", f"exec 3<&0; {command.replace(' & ', ' <&3 & ')}", hold],
                          stdin=subprocess.PIPE, start_new_session=True) as job:  # fmt: skip
        wait_until(lambda: all((tmp_path / name).exists() for name in ("one", "two")), "both processes hold memory")
        sampler = Sampler(1.0)
        sampler.sample({job.pid}, now := time.monotonic())
        assert sampler.due >= now + 1.0
        assert 80 * MIB < sampler.memory_of(job.pid) < 160 * MIB
        job.communicate()
    sampler.sample({job.pid}, time.monotonic())
    assert sampler.memory_of(job.pid) == 0, "a session that is gone uses nothing"
    usage = sampler.close(job.pid, Usage())
    assert 80 * MIB < usage.peak_memory_bytes < 160 * MIB, "the peak stays"
    assert usage.average_memory_bytes == usage.peak_memory_bytes // 2
    assert usage.max_processes == 3
