"""A wall clock that is set back or forth while jobs run: limits and durations keep to the monotonic clock."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.support.running import results, run, store
from torc.client.embedded import Embedded
from torc.runner import local_run as local_runner
from torc.runner.context import RunnerContext

pytestmark = pytest.mark.usefixtures("processes")

_YEAR = 365 * 86400.0


@pytest.mark.parametrize("jump", [-_YEAR, _YEAR])
def test_durations_and_limits_are_right_when_the_clock_jumps(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    readings = (1.8e9 + jump * number for number in itertools.count())

    class JumpingContext(RunnerContext):
        def __init__(self, **fields: object) -> None:
            super().__init__(**{**fields, "clock": lambda: next(readings)})  # type: ignore[arg-type]

    monkeypatch.setattr(local_runner, "RunnerContext", JumpingContext)
    needs = [{"name": "brief", "num_cpus": 1, "memory": "1m", "runtime": "PT1S"}]
    jobs = [
        {"name": "quick", "command": "sleep 0.2", "resource_requirements": "brief"},
        {"name": "slow", "command": "sleep 100", "resource_requirements": "brief"},
    ]
    number = store(local, tmp_path, jobs, resource_requirements=needs)
    run(local, number, tmp_path, max_parallel_jobs=1)
    found = results(local, number)
    assert (found["quick"].state, found["slow"].reason) == ("completed", "timeout")
    assert 0.2 <= found["quick"].wall_seconds < 60
    assert 0.9 <= found["slow"].wall_seconds < 60  # the limit counts from just before the start
    stamps = [result.started_at for result in found.values()]
    assert stamps[0] is not None and stamps[1] is not None and abs(stamps[0] - stamps[1]) >= _YEAR
