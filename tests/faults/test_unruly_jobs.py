"""Jobs that behave badly: what they leave behind is ended, what they do to their output harms nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.running import is_alive, run, run_jobs, start_process, store, wait_until
from torc.api.runs import Result
from torc.client.embedded import Embedded
from torc.errors import Invalid, Unavailable
from torc.runner.reactor import MOST_DEATHS

pytestmark = pytest.mark.usefixtures("processes")

SPAWN = {
    "in its group": "sleep 1000 & echo $! > pid",
    "in a group of its own": "set -m; sleep 1000 & echo $! > pid",
    "in a session of its own": "setsid sh -c 'echo $$ > pid; exec sleep 1000' & until [ -s pid ]; do sleep 0.01; done",
    "as a daemon": "(setsid sh -c 'echo $$ > pid; exec sleep 1000' &) ; until [ -s pid ]; do sleep 0.01; done",
    "without an environment": "env -i /bin/sh -c 'sleep 1000 & echo $! > pid'",
    "without environment and session": "env -i setsid sh -c 'sleep 1000 & echo $! > pid'; until [ -s pid ]; do sleep 0.01; done",
    "without environment, session and parent": "env -i setsid sh -c 'sh -c \"sleep 1000 & echo \\$! > pid\" &'; until [ -s pid ]; do sleep 0.01; done",
    "as a daemon that forks twice": """python3 -c 'import os
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open("pid", "w").write(str(os.getpid()))
os.execve("/bin/sleep", ["sleep", "1000"], {})'; until [ -s pid ]; do sleep 0.01; done""",
    "deaf to SIGTERM and SIGHUP": "trap '' TERM HUP; sleep 1000 & echo $! > pid",
    "with children of its own": "sh -c 'sleep 1000 & echo $! > pid; sleep 1000' & until [ -s pid ]; do sleep 0.01; done",
}


@pytest.mark.parametrize("how", SPAWN)
def test_what_a_job_leaves_behind_is_ended_with_it(local: Embedded, tmp_path: Path, how: str) -> None:
    found = run_jobs(local, tmp_path, {"name": "a", "command": SPAWN[how]})
    assert found["a"].state == "completed"
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_alive(pid), f"the process that was left {how} is gone", 10.0)


@pytest.mark.parametrize("num_spawners", [128, 1])
def test_what_one_job_leaves_behind_is_told_from_what_another_has_begun(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_spawners: int
) -> None:
    monkeypatch.setattr("torc.runner.spawner_client._MOST_SPAWNERS", num_spawners)
    begin = "(env setsid sh -c 'echo $$ > {0}; exec sleep 1000' &) ; until [ -s {0} ]; do sleep 0.01; done; "
    jobs = [
        {"name": "leaves", "command": begin.format("left") + "until [ -s used ]; do sleep 0.01; done"},
        {
            "name": "uses",
            "command": begin.format("used")
            + "until [ -e after ]; do sleep 0.01; done; kill -0 $(cat used) && ! kill -0 $(cat left)",
        },
        {"name": "after", "command": "touch after", "depends_on": ["leaves"]},
    ]
    found = run_jobs(local, tmp_path, *jobs, max_parallel_jobs=2)
    assert {name: result.state.value for name, result in found.items()} == dict.fromkeys(found, "completed")
    wait_until(lambda: not is_alive(int((tmp_path / "used").read_text())), "the other one has ended, too")


def test_no_zombie_is_left_of_what_lost_its_parent_while_its_job_still_runs(local: Embedded, tmp_path: Path) -> None:
    count = "ps -eo stat=,ppid= | awk -v p=$PPID '$1 ~ /^Z/ && $2 == p' | wc -l"
    command = f"for i in $(seq 50); do (setsid true &); done; for i in $(seq 200); do n=$({count}); [ $n = 0 ] && exit; sleep 0.05; done; exit 1"
    assert run_jobs(local, tmp_path, {"name": "a", "command": command})["a"].state == "completed"


def test_what_a_job_says_stays_outlives_it_and_its_runner(local: Embedded, tmp_path: Path) -> None:
    begin = "(env -i setsid sh -c 'sleep 1000 & echo $! > {0}' &); (setsid sh -c 'echo $$ > {1}; exec sleep 1000' &); sleep 1000 & echo $! > {2}; "
    begin += "until [ -s {0} -a -s {1} -a -s {2} ]; do sleep 0.01; done"
    keep = {"name": "keep", "command": begin.format("a", "b", "c"), "keep_background_processes": True}
    end = {"name": "end", "command": begin.format("d", "e", "f"), "depends_on": ["keep"]}
    again = {"name": "again", "command": "true", "depends_on": ["end"]}
    found = run_jobs(local, tmp_path, keep, end, again, max_parallel_jobs=1)
    assert {name: result.state.value for name, result in found.items()} == dict.fromkeys(found, "completed")
    pids = {name: int((tmp_path / name).read_text()) for name in "abcdef"}
    try:
        assert {name for name, pid in pids.items() if is_alive(pid)} == set("abc")
    finally:
        for name in "abc":
            os.kill(pids[name], signal.SIGKILL)


def test_what_a_job_says_stays_outlives_a_runner_that_is_killed_and_the_next_run(
    local: Embedded, tmp_path: Path
) -> None:
    begin = "(setsid sh -c 'echo $$ > {0}; exec sleep 1000' &); sleep 1000 & echo $! > {1}; until [ -s {0} ]; do sleep 0.01; done; "
    number = store(
        local,
        tmp_path,
        [
            {"name": "keep", "command": begin.format("a", "b"), "keep_background_processes": True},
            {
                "name": "runs",
                "command": begin.format("c", "d") + "[ -e go ] || { touch up; sleep 1000; }",
                "keep_background_processes": True,
                "depends_on": ["keep"],
            },
        ],
    )
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until((tmp_path / "up").exists, "the second one runs")
    pids = {name: int((tmp_path / name).read_text()) for name in "abcd"}
    process.kill()
    process.communicate()
    (tmp_path / "go").touch()
    try:
        assert run(local, number, tmp_path).workflow.state == "completed"
        assert {name for name, pid in pids.items() if is_alive(pid)} == set("ab"), "what has not ended runs again"
    finally:
        for pid in {*pids.values(), *(int((tmp_path / name).read_text()) for name in "cd")}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_the_next_job_does_not_meet_what_the_one_before_left(local: Embedded, tmp_path: Path) -> None:
    leave = "setsid sh -c 'echo $$ > pid; while :; do echo x >> out; done' & until [ -s pid ]; do sleep 0.01; done"
    then = "wc -c < out > size1; sleep 0.3; wc -c < out > size2"
    run_jobs(local, tmp_path, {"name": "a", "command": leave}, {"name": "b", "command": then, "depends_on": ["a"]})
    assert (tmp_path / "size1").read_text() == (tmp_path / "size2").read_text()


def test_helpers_of_a_running_job_are_left_alone(local: Embedded, tmp_path: Path) -> None:
    helped = "(setsid sh -c 'echo $$ > pid; until [ -e stop ]; do sleep 0.01; done; touch served' &); until [ -e served ]; do sleep 0.01; done"
    other = "until [ -s pid ]; do sleep 0.01; done; sleep 0.1"
    last = "sleep 0.7; kill -0 $(cat pid) && touch stop"
    found = run_jobs(
        local,
        tmp_path,
        {"name": "helped", "command": helped},
        {"name": "other", "command": other},
        {"name": "last", "command": last, "depends_on": ["other"]},
        max_parallel_jobs=2,
    )
    assert {name: result.state.value for name, result in found.items()} == dict.fromkeys(found, "completed")


def test_a_job_that_is_deaf_to_sigterm_ends_at_its_limit_all_the_same(local: Embedded, tmp_path: Path) -> None:
    needs = [{"name": "brief", "num_cpus": 1, "memory": "1m", "runtime": "PT1S"}]
    deaf = "import os, signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 13, 15)]; os.setsid() if os.fork() == 0 else 0; open(f'pid{os.getpid()}', 'w'); time.sleep(1000)"
    job = {"name": "a", "command": f'exec python3 -c "{deaf}"', "resource_requirements": "brief"}
    found = run_jobs(local, tmp_path, job, fields={"resource_requirements": needs}, grace_seconds=0.3)
    assert (found["a"].reason, found["a"].return_code) == ("timeout", 152)
    pids = [int(path.name[3:]) for path in tmp_path.glob("pid*")]
    assert len(pids) == 2
    wait_until(lambda: not any(map(is_alive, pids)), "both processes are gone", 10.0)


def test_a_program_behind_a_shell_has_its_time_to_save(local: Embedded, tmp_path: Path) -> None:
    needs = [{"name": "brief", "num_cpus": 1, "memory": "1m", "runtime": "PT1S"}]
    saver = "trap 'sleep 0.5; echo saved > saved; exit' TERM; : > ready; while :; do sleep 0.05; done"
    job = {"name": "a", "command": f'true; sh -c "{saver}"; true', "resource_requirements": "brief"}
    found = run_jobs(local, tmp_path, job, fields={"resource_requirements": needs}, grace_seconds=30.0)
    assert (found["a"].reason, found["a"].return_code) == ("timeout", 152)
    assert (tmp_path / "saved").exists()


def test_a_stopped_job_is_woken_and_ended_at_its_limit(local: Embedded, tmp_path: Path) -> None:
    needs = [{"name": "brief", "num_cpus": 1, "memory": "1m", "runtime": "PT1S"}]
    job = {"name": "a", "command": "trap 'exit 5' TERM; kill -STOP $$; sleep 100", "resource_requirements": "brief"}
    found = run_jobs(local, tmp_path, job, fields={"resource_requirements": needs}, grace_seconds=30.0)
    assert (found["a"].reason, found["a"].return_code) == ("timeout", 152)


def test_a_job_that_stops_what_started_it_ends_at_its_limit(local: Embedded, tmp_path: Path) -> None:
    needs = [{"name": "brief", "num_cpus": 1, "memory": "1m", "runtime": "PT1S"}]
    job = {"name": "a", "command": "kill -STOP $PPID; sleep 1000", "resource_requirements": "brief"}
    found = run_jobs(local, tmp_path, job, fields={"resource_requirements": needs}, grace_seconds=0.3)
    assert (found["a"].reason, found["a"].return_code) == ("timeout", 152)


KILL = "kill -9 $PPID"
KILLED = ("failed", "parent_killed", 137)


def _ending(result: Result) -> tuple[str, str | None, int | None]:
    return result.state.value, result.reason, result.return_code


@pytest.mark.parametrize("command", [KILL, f"{KILL}; sleep 1000", f"{KILL}; rm -rf out/job_stdio; exec sleep 1000"])
def test_a_job_that_kills_what_started_it_has_failed_and_the_run_goes_on(
    local: Embedded, tmp_path: Path, command: str
) -> None:
    jobs = [{"name": "a", "command": command}, {"name": "b", "command": "true"}]
    found = run_jobs(local, tmp_path, *jobs, max_parallel_jobs=1)
    assert (_ending(found["a"]), found["a"].attempt) == (KILLED, 1)
    assert "was killed by signal 9" in (found["a"].detail or "")
    assert _ending(found["b"]) == ("completed", None, 0)


def test_jobs_beside_one_that_kills_its_spawner_go_on(local: Embedded, tmp_path: Path) -> None:
    long = "echo x >> {0}; until [ -e after ]; do sleep 0.01; done"
    jobs = [
        {"name": "b", "command": long.format("b")},
        {"name": "c", "command": long.format("c")},
        {"name": "a", "command": "until [ -e b -a -e c ]; do sleep 0.01; done; " + KILL},
        {"name": "after", "command": "touch after", "depends_on": ["a"], "cancel_on_blocking_job_failure": False},
    ]
    found = run_jobs(local, tmp_path, *jobs, max_parallel_jobs=3)
    assert _ending(found.pop("a")) == KILLED
    assert {(_ending(result), result.attempt) for result in found.values()} == {(("completed", None, 0), 1)}
    assert {(tmp_path / name).read_text() for name in "bc"} == {"x\n"}


def test_what_shares_a_spawner_that_is_killed_ends_with_it_and_counts_as_an_attempt(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torc.runner.spawner_client._MOST_SPAWNERS", 1)
    jobs = [
        {"name": "long", "command": "echo $$ >> long; exec sleep 1000"},
        {"name": "a", "command": "until [ -s long ]; do sleep 0.01; done; " + KILL},
        {"name": "later", "command": "for pid in $(cat long); do ! kill -0 $pid || exit 1; done"},
    ]
    found = run_jobs(local, tmp_path, *jobs, max_parallel_jobs=2)
    assert [_ending(found[name]) for name in ("long", "a")] == [KILLED, KILLED]
    assert _ending(found["later"]) == ("completed", None, 0)
    assert len((tmp_path / "long").read_text().split()) == 1


def test_short_jobs_in_one_line_with_a_killer_are_neither_lost_nor_run_twice(local: Embedded, tmp_path: Path) -> None:
    jobs = [{"name": f"j{n:02}", "command": f"echo x >> ran{n}"} for n in range(60)]
    for n in (25, 40):
        jobs[n]["command"] += f"; {KILL}"
    found = run_jobs(local, tmp_path, *jobs, max_parallel_jobs=1)
    assert {name: _ending(found.pop(name)) for name in ("j25", "j40")} == {"j25": KILLED, "j40": KILLED}
    assert {(_ending(result), result.attempt) for result in found.values()} == {(("completed", None, 0), 1)}
    assert {(tmp_path / f"ran{n}").read_text() for n in range(60)} == {"x\n"}


@pytest.mark.parametrize("how", SPAWN)
@pytest.mark.parametrize("keeps", [False, True])
def test_what_a_job_has_begun_that_kills_its_spawner_ends_before_anything_else_begins(
    local: Embedded, tmp_path: Path, how: str, keeps: bool
) -> None:
    begin = f"{SPAWN[how]}; until [ -s pid ]; do sleep 0.01; done; {KILL}; sleep 1000"
    jobs = [
        {"name": "a", "command": begin, "keep_background_processes": keeps},
        {"name": "b", "command": "grep -q '^State:.[RSDT]' /proc/$(cat pid)/status && exit 1; true"},
    ]
    found = run_jobs(local, tmp_path, *jobs, max_parallel_jobs=1)
    assert [_ending(found[name]) for name in "ab"] == [KILLED, ("completed", None, 0)]


def test_other_children_of_the_process_that_runs_a_workflow_outlive_the_death_of_a_spawner(
    local: Embedded, tmp_path: Path
) -> None:
    with subprocess.Popen(["sleep", "1000"], env={}, executable="/bin/sleep", start_new_session=True) as innocent:
        assert _ending(run_jobs(local, tmp_path, {"name": "a", "command": KILL})["a"]) == KILLED
        assert innocent.poll() is None
        innocent.kill()


def test_rules_decide_about_a_job_that_kills_its_spawner(local: Embedded, tmp_path: Path) -> None:
    handler = {"name": "again", "rules": [{"exit_codes": [137], "max_retries": 2}]}
    job = {"name": "a", "command": f"echo x >> ran; {KILL}; sleep 1000", "failure_handler": "again"}
    result = run_jobs(local, tmp_path, job, fields={"failure_handlers": [handler]})["a"]
    assert (_ending(result), result.attempt) == (KILLED, 3)
    assert (tmp_path / "ran").read_text() == "x\nx\nx\n"


def test_a_run_ends_when_what_starts_its_jobs_dies_again_and_again(local: Embedded, tmp_path: Path) -> None:
    handler = {"name": "again", "rules": [{"match_all_exit_codes": True, "max_retries": MOST_DEATHS + 1}]}
    job = {"name": "a", "command": f"echo x >> ran; {KILL}; sleep 1000", "failure_handler": "again"}
    number = store(local, tmp_path, [job], failure_handlers=[handler])
    with pytest.raises(Unavailable, match=f"died {MOST_DEATHS} times.*killed by signal 9"):
        run(local, number, tmp_path)
    assert len((tmp_path / "ran").read_text().split()) == MOST_DEATHS
    assert run(local, number, tmp_path).workflow.state == "failed", "each attempt has counted"
    assert len((tmp_path / "ran").read_text().split()) == MOST_DEATHS + 2


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_start_that_a_spawner_died_with_before_it_told_of_it(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_begun: bool
) -> None:
    monkeypatch.setattr("torc.runner.spawner.__file__", str(Path(__file__).with_name("crash_spawner.py")))
    monkeypatch.setenv("TORC_TEST_CRASH_SPAWNER", str(tmp_path))
    (tmp_path / "spawner_crashes").write_text("2" if is_begun else "1")
    command = "[ -e spawned_before ] && exit; touch spawned_before; exec sleep 1000" if is_begun else "echo x >> ran"
    result = run_jobs(local, tmp_path, {"name": "a", "command": command})["a"]
    assert (tmp_path / "spawner_crashed").exists()
    assert (_ending(result), result.attempt) == (KILLED if is_begun else ("completed", None, 0), 1)
    assert is_begun or (tmp_path / "ran").read_text() == "x\n"


def test_a_gigabyte_on_stdout_goes_to_its_file_and_not_through_the_runner(local: Embedded, tmp_path: Path) -> None:
    result = run_jobs(local, tmp_path, {"name": "a", "command": "head -c 1073741824 /dev/zero"})["a"]
    assert result.return_code == 0
    (path,) = (tmp_path / "out" / "job_stdio").glob("*.o")
    assert path.stat().st_size == 1 << 30
    path.unlink()


def test_the_tail_of_a_large_stderr_is_a_few_whole_lines(local: Embedded, tmp_path: Path) -> None:
    command = "yes 'a line of stderr' | head -n 2000000 >&2; echo 'the last one' >&2; exit 1"
    tail = run_jobs(local, tmp_path, {"name": "a", "command": command})["a"].stderr_tail
    assert tail is not None and len(tail) <= 4096
    assert tail.splitlines()[0] == "a line of stderr"
    assert tail.splitlines()[-1] == "the last one"


def test_bytes_that_are_no_text_on_stderr_do_no_harm(local: Embedded, tmp_path: Path) -> None:
    tail = run_jobs(local, tmp_path, {"name": "a", "command": r"printf '\377\000\200 end' >&2; exit 1"})[
        "a"
    ].stderr_tail
    assert tail is not None and tail.endswith("end")


def test_closing_all_descriptors_is_not_ending(local: Embedded, tmp_path: Path) -> None:
    found = run_jobs(local, tmp_path, {"name": "a", "command": "exec <&- >&- 2>&-; sleep 0.3; : > still_here"})
    assert (found["a"].state, (tmp_path / "still_here").exists()) == ("completed", True)
    assert found["a"].wall_seconds > 0.25


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 15])
def test_exit_by_a_signal_is_told(local: Embedded, tmp_path: Path, number: int) -> None:
    command = f"exec sh -c 'kill -{number} $$'"  # bash itself ignores SIGQUIT
    assert run_jobs(local, tmp_path, {"name": "a", "command": command})["a"].return_code == 128 + number


NAMES = [
    "single ' quote",
    'double " quote',
    "ünïcödé 漢字 🚀",
    "$HOME `id` $(id) ; | & > <",
    "-n",
    "--help",
    "back\\slash",
    "../../escape",
    "*?[a]",
    "%s %d {} {0}",
    "trailing ",
    "#comment",
    "null",
    "a" * 200,
]


def test_names_of_all_kinds_reach_the_job_as_they_are(local: Embedded, tmp_path: Path) -> None:
    jobs = [
        {"name": name, "command": f'printf %s "$TORC_JOB_NAME" > name{number}'} for number, name in enumerate(NAMES)
    ]
    found = run_jobs(local, tmp_path, *jobs)
    assert {result.state.value for result in found.values()} == {"completed"}
    assert [(tmp_path / f"name{number}").read_text() for number in range(len(NAMES))] == NAMES


@pytest.mark.parametrize("name", ["new\nline", "tab\there", "nul\0"])
def test_names_that_no_terminal_or_environment_can_hold_are_refused(local: Embedded, tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="right form"):
        run_jobs(local, tmp_path, {"name": name, "command": "true"})


def test_paths_of_all_kinds_are_looked_for_as_they_are(local: Embedded, tmp_path: Path) -> None:
    paths = [f"dir/{name.replace('/', '_')}" for name in NAMES]
    (tmp_path / "dir").mkdir()
    (tmp_path / "make.py").write_text(f"for path in {paths!r}: open(path, 'w').close()\n")
    files = [{"name": f"file{number}", "path": path} for number, path in enumerate(paths)]
    job = {"name": "a", "command": "python3 make.py", "output_files": [file["name"] for file in files]}
    assert run_jobs(local, tmp_path, job, fields={"files": files})["a"].state == "completed"


def test_a_very_long_command_and_environment_are_run(local: Embedded, tmp_path: Path) -> None:
    long = {"name": "long", "command": ": " + "x" * 300_000 + "\n: > ran"}
    too_long = {"name": "too_long", "command": "true", "env": {"LARGE": "x" * 3_000_000}}
    found = run_jobs(local, tmp_path, long, too_long)
    assert (found["long"].state, (tmp_path / "ran").exists()) == ("completed", True)
    assert (found["too_long"].state, found["too_long"].reason) == ("failed", "not_started")
    assert "Argument list too long" in (found["too_long"].detail or "")


def test_jobs_that_remove_the_folder_of_logs_do_not_stop_the_others(local: Embedded, tmp_path: Path) -> None:
    jobs = [{"name": f"j{n}", "command": "rm -rf out/job_stdio"} for n in range(6)]
    found = run_jobs(local, tmp_path, *jobs, max_parallel_jobs=1)
    assert {result.state.value for result in found.values()} == {"completed"}


def test_a_job_that_stops_its_runner_with_a_signal_is_not_lost(local: Embedded, tmp_path: Path) -> None:
    started = time.monotonic()
    found = run_jobs(local, tmp_path, {"name": "a", "command": f"kill -TERM {os.getpid()}; sleep 100"})
    assert (found["a"].state, found["a"].reason) == ("terminated", "runner_stopped")
    assert time.monotonic() - started < 90, "the job was not waited for"
