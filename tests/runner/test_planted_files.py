"""Folders that others may write to: nothing is written through what they put there, and nothing of theirs is acted on.

Another user's part is played by one with a number of its own, so these need root.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program
from torc import files
from torc.automation import lock
from torc.reports import log_files
from torc.runner import dead_runners, journal, time_series
from torc.runner.spawner_client import OutputFiles, ProcessEnded, ProcessStarted, SpawnerClient, StartFailed
from torc.runner.state import PendingReports

pytestmark = pytest.mark.usefixtures("processes")

STRANGER = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can play two users")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a file whose content must stay."""
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return an output folder that all may write to."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def spawner() -> Iterator[SpawnerClient]:
    made = SpawnerClient(os.environb.copy())
    yield made
    made.close()


def run(spawner: SpawnerClient, folder: Path, *names: str, key: int = 1) -> ProcessEnded | StartFailed:
    out, err = (str(folder / "job_stdio" / name) for name in names)
    spawner.start(key, ["/bin/sh", "-c", "echo out; echo err >&2"], OutputFiles(out, err), {}, place=key)
    while True:
        for event in spawner.events():
            if not isinstance(event, ProcessStarted):
                return event


def test_output_goes_through_no_link_and_is_for_its_owner(spawner: SpawnerClient, shared: Path, victim: Path) -> None:
    logs = shared / "job_stdio"
    logs.mkdir()
    (logs / "a.o").symlink_to(victim)
    os.link(victim, logs / "a.e")
    assert isinstance(run(spawner, shared, "a.o", "a.e"), ProcessEnded)
    assert victim.read_text() == "precious"
    assert (logs / "a.o").read_text() == "out\n" and (logs / "a.e").read_text() == "err\n"
    assert stat.S_IMODE((logs / "a.o").lstat().st_mode) == 0o600


def test_a_folder_of_logs_that_becomes_a_link_takes_nothing(
    spawner: SpawnerClient, shared: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (shared / "job_stdio").symlink_to(elsewhere)
    ended = run(spawner, shared, "a.o", "a.e")
    assert isinstance(ended, StartFailed) and not list(elsewhere.iterdir())
    (shared / "job_stdio").unlink()
    assert isinstance(run(spawner, shared, "a.o", "a.e", key=2), ProcessEnded)
    (shared / "job_stdio").rename(shared / "moved")
    (shared / "job_stdio").symlink_to(elsewhere)
    run(spawner, shared, "b.o", "b.e", key=3)
    assert not list(elsewhere.iterdir())


def test_one_file_for_both_streams_holds_both(spawner: SpawnerClient, shared: Path) -> None:
    assert isinstance(run(spawner, shared, "a.o", "a.o"), ProcessEnded)
    assert (shared / "job_stdio/a.o").read_text() == "out\nerr\n"


def test_a_pipe_and_a_device_are_written_to_as_they_are(spawner: SpawnerClient, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    for key, paths in enumerate(
        [OutputFiles(str(pipe), str(tmp_path / "e")), OutputFiles("/dev/null", str(tmp_path / "e"))]
    ):
        spawner.start(key, ["/bin/sh", "-c", "echo out; echo err >&2"], paths, {}, place=key)
        while not any(isinstance(event, ProcessEnded) for event in spawner.events()):
            pass
        assert (tmp_path / "e").read_text() == "err\n"
    assert os.read(reader, 100) == b"out\n"
    os.close(reader)


@as_root
def test_a_folder_of_somebody_else_is_refused_with_a_word(program_in: Program) -> None:
    folder = program_in.directory / "torc_output"
    (folder / "job_stdio").mkdir(parents=True)
    os.chown(folder / "job_stdio", STRANGER, STRANGER)
    done = program_in("run", program_in.write("w.yaml", "name: w\njobs: [{name: a, command: 'true'}]\n"), code=5)
    assert "it is not yours" in done.stderr and "--output-dir" in done.stderr


@pytest.fixture
def program_in(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_a_run_writes_over_nothing_that_was_planted(program_in: Program, victim: Path) -> None:
    output = program_in.directory / "torc_output"
    logs = output / "job_stdio"
    logs.mkdir(parents=True)
    output.chmod(0o777)
    host = os.uname().nodename
    names = [
        f"job_runner_{host}_wf1_r1.log",
        "sessions_wf1_n1.txt",
        f"resource_metrics_{host}_wf1_r1_1.db",
        "undelivered_wf1_n1.json",
    ]
    for name in names:
        (output / name).symlink_to(victim)
    for name in ("job_wf1_j1_r1_a1.o", "job_wf1_j1_r1_a1.e", "job_wf1_j1_r1_a1.sh"):
        (logs / name).symlink_to(victim)
    long = "true " + "x" * 130_000
    spec = {
        "name": "w",
        "resource_monitor": {"enabled": True, "granularity": "time_series"},
        "jobs": [{"name": "a", "command": long}],
    }
    program_in("run", program_in.write("w.json", json.dumps(spec)), "-q")
    assert victim.read_text() == "precious"
    made = [path for path in logs.iterdir() if not path.is_symlink()]
    assert made and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in made)


def test_what_is_made_is_for_its_owner(program_in: Program) -> None:
    program_in("run", program_in.write("w.yaml", "name: w\njobs: [{name: a, command: 'true'}]\n"), "-q")
    output = program_in.directory / "torc_output"
    for path in (output, *output.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@as_root
def test_a_planted_line_of_a_session_ends_no_process(shared: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        planted = shared / "sessions_wf1_n1.txt"
        line = f"{bystander.pid} {began:.2f}\n"
        planted.write_text(line)
        os.chown(planted, STRANGER, STRANGER)
        dead_runners.end_processes("1.nothing", planted)
        planted.unlink()
        planted.write_text(line)
        planted.chmod(0o666)
        dead_runners.end_processes("1.nothing", planted)
        (shared / "link").symlink_to(planted)
        planted.chmod(0o600)
        dead_runners.end_processes("1.nothing", shared / "link")
        assert bystander.poll() is None
        dead_runners.end_processes("1.nothing", planted)  # of our own: what it is for
        assert bystander.wait(10) == -signal.SIGKILL


@as_root
def test_a_process_of_somebody_else_is_ended_by_no_file(shared: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True, user=STRANGER) as other:
        path = shared / "sessions_wf1_n1.txt"
        path.write_text(f"{other.pid} {time.clock_gettime(time.CLOCK_BOOTTIME):.2f}\n")
        path.chmod(0o600)
        dead_runners.end_processes("1.nothing", path)
        assert other.poll() is None
        other.kill()


@as_root
def test_a_journal_of_somebody_else_is_no_report(shared: Path, victim: Path) -> None:
    kept = journal.Journal(shared, journal.JournalOwner(1, 1))
    kept.path.symlink_to(victim)
    kept.keep(PendingReports(()))
    assert victim.read_text() == "precious" and not kept.is_whole
    kept.path.unlink()
    kept.keep(PendingReports(()))
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert len(kept.path.read_text().splitlines()) == 2, "what could not be written before is there, too"
    os.chown(kept.path, STRANGER, STRANGER)
    nobody: Any = None  # is asked
    assert journal.deliver(nobody, 1, 1, shared) == 0 and kept.path.exists()


@as_root
def test_a_lock_names_a_process_only_when_it_is_our_own(shared: Path, victim: Path) -> None:
    path = lock.path_of(shared, 1)
    with lock.held(shared, 1):
        who = lock.holder(shared, 1)
        assert who is not None and who.pid == os.getpid() and who.is_alive
        assert not who._replace(process="another boot 1").is_alive
        os.chown(path, STRANGER, STRANGER)
        assert lock.holder(shared, 1) is None
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(Exception, match=r"not yours|symbolic"), lock.held(shared, 1):
        pass
    assert victim.read_text() == "precious"


def test_a_log_that_is_a_link_is_not_shown(tmp_path: Path, victim: Path) -> None:
    logs = tmp_path / "job_stdio"
    logs.mkdir()
    (logs / "job_wf1_j1_r1_a1.o").symlink_to(victim)
    assert log_files.end_of(logs / "job_wf1_j1_r1_a1.o") is None
    real = tmp_path / "real"
    real.mkdir()
    (real / "x.o").write_text("text")
    logs_link = tmp_path / "other"
    logs_link.mkdir()
    (logs_link / "job_stdio").symlink_to(real)
    with pytest.raises(OSError):
        files.open_log(logs_link / "job_stdio" / "x.o")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):
        files.open_log(tmp_path / "pipe")
    with files.open_log(real / "x.o") as file:
        assert file.read() == b"text"


def test_series_go_into_a_file_of_their_own(tmp_path: Path, victim: Path) -> None:
    path = time_series.path_of(tmp_path, "host", 1, 1, 1)
    path.symlink_to(victim)
    writer = time_series.SeriesWriter(path, {})
    writer.close()
    assert victim.read_text() == "precious" and not path.is_symlink()
    path.unlink()
    path.symlink_to(victim)
    assert list(time_series.recorded(tmp_path, 1)) == []


def test_others_lose_the_right_to_write_to_the_folder_of_logs(tmp_path: Path) -> None:
    folder = tmp_path / "job_stdio"
    folder.mkdir()
    folder.chmod(0o775)
    files.private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(OSError):
        files.private_folder(tmp_path / "link")
    files.private_folder(tmp_path / "new/one")
    assert stat.S_IMODE((tmp_path / "new/one").stat().st_mode) == 0o700


@as_root
def test_the_owner_is_asked_of_the_file_system_where_numbers_differ(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.write_text("x")
    os.chown(path, STRANGER, STRANGER)
    with pytest.raises(PermissionError):
        files.open_trusted(path)
    with pytest.raises(PermissionError):
        os.close(files.open_to_append(path))
    os.chown(path, 0, 0)
    assert files.read_trusted(path) == b"x"


def test_folders_above_those_that_torc_makes_are_for_their_owner_alone_too(
    spawner: SpawnerClient, tmp_path: Path
) -> None:
    before = os.umask(0o022)
    try:
        files.make_folder(tmp_path / "made" / "output" / "job_stdio")
        files.private_folder(tmp_path / "private" / "output" / "job_stdio")
        assert isinstance(run(spawner, tmp_path / "spawned" / "output", "a.o", "a.e"), ProcessEnded)
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) == 9
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}
