"""Fixtures of reports: a Torc on a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import check_all, open_sqlite
from torc.client.embedded import Embedded


@pytest.fixture
def embedded(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    """Yield a Torc on an empty database."""
    opened = open_sqlite(sqlite_file, tmp_path)
    yield opened
    check_all(opened)
    opened.close()
