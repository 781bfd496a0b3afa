"""Databases that can only be read: on a file system that is read-only, or of somebody else. What is stored can be looked at."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.faults.test_full_disks import not_as_root
from tests.support.program import Program
from tests.support.workflows import workflow
from torc.api.workflows import DeleteWorkflow, GetWorkflow
from torc.client.embedded import Embedded
from torc.errors import Unavailable
from torc.store.engine import open_store

pytestmark = pytest.mark.usefixtures("processes")

SPEC = """
name: study
resource_monitor: {enabled: true, granularity: time_series}
jobs: [{name: good, command: 'echo hello'}, {name: bad, command: 'echo "No such file or directory" >&2; exit 3'}]
"""
LOOKING = [
    "status 1",
    "workflows list",
    "workflows get 1 -f json",
    "jobs list 1",
    "jobs get 2",
    "jobs logs 1",
    "jobs explain 2",
    "results list 1",
    "events list 1",
    "compute-nodes list 1",
    "workflows diagnose 1",
    "logs analyze 1",
    "plan 1",
    "reports summary 1",
    "workflows check 1",
    "workflows export 1 --spec-only -o -",
]
CHANGING = [
    "run 1",
    "run spec.yaml",
    "create spec.yaml",
    "jobs reset 2",
    "workflows delete 1 --yes",
    "recover 1",
    "workflows cancel 1",
]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount a folder over itself, read-only."""
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_what_is_stored_on_a_read_only_file_system_can_be_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    program = Program(folder)
    program("run", program.write("spec.yaml", SPEC), "-q", code=1)
    before = sorted(path.name for path in (folder / ".torc").iterdir())
    with read_only(folder):
        for command in LOOKING:
            done = program(*command.split(), code=None)
            assert done.code in {0, 1} and "fault of Torc" not in done.stderr and done.stdout, (command, done)
        for command in CHANGING:
            done = program(*command.split(), code=5)
            assert "read-only file system" in done.stderr.lower(), (command, done)
        archive = tmp_path / "bundle.tar.gz"
        program("logs", "bundle", "1", "-o", archive)
        program("plot-resources", "1", "-o", tmp_path / "plots", code=None)
        assert archive.stat().st_size > 1000
    assert sorted(path.name for path in (folder / ".torc").iterdir()) == before
    assert program("jobs", "reset", "2").code == 0


def test_a_log_that_a_crash_left_is_taken_in_elsewhere(local: Embedded, tmp_path: Path) -> None:
    number = workflow(local, "a b c")
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    assert local.store.path is not None
    for end in ("", "-wal"):
        shutil.copyfile(f"{local.store.path}{end}", crashed / f"torc.db{end}")
    assert (crashed / "torc.db-wal").stat().st_size
    files = sorted(crashed.iterdir())
    with read_only(crashed):
        store = open_store(crashed / "torc.db")
        assert store.read_only is not None and store.read_only.folder is not None
        copy = Path(store.read_only.folder.name)
        assert "a copy of it is read" in store.notes[0]
        opened = Embedded(store, "user:kim")
        assert opened.send(GetWorkflow(workflow_id=number)).counts.total == 3
        opened.close()
        assert not copy.exists() and sorted(crashed.iterdir()) == files


def test_a_file_that_one_may_only_read_is_read_beside_its_writer(local: Embedded, tmp_path: Path) -> None:
    number = workflow(local, "a b")
    path = local.store.path
    assert path is not None
    for each in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        each.chmod(0o644)
    for folder in (path.parent, *path.parent.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o055)
    with not_as_root():
        opened = Embedded(open_store(path), "user:kim")
        assert opened.send(GetWorkflow(workflow_id=number)).counts.total == 2
        with pytest.raises(Unavailable, match="is read-only for you") as caught:
            opened.send(DeleteWorkflow(workflow_id=number))
        assert caught.value.exit_code == 5
        opened.close()
    assert local.send(GetWorkflow(workflow_id=number)).counts.total == 2


def test_an_older_database_that_cannot_be_upgraded_is_told_so(local: Embedded, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    assert local.store.path is not None
    with closing(sqlite3.connect(local.store.path)) as db, closing(sqlite3.connect(old / "torc.db")) as copy:
        db.backup(copy)
        copy.execute("UPDATE alembic_version SET version_num = '0001'")
        copy.commit()
    with read_only(old), pytest.raises(Unavailable, match=r"older Torc.*can only be read"):
        open_store(old / "torc.db")
