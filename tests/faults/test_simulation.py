"""Some hundred seeded histories; `scripts/simulate` lives through as many as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.simulation import simulate
from tests.support.examples import examples
from tests.support.stores import open_sqlite


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_no_history_breaks_what_must_hold(sqlite_file: Path, tmp_path: Path, first: int) -> None:
    torc = open_sqlite(sqlite_file, tmp_path)
    for seed in range(first, first + examples(50)):
        simulate(seed, torc)
    torc.close()


def test_a_seed_is_one_history(sqlite_file: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        torc = open_sqlite(sqlite_file, tmp_path / name)
        digests.append(simulate(5, torc).history.hexdigest())
        torc.close()
    assert digests[0] == digests[1]
