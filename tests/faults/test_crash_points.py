"""A bounded number of the points at which a process can end; `scripts/crash-points` explores all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.faults.crash_points import sample
from tests.faults.crash_scenarios import SCENARIOS
from tests.support.running import ROOT

pytestmark = pytest.mark.usefixtures("processes")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_that_ends_at_any_point_is_resumed_and_loses_nothing(scenario: str, database: str) -> None:
    command = [sys.executable, "-m", "tests.faults.crash_points", "--workflow", scenario, "--database", database]
    # in a process of its own: it forks, and this one has threads
    done = subprocess.run([*command, "--most", "10"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failures" in done.stdout


def test_points_are_sampled_evenly_with_both_ends() -> None:
    assert sample(5, None) == sample(5, 9) == [1, 2, 3, 4, 5]
    assert sample(301, 4) == [1, 101, 201, 301]
