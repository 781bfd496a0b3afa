"""What is said of an allocation from which no runner was ever heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stores import open_sqlite
from torc.api.allocations import Allocation
from torc.automation.scheduler_executor import SchedulerExecutor
from torc.planning.allocations import AllocationState
from torc.schedulers.slurm.backend import SlurmBackend


@pytest.mark.parametrize(("num_runners", "number_of_lines"), [(0, 1), (2, 0)])
def test_the_end_of_its_log_is_told(
    sqlite_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, num_runners: int, number_of_lines: int
) -> None:
    (tmp_path / "slurm_output_wf3_sl17.e").write_text("fine\nerror: the server does not answer\x1b[2J\n")
    item = Allocation(
        name="a",
        walltime_seconds=60,
        id=1,
        workflow_id=3,
        run_id=1,
        mark="m",
        cluster_job_id="17",
        created_at=0.0,
        state=AllocationState.ENDED,
        started_at=1.0,
        ended_at=2.0,
        num_runners=num_runners,
    )
    opened = open_sqlite(sqlite_file, tmp_path)
    hands = SchedulerExecutor(opened, SlurmBackend(), log_folder=tmp_path)
    hands._tell_log(item)
    opened.close()
    said = [message for message in caplog.messages if "no runner of allocation 17" in message]
    assert len(said) == number_of_lines
    assert all("the server does not answer" in message and "\x1b" not in message for message in said)
