"""Fixtures of all packages."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.postgres import start_postgres
from tests.support.serving import Door
from tests.support.stores import DATABASES, check_all, empty_postgres, open_sqlite, sqlite_template
from torc.client.embedded import Embedded
from torc.store.engine import Store, open_store

# the same examples in every run: a failure is always of the change at hand. TORC_TEST_RANDOM=1 looks for new ones
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("default" if os.environ.get("TORC_TEST_RANDOM") else "same")


# under nohup, or in the background of a shell, signals are ignored, and the programs that tests start would inherit that; a signal
# with a handler gets its default action back in a new program
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda number, frame: None)

#: packages and modules whose tests start no program: those are the fast ones
_QUICK = {
    "architecture",
    "client",
    "failures",
    "operations",
    "planning",
    "runner/test_deferral.py",
    "runner/test_lines.py",
    "runner/test_reactor.py",
    "schedulers/slurm/step/test_messages.py",
    "schedulers/test_allocation_planning.py",
    "schedulers/slurm/test_output_parser.py",
    "schedulers/slurm/test_refusals.py",
    "spec",
    "store",
    "workflow",
}


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what starts programs out of the fast run; begin with what needs the cluster, which one process does alone."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parent)
        if len(place.parts) > 1 and not {place.parts[0], str(place)} & _QUICK:
            item.add_marker(pytest.mark.slow)
        if "slurm" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("slurm"))
    items.sort(key=lambda item: "slurm" not in getattr(item, "fixturenames", ()))


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
