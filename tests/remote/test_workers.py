"""Workers on machines over SSH: begun, looked at, ended; and what goes wrong there."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.remote.conftest import Far
from tests.support.program import Program
from tests.support.running import is_alive, results, states, wait_until
from tests.support.sshd import far_program, make_key
from tests.support.stores import empty_postgres
from torc import __version__
from torc.api.runs import ListRunners, Runner
from torc.errors import NotFound
from torc.remote import workers
from torc.remote.log_collection import collect
from torc.remote.scripts import StoreAddress
from torc.store.engine import Store as PostgresStore

LONG = {"name": "long", "command": "exec sleep 1000"}


def runners(far: Far, workflow_id: int) -> list[Runner]:
    return far.torc.send(ListRunners(workflow_id=workflow_id)).items


def begun(far: Far, *hosts: str, command: str = "exec sleep 1000") -> int:
    """Return a workflow with a long job for each host, which runs on the first of them."""
    wf = far.workflow(*({"name": f"long{at}", "command": command} for at, _ in enumerate(hosts)))
    far.add(wf, *hosts, max_parallel_jobs=1)
    told = far.start(wf)
    assert all(report.is_ok for report in told.values()), told
    wait_until(lambda: "running" in states(far.torc, wf).values(), "a job runs")
    return wf


def test_workers_on_two_machines_do_the_jobs_of_a_workflow(far: Far) -> None:
    jobs = [{"name": f"j{n}", "command": f"echo $SSH_CONNECTION > {n}.txt"} for n in range(20)]
    wf = far.workflow(*jobs)
    far.add(wf, "far", "behind", num_cpus=2, labels={"rack": "7"})
    told = far.start(wf)
    for host, report in told.items():
        assert (report.state, report.is_ok, report.host) == ("running", True, host) or report.state == "ended", report
    far.wait_for(wf, "completed")
    assert {job: result.return_code for job, result in results(far.torc, wf).items()} == {f"j{n}": 0 for n in range(20)}
    assert (far.folder / "3.txt").exists() and list((far.folder / "torc_output/job_stdio").iterdir())
    for runner in runners(far, wf):
        assert (runner.kind, runner.labels["rack"], runner.capacity.num_cpus) == ("ssh", "7", 2)
    wait_until(lambda: {r.state for r in far.status(wf).values()} == {"ended"}, "both have ended")
    assert {report.exit_code for report in far.status(wf).values()} == {0}


def test_a_worker_outlives_the_connection_that_began_it_and_is_found_again(far: Far) -> None:
    wf = begun(far, "far")
    far.reach.ssh.close()
    far.net.far.stop()
    far.net.far.start()
    again = workers.RemoteAccess(type(far.reach.ssh)(far.reach.ssh._options))
    (found,) = workers.status(far.torc, wf, workers.list_workers(far.torc, wf), again)
    (runner,) = runners(far, wf)
    assert (found.state, found.pid, found.runner_id) == ("running", runner.pid, runner.id)
    assert found.runner_is_active and is_alive(runner.pid)
    again.ssh.close()


@pytest.mark.parametrize("shell", ["dash", "bash --posix", "bash"])
def test_it_does_not_matter_which_shell_is_sh_there(far: Far, shell: str, tmp_path: Path) -> None:
    far.net.far.stop()
    far.net.far.config.write_text(far.net.far.config.read_text() + f"ForceCommand exec {shell} -s\n")
    far.net.far.start()
    wf = begun(far, "far", command="echo out; exec sleep 1000")
    assert far.status(wf)["far"].state == "running"
    assert far.start(wf)["far"].message == "it is already running"
    (told,) = collect(far.torc, wf, workers.list_workers(far.torc, wf), far.reach, tmp_path / "logs")
    assert told.is_ok and told.num_files >= 3
    report = far.stop(wf)["far"]
    assert (report.state, report.is_ok) == ("ended", True)


def test_a_second_start_leaves_a_worker_that_runs_alone(far: Far) -> None:
    wf = begun(far, "far")
    again = far.start(wf)["far"]
    assert (again.state, again.is_ok, again.message) == ("running", True, "it is already running")
    assert len(runners(far, wf)) == 1


def test_two_starts_at_once_begin_one_worker(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far")
    threads = [threading.Thread(target=far.start, args=(wf,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runners(far, wf)) == 1


def test_stopping_ends_a_worker_in_order_and_its_job_can_run_again(far: Far) -> None:
    wf = begun(far, "far")
    report = far.stop(wf)["far"]
    assert (report.state, report.is_ok, report.runner_is_active) == ("ended", True, False)
    (runner,) = runners(far, wf)
    assert runner.end_reason in {"stopped", "finished"} and not is_alive(runner.pid)
    assert far.stop(wf)["far"].state == "ended"
    assert far.start(wf)["far"].state == "running"
    assert len(runners(far, wf)) == 2


def test_a_worker_that_does_not_hear_is_killed_after_the_grace_and_its_runner_taken_off(far: Far) -> None:
    wf = begun(far, "far")
    pid = runners(far, wf)[0].pid
    os.kill(pid, signal.SIGSTOP)
    report = far.stop(wf, grace_seconds=1)["far"]
    assert (report.state, report.is_ok, report.exit_code) == ("died", True, 137)
    assert not is_alive(pid) and report.runner_is_active is False
    assert runners(far, wf)[0].end_reason == "died"
    assert states(far.torc, wf) == {"long0": "ready"}


def test_a_worker_that_was_killed_is_told_and_stopping_it_frees_its_jobs(far: Far) -> None:
    wf = begun(far, "far")
    pid = runners(far, wf)[0].pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "it is gone")
    report = far.status(wf)["far"]
    assert report.state == "died" and report.runner_is_active
    far.stop(wf)
    assert states(far.torc, wf) == {"long0": "ready"}


def test_a_worker_that_is_stopped_before_it_can_listen_has_ended_in_order(far: Far) -> None:
    slow = far.net.folder / "slow"
    inner = far_program(far.net.folder / "inner")
    slow.write_text(f'#!/bin/sh\n[ "$1" = worker ] && exec sleep 1000\nexec {inner} "$@"\n')
    slow.chmod(0o755)
    wf = far.workflow(LONG)
    far.add(wf, "far", torc=str(slow))
    report = far.start(wf, register_seconds=0.5)["far"]
    assert (report.is_ok, report.state, report.kind) == (False, "running", "not_registered")
    report = far.stop(wf)["far"]
    assert (report.is_ok, report.state, report.exit_code, report.runner_id) == (True, "ended", 143, None)


def test_a_process_that_got_the_pid_of_a_worker_is_not_taken_for_it(far: Far) -> None:
    wf = begun(far, "far")
    (state,) = far.net.state.glob("torc/workers/*/process")
    start, _, _, boot = state.read_text().split()
    far.stop(wf)
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        state.write_text(f"{start} {stranger.pid} 12345 {boot}\n")
        assert far.stop(wf, grace_seconds=1)["far"].state == "ended"
        state.write_text(f"{start} {stranger.pid} {ticks(stranger.pid)} another-boot\n")
        assert far.status(wf)["far"].state == "ended"
        assert far.stop(wf, grace_seconds=1)["far"].is_ok
        assert stranger.poll() is None
        stranger.kill()


def ticks(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_a_state_that_is_damaged_ends_nothing(far: Far) -> None:
    wf = begun(far, "far")
    (state,) = far.net.state.glob("torc/workers/*/process")
    whole = state.read_text()
    for text in ("", "x", "a -1 b c\n", "a 0 b c\n", "a $(id) b c\n"):
        state.write_text(text)
        assert far.stop(wf, grace_seconds=1)["far"].state in {"never_started", "ended", "died"}, text
    state.write_text(whole)
    assert far.status(wf)["far"].state == "running"


def test_where_nothing_was_started_nothing_is_told_to_run(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far")
    for report in (far.status(wf)["far"], far.stop(wf)["far"]):
        assert (report.state, report.is_ok) == ("never_started", True)


def test_what_fails_on_one_machine_does_not_hold_up_the_others(far: Far) -> None:
    stranger = make_key(far.net.folder / "stranger")
    far.net.add(far.net.far.as_host("locked", far.net.known_hosts).replace(str(far.net.far.key), str(stranger)))
    wf = far.workflow(LONG)
    far.add(wf, "locked", "far", "nowhere.invalid")
    told = far.start(wf)
    assert {host: (report.is_ok, report.kind) for host, report in told.items()} == {
        "locked": (False, "permission_denied"),
        "far": (True, None),
        "nowhere.invalid": (False, "unresolved"),
    }
    assert all(report.message and report.hint for host, report in told.items() if host != "far")


def test_a_machine_without_torc_is_told(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far", torc="/nowhere/torc")
    far.add(wf, "other", torc="no-such-torc")
    told = far.start(wf)
    assert {report.kind for report in told.values()} == {"no_torc"}
    assert "/nowhere/torc" in (told["far"].message or "") and runners(far, wf) == []


def test_a_torc_of_another_version_is_told_and_nothing_begins(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far", torc=str(far_program(far.net.folder / "old", "0.12.3")))
    report = far.start(wf)["far"]
    assert report.kind == "other_version" and "0.12.3" in (report.message or "")
    assert runners(far, wf) == [] and not far.net.state.exists()


def test_a_program_that_is_no_torc_is_told(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far", torc="/bin/echo")
    far.add(wf, "other", torc="/bin/false")
    told = far.start(wf)
    assert (told["far"].kind, told["other"].kind) == ("no_torc", "broken_torc")


def test_a_directory_that_is_not_there_is_told(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far", directory=str(far.folder / "missing"))
    assert far.start(wf)["far"].kind == "no_directory"


def test_a_server_that_is_not_reached_from_there_is_told(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far")
    lost = StoreAddress("http://127.0.0.1:9", {"TORC_API_URL": "http://127.0.0.1:9"})
    (report,) = workers.check(far.torc, wf, workers.list_workers(far.torc, wf), lost, far.reach)
    assert report.kind == "no_store" and "http://127.0.0.1:9" in (report.message or "")


def test_another_store_with_a_workflow_of_the_same_id_is_told_apart(far: Far, tmp_path: Path) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far")
    (tmp_path / "else").mkdir()
    program = Program(tmp_path / "else")
    program("create", program.write("w.yaml", "name: x\njobs: [{name: a, command: 'true'}]\n"))
    other = StoreAddress("elsewhere", {"TORC_DB": str(tmp_path / "else/.torc/torc.db")})
    (report,) = workers.check(far.torc, wf, workers.list_workers(far.torc, wf), other, far.reach)
    assert report.kind == "other_store"


def test_workers_may_find_the_store_on_postgresql(far: Far, postgres_store: PostgresStore) -> None:
    on_postgres = empty_postgres(postgres_store)
    url = postgres_store.engine.url.render_as_string(hide_password=False)
    with_store = replace(far, torc=on_postgres, store=StoreAddress("postgresql", {"TORC_DB": url}))  # type: ignore[arg-type]
    wf = with_store.workflow({"name": "a", "command": "torc workflows list -f json > seen"}, name="on postgresql")
    with_store.add(wf, "far")
    assert with_store.start(wf)["far"].is_ok
    with_store.wait_for(wf, "completed")
    assert "on postgresql" in (far.folder / "seen").read_text()
    wait_until(lambda: with_store.status(wf)["far"].state == "ended", "the worker has ended")


def test_a_password_that_the_far_side_says_again_is_not_shown(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far", torc=str(far.net.folder / "telling"))
    (far.net.folder / "telling").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec echo torc {__version__}\necho "cannot open $TORC_DB with $TORC_TOKEN"\n'
    )
    (far.net.folder / "telling").chmod(0o755)
    lost = StoreAddress("postgresql://h/d", {"TORC_DB": "postgresql://u:secret1@h/d", "TORC_TOKEN": "secret2"})
    (report,) = workers.check(far.torc, wf, workers.list_workers(far.torc, wf), lost, far.reach)
    assert report.kind == "no_store" and "cannot open postgresql://h/d" in (report.message or "")
    assert "secret" not in report.model_dump_json()


def test_what_a_far_side_says_is_made_harmless_for_a_terminal(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far", torc=str(far.net.folder / "says"))
    (far.net.folder / "says").write_text("#!/bin/sh\nprintf 'torc 99.0\\033[31m\\377'\n")
    (far.net.folder / "says").chmod(0o755)
    report = far.start(wf)["far"]
    assert report.kind == "no_torc" and report.message and report.message.isprintable()
    (far.net.folder / "says").write_text("#!/bin/sh\nprintf '\\033[31mbroken\\377'; exit 1\n")
    report = far.start(wf)["far"]
    assert report.kind == "broken_torc" and report.message and report.message.isprintable()


def test_a_connection_that_is_cut_while_a_worker_starts_leaves_one_worker_that_is_found(far: Far) -> None:
    slow = far.net.folder / "slow"
    inner = far_program(far.net.folder / "inner")
    slow.write_text(f'#!/bin/sh\n[ "$1" = worker ] && touch {far.net.folder}/starting\nexec {inner} "$@"\n')
    slow.chmod(0o755)
    wf = far.workflow(LONG)
    far.add(wf, "far", torc=str(slow))
    cutting = threading.Thread(target=lambda: cut_when(far, far.net.folder / "starting"))
    cutting.start()
    far.start(wf)
    cutting.join()
    wait_until(lambda: far.status(wf)["far"].runner_is_active, "the worker has its runner")
    assert far.start(wf)["far"].message == "it is already running"
    assert len(runners(far, wf)) == 1


def cut_when(far: Far, path: Path) -> None:
    wait_until(path.exists, "the worker begins")
    far.net.far.cut()


def test_names_with_characters_of_the_shell_mean_themselves(far: Far) -> None:
    odd = far.net.folder / "a b'c\"d$(touch X)`touch Y`;&|*?\\n{e}"
    program = far_program(odd)
    (odd / "work $HOME").mkdir()
    wf = far.workflow({"name": "here", "command": "pwd > here.txt"})
    far.add(
        wf,
        "far",
        torc=str(program),
        directory=str(odd / "work $HOME"),
        output_dir=str(odd / "out'put"),
        labels={"note": 'it\'s $(id) "quoted" --db x'},
    )
    assert far.start(wf)["far"].is_ok
    far.wait_for(wf, "completed")
    assert (odd / "work $HOME/here.txt").read_text() == f"{odd}/work $HOME\n"
    (runner,) = runners(far, wf)
    assert runner.labels["note"] == 'it\'s $(id) "quoted" --db x'
    assert list((odd / "out'put/job_stdio").iterdir())
    assert not list(far.net.folder.rglob("X")) and not (far.folder / "X").exists()
    wait_until(lambda: far.status(wf)["far"].state == "ended", "it has ended")


def test_a_token_is_in_no_argument_list_and_in_no_file_there(far: Far) -> None:
    secret = far.store.variables["TORC_TOKEN"]
    wf = begun(far, "far")
    pid = runners(far, wf)[0].pid
    assert f"TORC_TOKEN={secret}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert secret.encode() not in entry.read_bytes(), entry
        except OSError:
            continue
    for path in [*far.net.state.rglob("*"), *far.net.home.rglob("*"), *(far.folder / "torc_output").rglob("*")]:
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    (state,) = far.net.state.glob("torc/workers/*")
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_a_worker_that_fails_at_once_is_told_with_its_reason(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far")
    report = far.start(wf, words=("--memory", "nonsense"))["far"]
    assert (report.is_ok, report.state, report.kind) == (False, "died", "did_not_begin")
    assert "--memory" in (report.message or "") or "nonsense" in (report.message or ""), report


def test_hosts_that_are_not_kept_with_the_workflow_are_refused(far: Far) -> None:
    wf = far.workflow(LONG)
    far.add(wf, "far")
    with pytest.raises(NotFound, match="no remote worker `elsewhere`"):
        workers.list_workers(far.torc, wf, ["far", "elsewhere"])


def test_the_program_is_found_in_the_home_directory(far: Far) -> None:
    (far.net.folder / "bin/torc").unlink()
    far_program(far.net.home / ".local/bin")
    wf = far.workflow(LONG)
    far.add(wf, "far", directory="~")
    report = far.start(wf)["far"]
    assert report.is_ok and report.program == str(far.net.home / ".local/bin/torc")
    assert report.output_dir == str(far.net.home / "torc_output")
