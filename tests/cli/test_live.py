"""Rates and times left while a workflow runs."""

from __future__ import annotations

import time

from tests.support.workflows import finish, get, workflow
from torc.cli.live import Progress
from torc.client.embedded import Embedded


def test_the_first_look_has_a_rate_and_an_earlier_run_does_not_count(torc: Embedded) -> None:
    wf = workflow(torc, "a b c")
    finish(torc, wf, "a")
    progress = Progress(torc, get(torc, wf))
    finish(torc, wf, "b")
    progress.look()
    assert progress.finished == 2 and progress.rate > 0
    passed = time.monotonic() - progress.began[0]
    left = progress.seconds_left
    assert left is not None and left >= passed, "one job was done since, and one is left"
