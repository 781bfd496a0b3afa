"""Whole workflows with real processes: what jobs get, what is reported of them, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.running import (
    ROOT,
    kill_with_spawner,
    results,
    run,
    run_jobs,
    start_process,
    states,
    store,
    wait_until,
)
from torc.api.events import ListEvents
from torc.api.jobs import CreateJob
from torc.client.embedded import Embedded
from torc.errors import Conflict, Invalid, Unavailable
from torc.runner.context import RunnerView
from torc.runner.local_run import RunOptions, run_here

pytestmark = pytest.mark.usefixtures("processes")


def test_a_workflow_runs_to_its_end_in_order_on_each_database(torc: Embedded, tmp_path: Path) -> None:
    jobs = [{"name": "first", "command": "echo 1 >> order"}]
    jobs += [{"name": f"middle{n}", "command": "echo 2 >> order", "depends_on": ["first"]} for n in range(20)]  # type: ignore[dict-item]
    jobs += [{"name": "last", "command": "echo 3 >> order", "depends_on": [job["name"] for job in jobs]}]  # type: ignore[dict-item]
    number = store(torc, tmp_path, jobs)
    outcome = run(torc, number, tmp_path)
    assert outcome.workflow.state == "completed"
    assert (tmp_path / "order").read_text().split() == ["1"] + ["2"] * 20 + ["3"]
    assert not outcome.was_stopped
    assert not list((tmp_path / "out").glob("*.json")) + list((tmp_path / "out").glob("sessions*"))


def test_a_finished_workflow_is_left_alone(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [{"name": "a", "command": "echo x >> ran"}])
    run(local, number, tmp_path)
    assert run(local, number, tmp_path).runner_id is None
    assert (tmp_path / "ran").read_text() == "x\n"


def test_jobs_may_ask_for_more_time_than_one_wait_of_the_kernel_can_take(local: Embedded, tmp_path: Path) -> None:
    months = {"name": "months", "num_cpus": 1, "memory": "64m", "runtime": "P400D"}
    jobs = [{"name": "a{i}", "command": "sleep 0.3", "resource_requirements": "months", "parameters": {"i": "1:3"}}]
    number = store(local, tmp_path, jobs, resource_requirements=[months])
    assert run(local, number, tmp_path).workflow.state == "completed"


def test_jobs_get_the_environment_that_they_were_promised(local: Embedded, tmp_path: Path) -> None:
    job = {
        "name": "näme 'x'",
        "command": "env -0 > env.bin; pwd > where",
        "env": {"MINE": "job ü"},
        "resource_requirements": "small",
    }
    fields = {
        "env": {"OURS": "workflow", "MINE": "workflow"},
        "resource_requirements": [{"name": "small", "num_cpus": 1, "memory": "64m", "runtime": "PT5M"}],
    }
    number = store(local, tmp_path, [job], **fields)
    outcome = run(local, number, tmp_path, store_variables={"TORC_DB": "/some/where.db"})
    entries = (tmp_path / "env.bin").read_bytes().decode().split("\0")
    environ = dict(entry.split("=", 1) for entry in entries if entry)
    expected = {
        "TORC_WORKFLOW_ID": str(number),
        "TORC_WORKFLOW_NAME": "test",
        "TORC_JOB_NAME": "näme 'x'",
        "TORC_RUN_ID": "1",
        "TORC_ATTEMPT_ID": "1",
        "TORC_OUTPUT_DIR": str(tmp_path / "out"),
        "TORC_DB": "/some/where.db",
        "TORC_NUM_CPUS": "1",
        "TORC_MEMORY_BYTES": str(64 << 20),
        "OURS": "workflow",
        "MINE": "job ü",
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert int(environ["TORC_JOB_ID"]) > 0
    assert (tmp_path / "where").read_text().strip() == str(tmp_path)
    assert outcome.workflow.state == "completed"


def test_output_goes_straight_to_files_named_by_run_and_attempt(local: Embedded, tmp_path: Path) -> None:
    found = run_jobs(local, tmp_path, {"name": "a", "command": "echo out; echo err >&2; read x || echo no stdin"})
    stem = tmp_path / "out" / "job_stdio" / f"job_wf1_j{found['a'].job_id}_r1_a1"
    assert stem.with_suffix(".o").read_text() == "out\nno stdin\n"
    assert stem.with_suffix(".e").read_text() == "err\n"


def test_results_tell_code_times_usage_and_the_end_of_stderr(local: Embedded, tmp_path: Path) -> None:
    size = 60_000_000
    work = f"python3 -c 'x = b\"x\" * {size}; sum(i * i for i in range(500_000))'"
    found = run_jobs(
        local, tmp_path, {"name": "good", "command": work}, {"name": "bad", "command": "echo why >&2; exit 7"}
    )
    good, bad = found["good"], found["bad"]
    assert (good.state, good.return_code, good.stderr_tail) == ("completed", 0, None)
    assert size < good.usage.peak_memory_bytes < size + (50 << 20)
    assert good.usage.user_cpu_seconds > 0
    assert 0 < good.wall_seconds < 60
    assert good.started_at is not None and good.started_at <= good.ended_at
    assert (bad.state, bad.return_code, bad.stderr_tail) == ("failed", 7, "why")


def test_death_by_a_signal_is_counted_as_shells_count(local: Embedded, tmp_path: Path) -> None:
    assert run_jobs(local, tmp_path, {"name": "a", "command": "kill -SEGV $$"})["a"].return_code == 139


def test_declared_outputs_that_are_missing_fail_the_job(local: Embedded, tmp_path: Path) -> None:
    files = [{"name": "made", "path": "made.txt"}, {"name": "not_made", "path": "not_made.txt"}]
    job = {"name": "a", "command": "touch made.txt", "output_files": ["made", "not_made"]}
    result = run_jobs(local, tmp_path, job, fields={"files": files})["a"]
    assert (result.state, result.reason, result.detail) == ("failed", "missing_output", "did not write not_made.txt")


def test_all_missing_inputs_are_named_before_anything_starts(local: Embedded, tmp_path: Path) -> None:
    files = [{"name": f"in{n}", "path": f"in{n}.txt"} for n in range(3)]
    jobs = [{"name": "a", "command": "touch ran", "input_files": ["in0", "in1", "in2"]}]
    number = store(local, tmp_path, jobs, files=files)
    (tmp_path / "in1.txt").touch()
    with pytest.raises(Invalid) as caught:
        run(local, number, tmp_path)
    assert caught.value.details["missing"] == ["in0.txt", "in2.txt"]
    assert not (tmp_path / "ran").exists()
    assert states(local, number) == {"a": "ready"}


def test_gpus_are_given_one_by_one(local: Embedded, tmp_path: Path) -> None:
    command = 'echo "$CUDA_VISIBLE_DEVICES" > gpus_$TORC_JOB_NAME; touch up_$TORC_JOB_NAME; until [ -e up_a -a -e up_b ]; do sleep 0.01; done'
    jobs = [{"name": name, "command": command, "resource_requirements": "gpu"} for name in ("a", "b")]
    fields = {
        "resource_requirements": [{"name": "gpu", "num_cpus": 1, "num_gpus": 2, "memory": "1m", "runtime": "PT1M"}]
    }
    run_jobs(local, tmp_path, *jobs, fields=fields, num_cpus=4, num_gpus=4)
    assert {(tmp_path / f"gpus_{name}").read_text().strip() for name in "ab"} == {"0,1", "2,3"}


def test_a_job_over_its_runtime_gets_sigterm_and_then_sigkill(local: Embedded, tmp_path: Path) -> None:
    needs = [{"name": "brief", "num_cpus": 1, "memory": "1m", "runtime": "PT1S"}]
    polite = {
        "name": "polite",
        "command": "trap 'echo saved > saved; exit 3' TERM; sleep 100 & wait",
        "resource_requirements": "brief",
    }
    deaf = {"name": "deaf", "command": "trap '' TERM; sleep 100; sleep 100", "resource_requirements": "brief"}
    found = run_jobs(
        local, tmp_path, polite, deaf, fields={"resource_requirements": needs}, grace_seconds=0.5, num_cpus=2
    )
    assert (tmp_path / "saved").read_text() == "saved\n"
    assert {name: (result.state, result.reason) for name, result in found.items()} == {
        "polite": ("terminated", "timeout"),
        "deaf": ("terminated", "timeout"),
    }
    assert (found["polite"].return_code, found["deaf"].return_code) == (152, 152)
    assert str(found["polite"].detail).endswith("its last program ended with exit code 3")


def test_memory_over_the_request_is_ended_when_it_is_enforced(local: Embedded, tmp_path: Path) -> None:
    needs = [{"name": "small", "num_cpus": 1, "memory": "50m", "runtime": "PT1M"}]
    greedy = "python3 -c 'import time; x = bytearray(40_000_000); time.sleep(60)'"
    job = {"name": "a", "command": f"{greedy} & {greedy} & wait", "resource_requirements": "small"}
    fields = {"resource_requirements": needs, "enforce_memory": True}
    result = run_jobs(local, tmp_path, job, fields=fields)["a"]
    assert (result.state, result.reason, result.return_code) == ("terminated", "out_of_memory", 137)
    assert result.usage.peak_memory_bytes >= 49 << 20


def test_a_job_that_asks_for_no_memory_is_not_held_to_the_default(local: Embedded, tmp_path: Path) -> None:
    job = {"name": "a", "command": "python3 -c 'import time; x = bytearray(40_000_000); time.sleep(0.5)'"}
    result = run_jobs(local, tmp_path, job, fields={"enforce_memory": True})["a"]
    assert (result.state, result.reason) == ("completed", None)


def test_the_invocation_script_runs_the_command(local: Embedded, tmp_path: Path) -> None:
    script = tmp_path / "wrap.sh"
    script.write_text('#!/bin/sh\necho "wrapped $#" > how; exec "$@"\n')
    script.chmod(0o755)
    found = run_jobs(local, tmp_path, {"name": "a", "command": "touch done one two", "invocation_script": "./wrap.sh"})
    assert found["a"].return_code == 0
    assert (tmp_path / "how").read_text() == "wrapped 4\n"


def test_a_recovery_script_runs_before_the_retry_and_knows_the_return_code(local: Embedded, tmp_path: Path) -> None:
    handler = {
        "name": "mend",
        "rules": [{"exit_codes": [9], "recovery_script": "echo $TORC_RETURN_CODE > code", "max_retries": 1}],
    }
    job = {"name": "a", "command": '[ -e code ] && [ -z "$TORC_RETURN_CODE" ] || exit 9', "failure_handler": "mend"}
    result = run_jobs(local, tmp_path, job, fields={"failure_handlers": [handler]})["a"]
    assert (result.state, result.attempt) == ("completed", 2)
    assert (tmp_path / "code").read_text() == "9\n"


def test_a_recovery_script_that_fails_is_the_reason(local: Embedded, tmp_path: Path) -> None:
    handler = {"name": "mend", "rules": [{"exit_codes": [9], "recovery_script": "exit 4", "max_retries": 1}]}
    job = {"name": "a", "command": "echo ran >> ran; exit 9", "failure_handler": "mend"}
    result = run_jobs(local, tmp_path, job, fields={"failure_handlers": [handler]})["a"]
    assert (result.state, result.reason, result.return_code) == ("failed", "recovery_failed", 4)
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_actions_run_their_commands_once_each_at_their_time(local: Embedded, tmp_path: Path) -> None:
    def action(trigger: str, **more: object) -> dict[str, object]:
        return {"trigger_type": trigger, "action_type": "run_commands", "commands": [f"echo {trigger} >> log"], **more}

    triggers = ["on_workflow_start", "on_worker_start", "on_workflow_complete", "on_worker_complete"]
    actions = [action(name) for name in triggers] + [
        action("on_jobs_complete", jobs=["a"]),
        action("on_jobs_ready", jobs=["b"]),
    ]
    jobs = [
        {"name": "a", "command": "echo a >> log"},
        {"name": "b", "command": "sleep 0.2; echo b >> log", "depends_on": ["a"]},
    ]
    number = store(local, tmp_path, jobs, actions=actions)
    run(local, number, tmp_path)
    log = (tmp_path / "log").read_text().split()
    assert sorted(log) == sorted([*triggers, "on_jobs_complete", "on_jobs_ready", "a", "b"])
    assert log[:3] == ["on_workflow_start", "on_worker_start", "a"]
    assert set(log[-2:]) == {"on_workflow_complete", "on_worker_complete"}
    run(local, number, tmp_path)
    assert len((tmp_path / "log").read_text().split()) == len(log)


def test_a_failed_action_is_reported_with_its_command(local: Embedded, tmp_path: Path) -> None:
    actions = [
        {
            "trigger_type": "on_workflow_start",
            "action_type": "run_commands",
            "commands": ["echo no >&2; false", "touch ran"],
        }
    ]
    number = store(local, tmp_path, [{"name": "a", "command": "true"}], actions=actions)
    run(local, number, tmp_path)
    (event,) = [e for e in local.send(ListEvents(workflow_id=number, limit=1000)).items if e.type == "action_finished"]
    assert event.data["return_code"] == 1
    assert "no" in event.data["detail"]
    assert not (tmp_path / "ran").exists()


def test_a_job_too_large_for_this_node_ends_the_run_and_stays_ready(local: Embedded, tmp_path: Path) -> None:
    needs = [{"name": "large", "num_cpus": 64, "memory": "1m", "runtime": "PT1M"}]
    number = store(
        local,
        tmp_path,
        [{"name": "large", "command": "true", "resource_requirements": "large"}, {"name": "b", "command": "true"}],
        resource_requirements=needs,
    )
    outcome = run(local, number, tmp_path, num_cpus=2)
    assert outcome.is_stuck
    assert states(local, number) == {"large": "ready", "b": "completed"}
    assert not run(local, number, tmp_path, num_cpus=64).is_stuck
    assert states(local, number)["large"] == "completed"


def test_the_time_limit_ends_the_run_which_can_be_gone_on_with(local: Embedded, tmp_path: Path) -> None:
    needs = [{"name": "short", "num_cpus": 1, "memory": "1m", "runtime": "PT1M"}]
    command = "[ -e again ] || { touch again; sleep 60; }"
    number = store(local, tmp_path, [{"name": "a", "command": command}], resource_requirements=needs)
    outcome = run(local, number, tmp_path, time_limit_seconds=1.0, max_parallel_jobs=1)
    assert outcome.was_stopped
    assert outcome.workflow.state == "interrupted"
    assert run(local, number, tmp_path).workflow.state == "completed"


def test_a_job_that_saves_its_work_is_asked_before_the_time_limit_and_goes_on_in_the_next_run(
    local: Embedded, tmp_path: Path
) -> None:
    saves = (
        "echo $TORC_ATTEMPT_ID >> attempts; [ -e saved ] && exit 0; "
        "trap 'echo half > saved; exit 1' TERM; while :; do sleep 0.05; done"
    )
    jobs = [
        {"name": "long", "command": saves, "supports_termination": True, "resource_requirements": "brief"},
        {"name": "behind", "command": "cat saved > seen", "depends_on": ["long"]},
    ]
    needs = [{"name": "brief", "num_cpus": 1, "memory": "1m", "runtime": "PT20S"}]
    number = store(local, tmp_path, jobs, resource_requirements=needs)
    outcome = run(local, number, tmp_path, time_limit_seconds=4.0)
    assert outcome.workflow.state == "interrupted"
    assert states(local, number) == {"long": "terminated", "behind": "blocked"}
    assert (tmp_path / "saved").read_text() == "half\n", "it was asked, and had time"
    assert run(local, number, tmp_path).workflow.state == "completed"
    assert (tmp_path / "attempts").read_text().split() == ["1", "2"] and (tmp_path / "seen").read_text() == "half\n"


def test_fail_fast_stops_at_the_first_failure(local: Embedded, tmp_path: Path) -> None:
    jobs = [
        {"name": "bad", "command": "until [ -e up ]; do sleep 0.01; done; exit 1"},
        {"name": "long", "command": "touch up; sleep 100"},
    ]
    number = store(local, tmp_path, jobs)
    run(local, number, tmp_path, fail_fast=True, max_parallel_jobs=2)
    assert states(local, number) == {"bad": "failed", "long": "terminated"}
    assert results(local, number)["long"].reason == "runner_stopped"


def test_a_display_sees_running_jobs_and_counts(local: Embedded, tmp_path: Path) -> None:
    views: list[RunnerView] = []
    jobs = [{"name": "quick", "command": "true"}, {"name": "long", "command": "until [ -e stop ]; do sleep 0.01; done"}]
    number = store(local, tmp_path, jobs)

    def look(view: RunnerView) -> None:
        views.append(view)
        if view.num_completed == 1 and [name for _, name, _, _ in view.running] == ["long"]:
            (tmp_path / "stop").touch()

    run_here(local, number, RunOptions(output_dir=tmp_path / "out", display_seconds=0.01), look)
    assert (tmp_path / "stop").exists()
    assert all(elapsed >= 0 and memory >= 0 for view in views for _, _, elapsed, memory in view.running)


def test_a_run_in_a_thread_leaves_signals_and_directory_alone(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [{"name": "a", "command": "true"}])
    before = os.getcwd()
    thread = threading.Thread(target=run, args=(local, number, tmp_path))
    thread.start()
    thread.join()
    assert states(local, number) == {"a": "completed"}
    assert os.getcwd() == before


def test_children_of_the_embedding_program_are_left_alone(local: Embedded, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "100"]) as mine:
        run_jobs(local, tmp_path, {"name": "a", "command": "true"})
        assert mine.poll() is None
        mine.kill()


def test_a_directory_that_is_gone_is_refused_with_its_name(local: Embedded, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    number = store(local, folder, [{"name": "a", "command": "true"}])
    folder.rmdir()
    with pytest.raises(Unavailable, match="gone"):
        run(local, number, tmp_path)


def test_a_program_that_runs_workflows_inside_a_job_works(local: Embedded, tmp_path: Path) -> None:
    (tmp_path / "inner.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\nfrom tests.support.running import store, run\nfrom torc.client.connect import connect\n"
        f"torc = connect(db={str(tmp_path / 'inner.db')!r})\nfolder = Path({str(tmp_path)!r})\n"
        "run(torc, store(torc, folder, [{'name': 'deep', 'command': 'echo $TORC_RUNNER > marks'}]), folder / 'inner')\n"
    )
    found = run_jobs(local, tmp_path, {"name": "outer", "command": f"{sys.executable} inner.py"})
    assert found["outer"].return_code == 0, found["outer"].stderr_tail
    assert len((tmp_path / "marks").read_text().split()) == 2, "the inner runner and the outer one"


def test_jobs_find_the_torc_that_runs_them_behind_all_that_the_user_has(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    number = store(local, tmp_path, [{"name": "a", "command": 'torc --version > version; echo "$PATH" > path'}])
    run(local, number, tmp_path)
    assert (tmp_path / "version").read_text().startswith("torc ")
    assert (tmp_path / "path").read_text().startswith("/usr/bin:/bin:")


def test_a_worker_waits_for_new_jobs_as_long_as_the_workflow_wants_and_a_local_run_does_not(
    local: Embedded, tmp_path: Path
) -> None:
    number = store(local, tmp_path, [{"name": "a", "command": "true"}], compute_node_wait_for_new_jobs_seconds=2)
    began = time.monotonic()
    worker = threading.Thread(target=run, args=(local, number, tmp_path), kwargs={"kind": "worker"})
    worker.start()
    wait_until(lambda: states(local, number) == {"a": "completed"}, "the first job is done")
    local.send(CreateJob(workflow_id=number, name="late", command="true"))
    wait_until(lambda: states(local, number)["late"] == "completed", "the late job is done by the one that waited")
    worker.join(60)
    assert not worker.is_alive() and time.monotonic() - began >= 2.0
    other = store(local, tmp_path, [{"name": "a", "command": "true"}], compute_node_ignore_workflow_completion=True)
    assert run(local, other, tmp_path).workflow.state == "completed"


def test_a_workflow_whose_runner_was_killed_here_does_not_hold_its_outputs(local: Embedded, tmp_path: Path) -> None:
    files = [{"name": "f", "path": "out.txt"}]
    wait = {"name": "w", "command": "echo $TORC_WORKFLOW_ID > out.txt; sleep 1000", "output_files": ["f"]}
    first = store(local, tmp_path, [wait], files=files)
    second = store(local, tmp_path, [{**wait, "command": "echo second > out.txt"}], files=files)
    process = start_process(tmp_path / "torc.db", first, tmp_path / "out")
    wait_until((tmp_path / "out.txt").exists, "the first one writes")
    with pytest.raises(Conflict, match=f"workflow {first} .* runs and writes out.txt"):
        run(local, second, tmp_path)
    kill_with_spawner(process)
    process.wait()
    assert run(local, second, tmp_path).workflow.state == "completed"
    assert (tmp_path / "out.txt").read_text() == "second\n"
