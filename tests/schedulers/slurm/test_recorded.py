"""What Slurm of several versions printed, read alike. `recorded/README.md` tells where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from torc.planning.allocations import AllocationState, phase_of
from torc.schedulers.slurm import discovery, output_parser

HERE = Path(__file__).parent / "recorded"
VERSIONS = ["20.11", "22.05", "24.11"]
GIB = 1 << 30


def read(version: str, name: str) -> str:
    return (HERE / version / f"{name}.txt").read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_queue_reads_alike(version: str) -> None:
    text = read(version, "squeue")
    rows = output_parser.parse_squeue(text)
    assert len(rows) == len(text.splitlines())
    states = {(row.name, row.id.task, row.id.het): row.state for row in rows if row.name not in {"hungry", "steps"}}
    waiting = {("array", task, None): "PENDING" for task in range(2, 6)}
    assert states == {
        ("ok", None, None): "COMPLETED",
        ("fails", None, None): "FAILED",
        ("canceled", None, None): "CANCELLED",
        ("dead", None, None): "NODE_FAIL",
        ("held", None, None): "PENDING",
        ("too long", None, None): "PENDING",
        ("late", None, None): "PENDING",
        ("het", None, 0): "PENDING",
        ("het", None, 1): "PENDING",
        ("array", 0, None): "RUNNING",
        ("array", 1, None): "RUNNING",
        **waiting,
        ("a|name with | bars", None, None): "RUNNING",
    }
    assert all(phase_of(row.state) is not None for row in rows)
    by_name = {row.name: row for row in rows}
    bars = by_name["a|name with | bars"]
    assert bars.nodes[0].endswith("n2") and bars.walltime_seconds == 600 and bars.num_nodes == 1
    assert bars.ends_at is not None and bars.starts_at is not None and bars.ends_at - bars.starts_at == 600
    assert (by_name["held"].reason, by_name["held"].starts_at) == ("JobHeldUser", None)
    assert (by_name["too long"].reason, by_name["too long"].walltime_seconds) == ("PartitionTimeLimit", 864000)
    folded = {row.id.tasks for row in output_parser.parse_squeue(read(version, "squeue-folded"))}
    assert folded == {None, "2-5%2"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_accounting_reads_alike(version: str) -> None:
    text = read(version, "sacct")
    rows = output_parser.parse_sacct(text)
    assert len(rows) == len(text.splitlines())
    jobs = {(row.name, row.id.task): row for row in rows if row.id.step is None}
    ok, fails, bars = jobs["ok", None], jobs["fails", None], jobs["a|name with | bars", None]
    assert (ok.state, ok.exit_code, ok.exit_signal) == ("COMPLETED", 0, 0)
    assert (fails.state, fails.exit_code) == ("FAILED", 3)
    assert (bars.state, bars.ended_at, bars.num_gpus) == ("RUNNING", None, 1)
    assert {row.requested_memory_bytes for row in (ok, fails, bars)} == {100 << 20}
    assert (jobs["canceled", None].state, jobs["canceled", None].canceled_by) == ("CANCELLED", 0)
    assert (jobs["dead", None].state, jobs["too long", None].nodes) == ("NODE_FAIL", ())
    assert jobs["array", 0].elapsed_seconds == 15 and jobs["array", 0].walltime_seconds == 600
    steps = {(row.id.job, row.id.step) for row in rows}
    assert {(ok.id.job, "batch"), (ok.id.job, "0")} <= steps
    sampled = next(row for row in rows if row.id.step == "batch" and row.max_rss_bytes)
    assert sampled.max_rss_bytes is not None and (64 << 10) < sampled.max_rss_bytes < (8 << 20)


def test_running_out_of_memory_as_accounting_tells_it() -> None:
    rows = {(row.name, row.id.step): row for row in output_parser.parse_sacct(read("22.05", "sacct"))}
    hungry = rows["hungry", None]
    assert (hungry.state, hungry.exit_code, hungry.exit_signal) == ("OUT_OF_MEMORY", 0, 125)
    steps, victim = rows["steps", None], rows["python3", "0"]
    assert (steps.state, steps.derived_exit_code) == ("COMPLETED", (0, 125))
    assert (victim.state, victim.exit_signal) == ("OUT_OF_MEMORY", 125)


@pytest.mark.parametrize("version", VERSIONS)
def test_clusters_tell_of_themselves_alike(version: str) -> None:
    config = dict(line.split(" = ", 1) for line in read(version, "config").splitlines())
    config = {name.strip(): value for name, value in config.items()}
    cluster = discovery.cluster_from(
        config,
        output_parser.parse_scontrol(read(version, "partitions")),
        output_parser.parse_scontrol(read(version, "nodes")),
    )
    debug, short = cluster.partitions
    assert (cluster.name, debug.name, debug.is_default, short.name) == ("sandbox", "debug", True, "short")
    assert (debug.cpus_per_node, debug.memory_bytes_per_node, debug.gpus_per_node) == (4, 4000 << 20, 2)
    assert (debug.max_walltime_seconds, short.max_walltime_seconds, short.default_walltime_seconds) == (86400, 300, 60)


@pytest.mark.parametrize("version", VERSIONS)
def test_single_answers_read_alike(version: str) -> None:
    (job,) = output_parser.parse_scontrol(read(version, "job"))
    assert (job.text("JobName"), job.number("Restarts"), job.text("Dependency")) == ("late", 1, "")
    estimate = output_parser.parse_test_only(read(version, "test-only"))
    assert estimate is not None and estimate.starts_at is not None and len(estimate.nodes) == 2
    assert "Invalid job id specified" in read(version, "unknown-job")
    assert output_parser.parse_squeue(read(version, "controller-away")) == []


def test_what_manuals_tell_of_other_ends() -> None:
    rows = {row.name: row for row in output_parser.parse_sacct(read("documented", "sacct"))}
    states = {name: row.state for name, row in rows.items() if row.id.step is None}
    assert states == {
        "timeout": "TIMEOUT",
        "preempted": "PREEMPTED",
        "boots not": "BOOT_FAIL",
        "too late": "DEADLINE",
        "a|b": "CANCELLED",
        "again": "REQUEUED",
        "dead": "NODE_FAIL",
    }
    assert [phase_of(rows[name].state) for name in ("again", "dead")] == [
        AllocationState.PENDING,
        AllocationState.ENDED,
    ]
    timeout, batch = rows["timeout"], rows["batch"]
    assert (timeout.num_gpus, timeout.cpu_seconds, timeout.nodes) == (8, 93784, ("e01", "e02"))
    assert batch.max_rss_bytes == 3 * GIB // 2 and rows["preempted"].requested_memory_bytes is None
    assert rows["boots not"].walltime_seconds is None and rows["boots not"].started_at is None
    queue = {row.name: row for row in output_parser.parse_squeue(read("documented", "squeue"))}
    assert {name: row.cluster for name, row in queue.items()} == {
        "federated": "east",
        "revoked": "east",
        "waits|for nodes": "west",
        "cut": "west",
        "burst": "west",
        "preempted": "west",
    }
    assert queue["federated"].nodes == ("e01", "e02", "e03") and queue["cut"].walltime_seconds is None
