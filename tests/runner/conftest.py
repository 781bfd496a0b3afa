"""Fixtures of the runner's tests: one SQLite store, at a path that a process of its own can open too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running import end_processes
from tests.support.stores import check_all, open_sqlite
from torc.client.embedded import Embedded


@pytest.fixture
def local(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    """Yield a Torc on an empty SQLite store; afterwards every invariant must hold."""
    opened = open_sqlite(sqlite_file, tmp_path)
    yield opened
    check_all(opened)
    opened.close()


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    end_processes()
