"""`torc submit --dry-run` and `torc slurm generate`, for clusters that only a profile knows. Real clusters: tests/schedulers/slurm."""

from __future__ import annotations

import pytest

from tests.support.program import Program
from torc.cli import cluster_access
from torc.client.embedded import Embedded
from torc.errors import Unavailable
from torc.store.engine import Store, open_store

SPEC = """
name: staged
parameters: {i: "1:8"}
resource_requirements:
  - {name: small, memory: 200m, runtime: PT1H}
  - {name: train, num_cpus: 32, num_gpus: 1, memory: 80g, runtime: PT3H}
files: [{name: data, path: data.txt}, {name: "model_{i}", path: "model_{i}.txt", use_parameters: [i]}]
jobs:
  - {name: prepare, command: echo raw > data.txt, resource_requirements: small, output_files: [data]}
  - {name: "train_{i}", command: "cp data.txt model_{i}.txt", use_parameters: [i], resource_requirements: train,
     input_files: [data], output_files: ["model_{i}"]}
  - {name: report, command: "cat model_*.txt", resource_requirements: small, use_parameters: [i], input_files: ["model_{i}"]}
"""
EMBEDDED = pytest.mark.parametrize("program", ["embedded"], indirect=True)
ON = ("--profile", "kestrel", "--account", "climate")


@EMBEDDED
def test_a_dry_run_shows_the_plan_and_the_very_scripts_and_stores_nothing(program: Program) -> None:
    spec = program.write("staged.yaml", SPEC)
    shown = program("submit", spec, *ON, "--dry-run", "--no-estimate").stdout
    assert "plan for NREL Kestrel (profile kestrel): 10 jobs" in shown
    assert "gpu-h100s" in shown and "when train of stage 2 are ready" in shown
    assert "16.0 node-hours" not in shown and "allocation units" in shown
    assert shown.count("#!/bin/bash") == 3
    assert "#SBATCH --gres=gpu:4" in shown and "#SBATCH --account=climate" in shown
    assert "--no-requeue" in shown and "TORC_TOKEN_FILE" not in shown
    found = program("submit", spec, *ON, "--dry-run", "--no-estimate", "-f", "json").json
    assert [item["partition"] for item in found["allocations"]] == ["short", "gpu-h100s", "short"]
    assert len(found["scripts"]) == 3
    assert not (program.directory / ".torc").exists()


@EMBEDDED
def test_what_cannot_run_there_is_refused_with_the_nearest(program: Program) -> None:
    spec = program.write("staged.yaml", SPEC)
    refused = program("submit", spec, "--profile", "dane", "-A", "x", "--dry-run", "--no-estimate", code=2)
    assert "8 jobs of class train fit into no partition of LLNL Dane" in refused.stderr
    assert "nearest is" in refused.stderr and "1 GPU on a node (it has none)" in refused.stderr
    named = program("submit", spec, *ON, "-p", "short", "--dry-run", "--no-estimate", code=2)
    assert "gpu-h100s fits, but another one was named: --partition gpu-h100s" in named.stderr
    for words, said in (
        (("--group-by", "color"), "choose resource-requirements or partition"),
        (("--walltime-multiplier", "0.1"), "jobs would be cut off"),
        (("--profile", "kestrl"), "did you mean `kestrel`"),
    ):
        assert said in program("submit", spec, *ON, *words, "--dry-run", code=None).stderr


@EMBEDDED
@pytest.mark.parametrize("suffix", ["yaml", "kdl"])
def test_a_generated_spec_says_what_was_planned_and_is_obeyed(program: Program, suffix: str) -> None:
    spec = program.write("staged.yaml", SPEC)
    program("slurm", "generate", spec, *ON, "-o", f"out.{suffix}")
    assert "is valid: 10 jobs" in program("validate", f"out.{suffix}").stdout
    program("create", f"out.{suffix}")
    jobs = program("jobs", "list", "-f", "json").json
    bound = {job["name"]: job["scheduler"] for job in jobs}
    assert (bound["prepare"], bound["train_3"], bound["report"]) == ("small", "train_stage_2", "small_stage_3")
    obeyed = program("submit", f"out.{suffix}", *ON, "--dry-run", "--no-estimate").stdout
    assert "the spec says itself what to submit" in obeyed and "on_jobs_ready" in obeyed
    again = program(
        "slurm", "generate", f"out.{suffix}", *ON, "--group-by", "partition", "-f", "json", "-o", "again.yaml"
    ).json
    assert [item["name"] for item in again["allocations"]] == ["short", "gpu-h100s_stage_2", "short_stage_3"]
    assert "already exists" in program("slurm", "generate", spec, *ON, "-o", "again.yaml", code=4).stderr


@EMBEDDED
def test_schedulers_written_by_hand_must_be_used_and_possible(program: Program) -> None:
    scheduler = "slurm_schedulers: [{name: mine, partition: short, walltime: '09:00:00'}]\n"
    unused = program("submit", program.write("a.yaml", SPEC + scheduler), *ON, "--dry-run", code=2)
    assert "no action submits allocations of them" in unused.stderr
    action = "actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: mine}]\n"
    too_long = program("submit", program.write("b.yaml", SPEC + scheduler + action), *ON, "--dry-run", code=2)
    assert "9h 00m in short, which allows 4h 00m" in too_long.stderr


@EMBEDDED
def test_without_a_cluster_it_says_where_to_go(program: Program) -> None:
    spec = program.write("staged.yaml", SPEC)
    away = program("submit", spec, "-A", "x", code=5, PATH="/nowhere")
    assert "torc hpc sandbox start" in away.stderr


@pytest.mark.parametrize("where", ["before the host", "among the options"])
def test_no_password_of_a_database_is_put_into_a_batch_script(postgres_store: Store, where: str) -> None:
    url = postgres_store.engine.url
    secret = (
        url.set(password="hunter22") if where == "before the host" else url.update_query_dict({"password": "hunter22"})
    )
    store = open_store(secret.render_as_string(hide_password=False))
    try:
        with pytest.raises(Unavailable, match="with a password"):
            cluster_access._place_of(Embedded(store, "test"))
    finally:
        store.close()
