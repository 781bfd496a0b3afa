"""Which process is which."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from torc import processes


@pytest.mark.usefixtures("processes")
def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    assert processes.start_ticks(os.getpid()) == processes.start_ticks(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert processes.start_ticks(process.pid) is None, "a zombie has ended"
    assert processes.start_ticks(process.pid) is None


def test_a_boot_has_a_name() -> None:
    assert processes.boot_id() == processes.boot_id() != ""
