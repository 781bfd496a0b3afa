"""Copies of a database that go wrong on the way, and those that are made at intervals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.running import wait_until
from torc.client import backup
from torc.errors import Forbidden, Unavailable
from torc.store.engine import open_store


def test_a_database_that_nothing_could_replace_keeps_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, copy = tmp_path / "torc.db", tmp_path / "copy.db"
    open_store(database).close()
    backup.back_up(str(database), copy)
    log = tmp_path / "torc.db-wal"
    real, link = os.replace, os.link

    def begin(source: Path, target: Path) -> None:
        if source == database:
            log.write_bytes(b"what it has not folded in")
        link(source, target)

    def replace(source: Path, target: Path) -> None:
        if target == database:
            raise PermissionError(13, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "link", begin)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Unavailable, match="cannot restore"):
        backup.restore(str(database), copy)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "torc.db", "torc.db-wal"]
    assert log.read_bytes() == b"what it has not folded in"


def test_copies_that_nobody_asked_for_leave_the_database_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "torc.db"
    open_store(database).close()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=2 * database.stat().st_size))
    with backup.kept(str(database), 3600.0, 5):
        wait_until(lambda: "cannot make a backup" in caplog.text, "it is told")
    assert not list(tmp_path.glob("backups/*"))
    monkeypatch.undo()
    with backup.kept(str(database), 3600.0, 5):
        wait_until(lambda: list(tmp_path.glob("backups/torc.db.backup-auto-*")), "the first one is due at once")
    with backup.kept(str(database), 3600.0, 5):
        pass
    assert len(list(tmp_path.glob("backups/torc.db.backup-auto-*"))) == 1, "the next one is not due yet"


def test_a_copy_that_others_could_have_written_is_restored_only_by_force(tmp_path: Path) -> None:
    database, copy = tmp_path / "torc.db", tmp_path / "copy.db"
    open_store(database).close()
    backup.back_up(str(database), copy)
    copy.chmod(0o666)
    with pytest.raises(Forbidden, match="would run as you"):
        backup.restore(str(database), copy)
    copy.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(copy, 65534, -1)
        with pytest.raises(Forbidden, match="does not belong to you"):
            backup.restore(str(database), copy)
    assert backup.restore(str(database), copy, force=True).workflows == 0
