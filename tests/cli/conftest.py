"""Fixtures of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import Program
from tests.support.serving import start
from tests.support.stores import check_all, open_sqlite
from torc.server.identity import OwnerOnLoopback

#: for tests of what only a database in the directory has
EMBEDDED = pytest.mark.parametrize("program", ["embedded"], indirect=True)


@pytest.fixture(params=["embedded", "server"])
def program(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """Give the program in an empty directory, once with a database there and once with a server elsewhere."""
    if request.param == "embedded":
        yield Program(tmp_path)
        return
    opened = open_sqlite(request.getfixturevalue("sqlite_file"), tmp_path_factory.mktemp("server"))
    serving = start(opened.store, OwnerOnLoopback())
    yield Program(tmp_path, serving.url)
    serving.stop()
    check_all(opened)
    opened.close()
