"""What of a node a runner may use: the real machine's files, and folders laid out like those of other machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torc.processes import start_ticks
from torc.runner import hardware

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the control groups of a machine of the test's own looked at: files are the interface that the kernel gives."""
    monkeypatch.setattr(hardware, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(hardware, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    return tmp_path


def _lay(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def test_this_machine_has_something_and_no_more_than_it_has() -> None:
    capacity, _ = hardware.node()
    assert 1 <= capacity.num_cpus <= len(os.sched_getaffinity(0))
    assert 0 < capacity.memory_bytes < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_the_strictest_group_of_version_2_holds_wherever_it_is(machine: Path) -> None:
    _lay(
        machine,
        {
            "proc/cgroup": "0::/slice/job/step",
            "cgroup/slice/cpu.max": "400000 100000",
            "cgroup/slice/memory.max": "max",
            "cgroup/slice/job/cpu.max": "max 100000",
            "cgroup/slice/job/memory.max": str(2 * GIB),
            "cgroup/slice/job/step/memory.max": "max",
        },
    )
    capacity, _ = hardware.node()
    assert capacity.num_cpus == 4
    assert 1.9 * GIB < capacity.memory_bytes < 2 * GIB, "some is kept for the system"


def test_groups_of_version_1_limit_too_and_what_is_no_limit_does_not(machine: Path) -> None:
    _lay(
        machine,
        {
            "proc/cgroup": "4:memory:/jobs/7\n3:cpuset:/\n1:cpu,cpuacct:/jobs/7\n0::/",
            "cgroup/memory/jobs/7/memory.limit_in_bytes": str(GIB),
            "cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "cgroup/cpu/jobs/7/cpu.cfs_quota_us": "150000",
            "cgroup/cpu/jobs/7/cpu.cfs_period_us": "50000",
            "cgroup/cpu/cpu.cfs_quota_us": "-1",
            "cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    capacity, _ = hardware.node()
    assert capacity.num_cpus == 3
    assert capacity.memory_bytes < GIB


def test_in_a_container_the_root_is_its_own_group(machine: Path) -> None:
    _lay(machine, {"proc/cgroup": "0::/../../elsewhere", "cgroup/cpu.max": "50000 100000"})
    assert hardware.node()[0].num_cpus == 1, "less than one CPU is one"


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("0,1", ("0", "1")),
        (" 3 , 2 ", ("3", "2")),
        ("GPU-8932f937-d72c,MIG-a1b2/3/0", ("GPU-8932f937-d72c", "MIG-a1b2/3/0")),
        ("0,-1,1", ("0",)),
        ("1,1", ("1",)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
    ],
)
def test_gpus_are_those_that_are_visible_by_index_or_name(
    visible: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.gpu_names() == names


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("script", "names"), [("echo 0; echo 1", ("0", "1")), ("echo No devices were found", ()), ("exit 9", ())]
)
def test_else_gpus_are_what_nvidia_smi_lists(
    script: str, names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert hardware.gpu_names() == names


@pytest.mark.usefixtures("processes")
def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    me = hardware.identity()
    assert me.pid == os.getpid()
    assert me.process_started.startswith(f"{start_ticks(os.getpid())}@")
