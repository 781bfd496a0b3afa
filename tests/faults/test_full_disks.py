"""Disks that are full or read-only, under the logs, the database, or both. Real small file systems, where root may mount."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running import run, start_process, states, store, wait_until
from tests.support.stores import check_all
from torc.client.embedded import Embedded
from torc.errors import TorcError, Unavailable
from torc.runner.local_run import RunOptions, run_here
from torc.store.engine import open_store

pytestmark = pytest.mark.usefixtures("processes")

_BYTES = 8 << 20
_USE_ALL_FILES = "cd $SMALL; i=0; while [ $i -lt 100 ]; do (: > f$i) 2>/dev/null; i=$((i+1)); done"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a file system of 8 MiB and 60 files."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_BYTES},nr_inodes=60", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this user may not mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_jobs_wait_while_the_disk_of_the_logs_is_full_and_go_on_when_there_is_room(
    local: Embedded, tmp_path: Path, small_disk: Path
) -> None:
    jobs = [{"name": f"j{n}", "command": f"echo x >> {tmp_path}/ran{n}"} for n in range(15)]
    fill = {"name": "fill", "command": f"{_USE_ALL_FILES}; sleep 1; rm -f f*", "depends_on": ["j0"]}
    number = store(local, tmp_path, [*jobs, fill], env={"SMALL": str(small_disk)})
    outcome = run_here(local, number, RunOptions(output_dir=small_disk / "out", max_parallel_jobs=2, wait_seconds=0.2))
    assert outcome.workflow.state == "completed"
    assert {path.read_text() for path in tmp_path.glob("ran*")} == {"x\n"}


def test_a_disk_that_stays_full_ends_the_run_and_fails_no_job(
    local: Embedded, tmp_path: Path, small_disk: Path
) -> None:
    jobs = [{"name": "fill", "command": _USE_ALL_FILES}, {"name": "after", "command": "true", "depends_on": ["fill"]}]
    number = store(local, tmp_path, jobs, env={"SMALL": str(small_disk)})
    options = RunOptions(output_dir=small_disk / "out", wait_seconds=0.2)
    with pytest.raises(Unavailable, match="No space left"):
        run_here(local, number, options)
    assert states(local, number) == {"fill": "completed", "after": "ready"}
    for path in small_disk.glob("f*"):
        path.unlink()
    assert run_here(local, number, options).workflow.state == "completed"


def test_a_full_disk_under_the_database_loses_no_result(sqlite_file: Path, tmp_path: Path, small_disk: Path) -> None:
    database = small_disk / "torc.db"
    shutil.copyfile(sqlite_file, database)
    torc = Embedded(open_store(database), "user:tester")
    fill = {"name": "fill", "command": f"dd if=/dev/zero of={small_disk}/filler bs=4096 2>/dev/null; true"}
    jobs = [{"name": f"j{n}", "command": f"echo x >> ran{n}", "depends_on": ["fill"]} for n in range(300)]
    number = store(torc, tmp_path, [fill, *jobs])
    process = start_process(database, number, tmp_path / "out", max_parallel_jobs=2)
    wait_until(lambda: list((tmp_path / "out").glob("undelivered*")), "the runner keeps results on another disk")
    process.kill()
    process.communicate()
    kept = {path.name for path in tmp_path.glob("ran*")}
    (small_disk / "filler").unlink()
    assert run(torc, number, tmp_path).workflow.state == "completed"
    assert {path.read_text() for path in tmp_path.glob("ran*")} <= {"x\n", "x\nx\n"}
    twice = [path for path in tmp_path.glob("ran*") if path.read_text() != "x\n"]
    assert len(twice) <= 2, f"only what ran at the kill may run again, not {twice} of {len(kept)}"
    check_all(torc)
    torc.close()


@contextlib.contextmanager
def not_as_root() -> Iterator[None]:
    """Let this process be nobody for a while: root may write everywhere."""
    codecs.lookup("ascii")  # nobody may not read where Python is
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_that_may_not_be_written_is_refused(local: Embedded, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    number = store(local, tmp_path, [{"name": "a", "command": "true"}])
    with not_as_root(), pytest.raises(Unavailable, match=r"locked.*Permission denied"):
        run_here(local, number, RunOptions(output_dir=tmp_path / "locked" / "out"))
    assert states(local, number) == {"a": "ready"}


def test_a_read_only_output_directory_is_refused_before_anything_starts(
    local: Embedded, tmp_path: Path, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    number = store(local, tmp_path, [{"name": "a", "command": "touch ran"}])
    with pytest.raises(Unavailable, match="Read-only") as caught:
        run_here(local, number, RunOptions(output_dir=small_disk / "out"))
    assert "--output-dir" in (caught.value.hint or "")
    assert states(local, number) == {"a": "ready"}


def test_an_output_directory_that_is_a_file_is_refused(local: Embedded, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    number = store(local, tmp_path, [{"name": "a", "command": "true"}])
    with pytest.raises(TorcError, match="out"):
        run(local, number, tmp_path)


def test_a_run_goes_on_and_ends_when_there_is_room_again_though_database_and_journal_were_on_the_full_disk(
    sqlite_file: Path, tmp_path: Path, small_disk: Path
) -> None:
    database = small_disk / "torc.db"
    shutil.copyfile(sqlite_file, database)
    torc = Embedded(open_store(database), "user:tester")
    waits = "until [ -e {folder}/go ]; do sleep 0.05; done; echo x >> {folder}/ran{n}"
    first = [
        {"name": f"j{n}", "command": f": > {tmp_path}/up{n}; " + waits.format(folder=tmp_path, n=n)} for n in range(2)
    ]
    last = [
        {"name": f"j{n}", "command": f"echo x >> {tmp_path}/ran{n}", "depends_on": ["j0", "j1"]} for n in range(2, 10)
    ]
    number = store(torc, tmp_path, [*first, *last])
    process = start_process(database, number, small_disk / "out", max_parallel_jobs=2)
    wait_until(lambda: len(list(tmp_path.glob("up*"))) == 2, "two jobs run")
    with contextlib.suppress(OSError), open(small_disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    wait_until(lambda: os.statvfs(small_disk).f_bavail == 0, "the disk is full")
    (tmp_path / "go").touch()
    wait_until(lambda: len(list(tmp_path.glob("ran*"))) == 2, "they end")
    wait_until(
        lambda: list((small_disk / "out").glob("undelivered*")) or process.poll() is not None, "it tried to keep them"
    )
    assert process.poll() is None, process.communicate()
    (small_disk / "filler").unlink()
    out, err = process.communicate(timeout=90)
    assert '"state": "completed"' in out, err
    assert {path.read_text() for path in tmp_path.glob("ran*")} == {"x\n"}
    assert len(list(tmp_path.glob("ran*"))) == 10
    assert not list((small_disk / "out").glob("undelivered*"))
    check_all(torc)
    torc.close()
