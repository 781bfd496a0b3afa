"""Rates and times left while a workflow runs."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from tests.support.workflows import finish, get, workflow
from torc.cli import live_display
from torc.cli.live_display import ProgressPoll, display
from torc.client.embedded import Embedded
from torc.errors import Unavailable


def test_the_first_look_has_a_rate_and_an_earlier_run_does_not_count(torc: Embedded) -> None:
    wf = workflow(torc, "a b c")
    finish(torc, wf, "a")
    progress = ProgressPoll(torc, get(torc, wf))
    finish(torc, wf, "b")
    progress.look()
    assert progress.finished == 2 and progress.rate > 0
    passed = time.monotonic() - progress.began[0]
    left = progress.seconds_left
    assert left is not None and left >= passed, "one job was done since, and one is left"


class Away:
    """A server that has gone."""

    def send(self, _: object) -> None:
        raise Unavailable("the server does not answer")


def test_progress_goes_on_with_what_is_known_while_the_server_is_away(
    torc: Embedded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_display, "_PLAIN_SECONDS", 0.0)
    wf = workflow(torc, "a b c")
    finish(torc, wf, "a")
    with display(Away(), get(torc, wf), quiet=False) as update:
        assert update is not None
        update(SimpleNamespace(running=[], unreachable_seconds=0.0))
        update(SimpleNamespace(running=[], unreachable_seconds=7.0))
    told = capsys.readouterr().err
    assert told.count("1/3 finished") == 2 and "does not answer for 7s" in told
