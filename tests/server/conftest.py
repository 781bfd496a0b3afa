"""Fixtures of the server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from tests.support.accounts import People, gather
from tests.support.serving import Door
from tests.support.stores import check_all, open_sqlite
from torc.client.embedded import Embedded


@pytest.fixture
def door(sqlite_file: Path, tmp_path: Path) -> Iterator[Door]:
    """Yield a client of a real server on an empty database; afterwards every invariant must hold."""
    opened = open_sqlite(sqlite_file, tmp_path)
    made = Door(opened.store, largest_body=100_000)
    yield made
    made.close()
    check_all(opened)
    opened.close()


class Http:
    """Speaks plain HTTP to a server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pool = urllib3.PoolManager(retries=False, timeout=10.0)

    def __call__(self, method: str, path: str, **more: object) -> urllib3.BaseHTTPResponse:
        """Ask; `json=` sends JSON."""
        return self.pool.request(method, self.url + path, **more)  # type: ignore[arg-type]


@pytest.fixture
def http(door: Door) -> Iterator[Http]:
    """Yield a plain client."""
    made = Http(door.url)
    yield made
    made.pool.clear()


@pytest.fixture(scope="session")
def _people_template(sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, People]:
    folder = tmp_path_factory.mktemp("people")
    opened = open_sqlite(sqlite_file, folder)
    people = gather(opened)
    opened.close()
    return folder / "torc.db", people


@pytest.fixture
def store_with_people(_people_template: tuple[Path, People], tmp_path: Path) -> tuple[Embedded, People]:
    """Return a store with people in it; their passwords are hashed once a session."""
    path, people = _people_template
    torc = open_sqlite(path, tmp_path)
    return torc, dataclasses.replace(people, torc=torc, accounts=dict(people.accounts), groups=dict(people.groups))
