"""The commands as a user types them: what they print, what they exit with, what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import EMBEDDED, SECRET
from tests.support.program import Program
from tests.support.wait import wait_until
from torc.api.runs import Exchange, Finished, NodeCapacity, RegisterRunner, StartRun
from torc.client.connect import connect
from torc.client.remote import Remote

CHAIN = """
name: chain
files: [{name: mid, path: out/mid.txt}]
user_data: [{name: best}]
resource_requirements: [{name: small, num_cpus: 1, memory: 10m, runtime: PT1M}]
jobs:
  - {name: first, command: "mkdir -p out && echo hello > ${files.output.mid}", resource_requirements: small}
  - {name: second, command: "cat ${files.input.mid}; echo problem >&2", env: {A: b}}
"""
FAILING = """
name: failing
jobs:
  - {name: good, command: "true"}
  - {name: bad, command: "echo 'no such luck' >&2; exit 3"}
  - {name: behind, command: "true", depends_on: [bad]}
"""


def test_run_does_everything_and_says_so(program: Program) -> None:
    done = program("run", program.write("chain.yaml", CHAIN))
    assert "workflow 1 (chain) completed: 2 completed" in done.stdout
    assert (program.directory / "out/mid.txt").read_text() == "hello\n"
    logs = program.directory / "torc_output/job_stdio"
    assert (logs / "job_wf1_j2_r1_a1.o").read_text() == "hello\n"
    assert (logs / "job_wf1_j2_r1_a1.e").read_text() == "problem\n"
    assert program("workflows", "check", 1).stdout == "nothing is wrong\n"
    if program.url:
        assert not (program.directory / ".torc").exists()
        return
    assert oct((program.directory / ".torc").stat().st_mode & 0o777) == "0o700"
    assert oct((program.directory / ".torc/torc.db").stat().st_mode & 0o777) == "0o600"


def test_run_tells_what_failed_and_why(program: Program) -> None:
    done = program("run", program.write("f.yaml", FAILING), code=1)
    assert "failed: bad" in done.stdout
    assert "exit code 3" in done.stdout
    assert "no such luck" in done.stdout
    assert "torc jobs logs 2" in done.stdout
    assert program("jobs", "logs", 2).stdout == "no such luck\n"
    assert [job["state"] for job in program("jobs", "list", "-f", "json").json] == ["completed", "failed", "canceled"]


def test_failed_jobs_can_be_mended_and_run_again_without_the_others(program: Program) -> None:
    program("run", program.write("f.yaml", FAILING), code=1)
    program("jobs", "update", 2, "--command", "true")
    changes = program("workflows", "reset-status", 1, "--failed-only", "-f", "json").json
    assert [change["job_name"] for change in changes["changes"]] == ["bad", "behind"]
    program("run", 1)
    assert [job["attempt"] for job in program("jobs", "list", "-f", "json").json] == [1, 2, 1]


def test_an_invalid_spec_shows_every_problem_and_stores_nothing(program: Program) -> None:
    name = program.write(
        "bad.yaml", "name: x\njobs:\n  - {name: a, comand: b}\n  - {name: c, command: d, priority: high}\n"
    )
    for command in ("run", "create", "validate"):
        done = program(command, name, code=2)
        assert "bad.yaml:3:15: error[unknown_field]" in done.stderr
        assert "did you mean `command`?" in done.stderr
        assert "bad.yaml:4:" in done.stderr
        assert done.stdout == ""
    assert not (program.directory / ".torc").exists()
    report = program("validate", name, "-f", "json", code=2).json
    assert [problem["code"] for problem in report["diagnostics"]] == ["unknown_field", "bad_type"]


def test_a_spec_comes_from_standard_input_in_any_format(program: Program) -> None:
    done = program("validate", "-", stdin='name "x"\njob "a" { command "true"; }\n')
    assert "<stdin> is valid: 1 job" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "nothing.yaml"], 3, "there is no file nothing.yaml"),
        (["rnu", "x.yaml"], 2, "Did you mean `torc run`?"),
        (["jobs", "lst"], 2, "Did you mean"),
        (["workflows", "list", "--format", "xml"], 2, "choose one of table, json"),
        (["validate"], 2, "SPEC"),
        (["run", "x.yaml", "--memory", "lots"], 2, "not an amount of memory"),
        (["workflows", "list", "--url", "http://127.0.0.1:1"], 5, "does not answer: Connection refused"),
        (["workflows", "list", "--url", "ftp://nowhere"], 2, "is not a valid server URL"),
    ],
)
def test_mistakes_are_answered_with_what_to_do(program: Program, arguments: list[str], code: int, said: str) -> None:
    done = program(*arguments, code=code)
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["workflows", "get", "99"], 3, "there is no workflow 99"),
        (["workflows", "get", "nobody"], 3, "no workflow called `nobody`"),
        (["jobs", "get", "99"], 3, "there is no job 99"),
        (["jobs", "logs", "1"], 3, "has not run yet"),
        (["jobs", "enable", "1"], 4, "cannot be enabled"),
        (["jobs", "update", "1", "--resource-requirements", "big"], 3, "big"),
        (["files", "delete", "1"], 4, "is used by job"),
        (["results", "get", "1"], 3, "there is no result 1"),
        (["user-data", "update", "1", "--data", "{"], 2, "not JSON"),
    ],
)
def test_wrong_names_and_states_are_answered_with_what_to_do(
    program: Program, arguments: list[str], code: int, said: str
) -> None:
    program("create", program.write("chain.yaml", CHAIN))
    done = program(*arguments, code=code)
    assert said in done.stderr
    assert "hint:" in done.stderr


LISTS: list[tuple[list[str], Any]] = [
    (["workflows", "list"], [["name", "chain"]]),
    (["jobs", "list"], [["name", "first"], ["name", "second"]]),
    (["files", "list"], [["path", "out/mid.txt"]]),
    (["user-data", "list"], [["name", "best"]]),
    (["resource-requirements", "list"], [["name", "small"], ["name", "default"]]),
    (["results", "list"], [["job_name", "first"], ["job_name", "second"]]),
    (["compute-nodes", "list"], [["is_active", False]]),
    (["failure-handlers", "list"], []),
    (["slurm-schedulers", "list"], []),
    (["files", "list-required-existing"], []),
]


def test_every_list_is_a_table_and_json(program: Program) -> None:
    program("run", program.write("chain.yaml", CHAIN))
    for arguments, expected in LISTS:
        found = program(*arguments, "-f", "json").json
        assert [[key, item[key]] for item, (key, _) in zip(found, expected, strict=True)] == expected, arguments
        table = program(*arguments)
        for _, value in expected:
            assert isinstance(value, bool) or str(value) in table.stdout
    types = [event["type"] for event in program("events", "list", "-f", "json").json]
    assert types[:3] == ["workflow_created", "run_started", "runner_registered"]
    assert {"jobs_completed", "run_ended", "runner_ended"} <= set(types)


def test_status_and_summary(program: Program) -> None:
    program("run", program.write("f.yaml", FAILING), code=1)
    assert "workflow 1 (failing): failed" in program("status").stdout
    assert "1  canceled" in program("status", "failing").stdout
    assert program("status", "-f", "json").json["counts"]["by_state"] == {"completed": 1, "failed": 1, "canceled": 1}
    assert program("reports", "summary", "-f", "json").json["num_failed"] == 1
    assert program("workflows", "is-complete", code=0).stdout == "yes\n"
    assert "failed" in program("watch", code=1).stdout


def test_a_workflow_that_was_stored_is_told_how_to_begin_it(program: Program) -> None:
    spec = program.write("here.yaml", "name: here\njobs: [{name: a, command: 'true'}]\n")
    assert "torc run 1" in program("create", spec).stderr
    assert "it has not run yet: torc run 1" in program("reports", "summary", 1).stdout
    on_slurm = (
        "name: there\njobs: [{name: a, command: 'true', scheduler: s}]\nslurm_schedulers: [{name: s, walltime: '01:00:00'}]\n"
        "actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}]\n"
    )
    assert "torc submit 2" in program("workflows", "create", program.write("there.yaml", on_slurm)).stderr


def test_plan_shows_stages_and_graphs(program: Program) -> None:
    name = program.write("chain.yaml", CHAIN)
    assert "critical path" in program("plan", name).stdout
    assert "first -> second" in program("plan", name).stdout
    data = program("plan", name, "-f", "json").json
    assert [stage["num_jobs"] for stage in data["stages"]] == [1, 1]
    assert program("plan", name, "--graph", "mermaid").stdout.startswith("flowchart")
    assert program("plan", name, "--graph", "dot").stdout.startswith("digraph")
    json.loads(program("plan", name, "--graph", "json").stdout)
    program("create", name)
    assert "first -> second" in program("plan", 1).stdout
    assert program("run", name, "--dry-run").stdout == program("plan", name).stdout


def test_convert_goes_through_every_format(program: Program) -> None:
    source = program.write("chain.yaml", CHAIN)
    expected = program("plan", source, "-f", "json").json
    for suffix in ("kdl", "json5", "json", "yaml"):
        program("convert", source, "-o", f"next.{suffix}")
        source = f"next.{suffix}"
        assert program("plan", source, "-f", "json").json == expected
    assert "already exists" in program("convert", source, "-o", "next.kdl", code=4).stderr


def test_schema_sets_up_vscode_without_breaking_what_is_there(program: Program) -> None:
    assert program("schema").json["title"] == "Torc workflow"
    program.write(".vscode/settings.json", '{"editor.tabSize": 2, "yaml.schemas": {"other.json": ["*.o"]}}')
    program("schema", "--install", "vscode")
    settings = json.loads((program.directory / ".vscode/settings.json").read_text())
    assert settings["editor.tabSize"] == 2
    assert set(settings["yaml.schemas"]) == {"other.json", "./.vscode/torc-workflow.schema.json"}
    program("schema", "--install", "vscode")
    assert json.loads((program.directory / ".vscode/settings.json").read_text()) == settings
    program.write(".vscode/settings.json", '// mine\n{"a": 1}')
    assert "left alone" in program("schema", "--install", "vscode", code=4).stderr
    assert (program.directory / ".vscode/settings.json").read_text() == '// mine\n{"a": 1}'


def test_missing_input_files_stop_the_run_before_any_job(program: Program) -> None:
    text = "name: m\nfiles: [{name: a, path: in/a.txt}, {name: b, path: in/b.txt}]\njobs: [{name: j, command: 'touch ran', input_files: [a, b]}]"
    done = program("run", program.write("m.yaml", text), code=2)
    assert "in/a.txt" in done.stderr and "in/b.txt" in done.stderr and "continue with: torc run 1" in done.stderr
    assert not (program.directory / "ran").exists()
    program.write("in/a.txt", "1")
    program.write("in/b.txt", "2")
    program("run", 1)


def test_reinitialize_reruns_just_what_changed(program: Program) -> None:
    text = """
name: r
files: [{name: a, path: a.txt}, {name: b, path: b.txt}, {name: o, path: o.txt}]
jobs:
  - {name: reads_a, command: "cat a.txt > o.txt", input_files: [a], output_files: [o]}
  - {name: reads_b, command: "cat b.txt", input_files: [b]}
  - {name: behind, command: "cat o.txt", input_files: [o]}
"""
    program.write("a.txt", "1")
    program.write("b.txt", "1")
    program("run", program.write("r.yaml", text))

    def reruns() -> dict[str, str]:
        changes = program("workflows", "reinitialize", 1, "--dry-run", "-f", "json").json["changes"]
        return {change["job_name"]: change["reason"] for change in changes}

    assert reruns() == {}
    later = time.time() + 100
    os.utime(program.directory / "a.txt", (later, later))
    assert reruns() == {}, "a touch alone reruns nothing"
    program.write("a.txt", "2")
    assert set(reruns()) == {"reads_a", "behind"}
    assert "a.txt changed" in reruns()["reads_a"]
    program("workflows", "reinitialize", 1)
    program("run", 1)
    assert reruns() == {}
    (program.directory / "o.txt").unlink()
    assert "o.txt is missing" in reruns()["reads_a"]
    program("workflows", "reinitialize", 1)
    program("run", 1)
    program("jobs", "update", 2, "--command", "cat b.txt b.txt")
    assert reruns() == {"reads_b": "command changed"}
    program("workflows", "reinitialize", 1)
    program("run", 1)
    program("resource-requirements", "update", 1, "--memory", "2g")
    assert reruns() == {}, "resources do not count"


def test_jobs_pass_user_data_on(program: Program) -> None:
    python = "import sys; sys.argv[0] = 'torc'; from torc.cli.main import main; main()"
    text = f"""
name: u
user_data: [{{name: best}}]
jobs:
  - {{name: w, command: "$PYTHON -c \\"{python}\\" user-data update ${{user_data.output.best}} --data '[1, 2]'"}}
  - {{name: r, command: "$PYTHON -c \\"{python}\\" user-data get ${{user_data.input.best}} -f json"}}
"""
    import sys

    program("run", program.write("u.yaml", text), PYTHON=sys.executable)
    assert json.loads(program("jobs", "logs", 2, "--stdout").stdout)["data"] == [1, 2]


SLEEPERS = 'name: s\njobs: [{name: "s_{i}", command: "echo $$ >> pids; exec sleep 60", parameters: {i: "1:4"}}, {name: last, command: "true", parameters: {i: "1:4"}, depends_on: ["s_{i}"]}]'


def alive(pid: str) -> bool:
    """Return whether a process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def started(program: Program, count: int) -> bool:
    path = program.directory / "pids"
    return path.exists() and len(path.read_text().splitlines()) >= count


def test_ctrl_c_stops_cleanly_and_the_next_run_goes_on(program: Program) -> None:
    running = program.start("run", program.write("s.yaml", SLEEPERS), "-j", 2)
    wait_until(lambda: started(program, 2), timeout=30)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=30)
    assert running.returncode == 130, (stdout, stderr)
    assert "continue with: torc run 1" in stdout
    for pid in (program.directory / "pids").read_text().split():
        assert not alive(pid)
    states = [job["state"] for job in program("jobs", "list", "-f", "json").json]
    assert sorted(states) == ["blocked", "ready", "ready", "terminated", "terminated"]
    assert program("status", "-f", "json").json["state"] == "interrupted"
    for number in range(1, 5):
        program("jobs", "update", number, "--command", "true")
    assert program("run", 1).code == 0


def test_a_run_that_was_killed_is_taken_up_again(program: Program) -> None:
    running = program.start("run", program.write("s.yaml", SLEEPERS), "-j", 2)
    wait_until(lambda: started(program, 2), timeout=30)
    wait_until(lambda: len(program("jobs", "list", "--status", "running", "-f", "json").json) == 2, timeout=30)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=30)
    again = program.start("run", 1, "-j", 2)
    wait_until(lambda: started(program, 4), timeout=30)
    first = (program.directory / "pids").read_text().split()[:2]
    assert not any(alive(pid) for pid in first), "no two copies of a job at once"
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=30)
    reasons = [result["reason"] for result in program("results", "list", "--job", 1, "-f", "json").json]
    assert reasons == ["runner_lost", "runner_stopped"]


def test_cancel_reaches_a_running_workflow(program: Program) -> None:
    running = program.start("run", program.write("s.yaml", SLEEPERS), "-j", 2)
    wait_until(lambda: started(program, 2), timeout=30)
    program("workflows", "cancel", 1)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 1, (stdout, stderr)
    assert {job["state"] for job in program("jobs", "list", "-f", "json").json} == {"canceled"}
    assert program("status", "-f", "json").json["state"] == "canceled"


def test_workflows_are_archived_and_deleted(program: Program) -> None:
    program("run", program.write("chain.yaml", CHAIN))
    program("workflows", "archive", 1)
    assert program("workflows", "list", "-f", "json").json == []
    assert len(program("workflows", "list", "--archived", "-f", "json").json) == 1
    assert "archived" in program("run", 1, code=4).stderr
    program("workflows", "archive", 1, "--undo")
    program("workflows", "delete", 1)
    assert "no workflow 1" in program("workflows", "get", 1, code=3).stderr


def test_running_what_is_stored_nowhere_says_where_it_looked(program: Program) -> None:
    if program.url:
        assert "there is no workflow called `nobody`" in program("run", "nobody", code=3).stderr
    else:
        assert "there is no database" in program("run", "nobody", code=3).stderr


@EMBEDDED
def test_the_same_commands_work_on_a_named_database(program: Program) -> None:
    name = program.write("chain.yaml", CHAIN)
    program("run", name, "--db", "other.db")
    assert len(program("workflows", "list", "-f", "json", TORC_DB="other.db").json) == 1
    assert not (program.directory / ".torc").exists()


def test_logs_that_are_on_another_machine_are_said_to_be_there(program: Program) -> None:
    program("create", program.write("chain.yaml", CHAIN))
    url = program.url
    torc = Remote(url, token=SECRET) if url else connect(cwd=program.directory, environ={})
    torc.send(StartRun(workflow_id=1))
    room = NodeCapacity(num_cpus=1, memory_bytes=1 << 30)
    register = RegisterRunner(workflow_id=1, host="faraway", pid=1, process_started="1", boot_id="b", capacity=room)
    runner = torc.send(register).id
    (job,) = torc.send(Exchange(workflow_id=1, runner_id=runner, free=room, limit=1)).assignments
    done = Finished(
        job_id=job.job_id, attempt=1, outcome="succeeded", return_code=0, started_at=1.0, ended_at=2.0, wall_seconds=1.0
    )
    torc.send(Exchange(workflow_id=1, runner_id=runner, free=room, finished=[done], stopping=True))
    torc.close()
    assert "ran on faraway" in program("jobs", "logs", job.job_id, code=3).stderr


def test_prune_shows_what_it_would_delete_and_deletes_it(program: Program) -> None:
    program("run", program.write("chain.yaml", CHAIN))
    assert "nothing is that old" in program("workflows", "prune", "--older-than", "P1D").stderr
    shown = program("workflows", "prune", "--older-than", "PT0S", "--dry-run")
    assert "chain" in shown.stdout and "nothing was deleted" in shown.stderr
    assert [w["id"] for w in program("workflows", "prune", "--older-than", "PT0S", "-f", "json").json] == [1]
    assert program("workflows", "list", "-f", "json").json == []
    assert "--older-than" in program("workflows", "prune", "--older-than", "soon", code=2).stderr


def test_a_run_says_which_jobs_it_left_and_why(program: Program) -> None:
    spec = {
        "name": "left",
        "resource_requirements": [{"name": "huge*", "num_cpus": 64000, "memory": "1g", "runtime": "PT1M"}],
        "slurm_schedulers": [{"name": "gpu", "account": "a"}],
        "jobs": [
            {"name": "large", "command": "true", "resource_requirements": "huge*"},
            {"name": "bound", "command": "true", "scheduler": "gpu"},
        ],
    }
    name = program.write("left.json", json.dumps(spec))
    program("create", name)
    done = program("worker", 1, code=1)
    assert "left: job 1 (large): it asks for 64000 CPUs, 1 GiB" in done.stderr
    assert "left: job 2 (bound): it is for the runners of gpu (--label scheduler=gpu)" in done.stderr
    assert "bound" not in program("worker", 1, "--label", "scheduler=gpu", code=1).stderr
    assert program("jobs", "list", 1, "--state", "completed", "-f", "json").json[0]["name"] == "bound"


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("slurm", "parse-logs"),
        ("slurm", "list"),
        ("jobs", "list", "1", "--name"),
        ("run", "chain.yaml", "--output-dir"),
    ],
)
def test_an_argument_that_is_no_text_is_refused(program: Program, arguments: tuple[str, ...]) -> None:
    program("create", program.write("chain.yaml", CHAIN))
    done = program(*arguments, "a\udcff", code=2)
    assert done.stderr.startswith("error: argument ")
    assert r"is not UTF-8 text: a\udcff" in done.stderr


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("TORC_DB", "postgresql+psycopg://u:hidden@[::1/x"),
        ("TORC_DB", "postgresql://u:hidden@h:port/x"),
        ("TORC_API_URL", "http://[::1"),
        ("TORC_API_URL", "http://u:hidden@h:99999/"),
        ("TORC_API_URL", "http://u:x/hidden@h"),
        ("TORC_DB", "postgresql://u:p@hidden@127.0.0.1:1/x"),
        ("TORC_DB", "postgresql://u:p/hidden@127.0.0.1:1/x"),
    ],
)
def test_a_url_that_is_none_is_an_error_without_its_password(tmp_path: Path, variable: str, url: str) -> None:
    done = Program(tmp_path)("workflows", "list", code=2, **{variable: url})
    assert "not valid" in done.stderr or "not a valid server URL" in done.stderr
    assert "hidden" not in done.stdout + done.stderr


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("token", ["hidden\nX-Other: 1", "hid\udcffden", "hidd\u00e9n", "hid den", "hidden\x1b[2J"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(tmp_path: Path, token: str) -> None:
    done = Program(tmp_path)("workflows", "list", code=2, TORC_API_URL="http://127.0.0.1:1", TORC_TOKEN=token)
    assert "contains an invalid character" in done.stderr and "TORC_TOKEN" in done.stderr
    assert "hid" not in done.stdout + done.stderr


@pytest.mark.usefixtures("processes")
def test_digits_that_are_no_number_are_a_name(tmp_path: Path) -> None:
    program = Program(tmp_path)
    (tmp_path / "w.yaml").write_text('name: "2024"\njobs: [{name: a, command: "true"}]\n')
    program("create", "w.yaml")
    assert "2024" in program("status", "2024").stdout
    assert "no workflow called `²`" in program("status", "²", code=3).stderr


def test_a_group_without_a_command_shows_what_there_is(program: Program) -> None:
    told = program("jobs", code=2).stderr
    assert told.startswith("Usage  torc jobs COMMAND") and "error:" not in told and "hint:" not in told


def test_an_argument_that_is_no_number_is_told_in_words(program: Program) -> None:
    assert "'job_id': a whole number is needed" in program("jobs", "logs", "fit_3", code=2).stderr
