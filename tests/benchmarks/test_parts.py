"""The parts of the benchmarks that reckon: gaps, percentiles, the table, the kernel's account."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks import processes, specs
from benchmarks.measures.gaps import empty_slots
from benchmarks.percentiles import percentile
from benchmarks.rows import Row, table


def test_a_gap_is_between_an_end_and_the_start_that_it_makes_room_for() -> None:
    two_slots = [(0.0, 1.0), (0.0, 2.0), (1.25, 3.0), (2.5, 4.0)]
    assert empty_slots(two_slots, 2) == [0.25, 0.5]
    assert empty_slots([(0.0, 1.0), (1.5, 2.0), (2.125, 3.0)], 1) == [0.5, 0.125]


def test_a_percentile_is_a_value_that_occurred() -> None:
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0
    assert percentile([3.0, 1.0], 50) == 1.0
    assert percentile([7.0], 99) == 7.0


def test_the_table_says_plainly_which_targets_were_missed() -> None:
    rows = [Row("a", "1 s", "x 2 s", 0.5, "<= 1 s", True), Row("long name", "9 s", target="<= 1 s", met=False)]
    head, rule, first, second = table(rows).splitlines()
    assert head.split() == ["measure", "value", "yardstick", "ratio", "target", "met?"]
    assert set(rule) == {"-", " "}
    assert first.endswith("yes")
    assert second.endswith("NO")


@pytest.mark.usefixtures("processes")
def test_the_account_of_a_command_is_the_kernels(tmp_path: Path) -> None:
    busy = [sys.executable, "-c", "block = bytearray(b'x') * (300 << 20); sum(range(10**6))"]
    account = processes.run(busy, tmp_path)
    assert account.peak_bytes > 300 << 20
    assert account.cpu_seconds > 0
    assert account.wall_seconds > 0


@pytest.mark.usefixtures("processes")
def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(processes.CommandFailed, match="ended with 3:\nbroken"):
        processes.run(["sh", "-c", "echo broken; exit 3"], tmp_path)


def test_own_cpu_leaves_out_children() -> None:
    before = processes.own_cpu_seconds(os.getpid())
    sum(range(3 * 10**6))
    after = processes.own_cpu_seconds(os.getpid())
    assert after > before


def test_the_written_out_spec_has_the_jobs_that_it_promises() -> None:
    spec = specs.written_out(250)
    assert len(spec["jobs"]) == 250
    assert spec["jobs"][200]["depends_on"] == ["job_100"]
    assert len(specs.chain(3)["jobs"]) == 3
