"""Fixtures of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import Program
from tests.support.serving import start
from tests.support.stores import check_all, open_sqlite
from torc.client.credentials import write_token
from torc.server.authentication import Authentication

SECRET = "the-owners-token"

#: for tests of what only a database in the directory has
EMBEDDED = pytest.mark.parametrize("program", ["embedded"], indirect=True)


@pytest.fixture(params=["embedded", "server"])
def program(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """Yield the program in an empty directory, once with a database there and once with a server elsewhere."""
    if request.param == "embedded":
        yield Program(tmp_path)
        return
    folder = tmp_path_factory.mktemp("server")
    opened = open_sqlite(request.getfixturevalue("sqlite_file"), folder)
    serving = start(opened.store, Authentication(SECRET).identity(opened.store))
    write_token(folder / "token", SECRET)
    yield Program(tmp_path, serving.url, folder / "token")
    serving.stop()
    check_all(opened)
    opened.close()
