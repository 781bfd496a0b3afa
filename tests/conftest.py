"""Fixtures of all packages."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.examples import examples
from tests.support.postgres import start_postgres
from tests.support.serving import Door
from tests.support.stores import DATABASES, check_all, empty_postgres, open_sqlite, sqlite_template
from torc.client.embedded import Embedded
from torc.store.engine import Store, open_store

# the same examples in every run: a failure is always of the change at hand. TORC_TEST_RANDOM=1 looks for new ones
settings.register_profile("same", derandomize=True, deadline=None, max_examples=examples(100))
settings.load_profile("default" if os.environ.get("TORC_TEST_RANDOM") else "same")


# under nohup, or in the background of a shell, signals are ignored, and the programs that tests start would inherit that; a signal
# with a handler gets its default action back in a new program
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)

#: fixtures that start programs, need another database or take many seconds; a test that uses one is left out of the fast run
_SLOW_FIXTURES = {"browser", "large", "net", "postgres_store", "processes", "program", "slurm"}
_STARTS_PROGRAM = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}
#: the fast test that is running, if any: it may start no program
_fast_tests: list[str] = []


def _refuse_programs(event: str, arguments: tuple[object, ...]) -> None:
    if _fast_tests and event in _STARTS_PROGRAM:
        raise AssertionError(f"{_fast_tests[0]} starts a program {arguments[:1]}: add the fixture `processes` to it")


sys.addaudithook(_refuse_programs)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what takes a slow fixture; begin with what needs the cluster, which one process does alone."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & _SLOW_FIXTURES:
            item.add_marker(pytest.mark.slow)
        if "slurm" in fixtures:
            item.add_marker(pytest.mark.xdist_group("slurm"))
    items.sort(key=lambda item: "slurm" not in getattr(item, "fixturenames", ()))


@contextlib.contextmanager
def _held_to_no_programs(item: pytest.Item) -> Iterator[None]:
    if item.get_closest_marker("slow") is None:
        _fast_tests.append(item.nodeid)
    try:
        yield
    finally:
        _fast_tests.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Hold the fixtures of fast tests to starting no program."""
    with _held_to_no_programs(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hold fast tests to starting no program."""
    with _held_to_no_programs(item):
        yield


@pytest.fixture
def processes() -> None:
    """Declare that a test starts programs."""


@pytest.fixture
def large() -> None:
    """Declare that a test takes megabytes of text or tens of thousands of jobs."""


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite database with all tables, to be copied."""
    return sqlite_template(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def postgres_store() -> Iterator[Store]:
    """Yield a PostgreSQL database of this test process."""
    cluster = start_postgres()
    store = open_store(cluster.url())
    yield store
    store.close()
    cluster.stop()


@pytest.fixture(params=[*DATABASES, "http"])
def torc(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Embedded | Door]:
    """Yield a Torc on an empty store, once on each database and once through a server; afterwards every invariant must hold."""
    if request.param != "postgresql":
        opened = open_sqlite(request.getfixturevalue("sqlite_file"), tmp_path)
        door = Door(opened.store) if request.param == "http" else None
        yield door or opened
        if door is not None:
            door.close()
        check_all(opened)
        opened.close()
    else:
        opened = empty_postgres(request.getfixturevalue("postgres_store"))
        yield opened
        check_all(opened)
