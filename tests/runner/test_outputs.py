"""An output that was there before an attempt does not pass for one that the attempt wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.runner.harness import job
from tests.support.running import results, run, run_jobs, store
from torc.client.embedded import Embedded
from torc.runner.deferral import DeferredEnds
from torc.runner.outputs import looks, not_written, unsettled_seconds
from torc.runner.state import StartAttempt

pytestmark = pytest.mark.usefixtures("processes")

FILES = {"files": [{"name": "o", "path": "made"}]}


def ended(torc: Embedded, folder: Path, command: str, **more: Any) -> tuple[str, str | None, str | None]:
    """Run a job that declares `made`."""
    result = run_jobs(torc, folder, {"name": "a", "command": command, "output_files": ["o"], **more}, fields=FILES)["a"]
    return result.state.value, result.reason, result.detail


OLD = ("failed", "missing_output", "did not update made: it has not changed since the start of this attempt")


@pytest.mark.parametrize(
    "command", ["true", "echo NEW > maed", "cat made", "cp made copy", "[ -e made ] || echo NEW > made"]
)
@pytest.mark.parametrize("age", ["old", "fresh", "future"])
def test_what_was_there_before_is_no_output(local: Embedded, tmp_path: Path, command: str, age: str) -> None:
    made = tmp_path / "made"
    made.write_text("OLD\n")
    if age != "fresh":
        at = made.stat().st_mtime + (-200_000 if age == "old" else 200_000)
        os.utime(made, (at, at))
    assert ended(local, tmp_path, command) == OLD


WRITES = {
    "writes": "echo OLD > made",
    "appends": "echo more >> made",
    "replaces": "echo OLD > new; mv new made",
    "touches": "touch made",
    "keeps times": "cp -p original made",
    "sets an old time": "touch -d '3 days ago' made",
    "moves something old": "mv original made",
    "links something old": "ln -f original made",
    "unpacks": "tar -cf t.tar -C there made; tar -xf t.tar",
    "removes and makes": "rm made; echo OLD > made",
    "becomes a folder": "rm made; mkdir made",
    "becomes a link": "rm made; ln -s original made",
}


@pytest.mark.parametrize("how", WRITES)
def test_whatever_writes_it_counts_whatever_the_times_say(local: Embedded, tmp_path: Path, how: str) -> None:
    (tmp_path / "there").mkdir()
    for name in ("made", "original", "there/made"):
        (tmp_path / name).write_text("OLD\n")
        os.utime(tmp_path / name, (1e9, 1e9))
    assert ended(local, tmp_path, WRITES[how])[0] == "completed"


def test_a_link_is_followed(local: Embedded, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("OLD\n")
    (tmp_path / "made").symlink_to("real")
    assert ended(local, tmp_path, "true") == OLD
    assert ended(local, tmp_path, "echo NEW > real")[0] == "completed"


FOLDERS = {
    "true": False,
    "cat made/*": False,
    "mkdir -p made": False,
    "echo NEW > made/deep/new": True,
    "echo NEW > made/a": True,
    "rm made/a": True,
    "touch made": True,
    "mv made/a made/b": True,
}


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_is_written_when_something_in_it_is(local: Embedded, tmp_path: Path, command: str) -> None:
    (tmp_path / "made" / "deep").mkdir(parents=True)
    (tmp_path / "made" / "a").write_text("OLD\n")
    expected = "completed" if FOLDERS[command] else "failed"
    assert ended(local, tmp_path, command)[0] == expected


def test_a_folder_with_too_much_in_it_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(2_001):
        (folder / str(number)).touch()
    before = looks([str(folder)])
    assert not_written([str(folder)], before) == ((), ())


AGAIN: dict[str, Any] = {
    "failure_handlers": [{"name": "again", "rules": [{"exit_codes": [7], "delay_seconds": 0}]}],
    "files": [{"name": "o", "path": "made"}],
}


@pytest.mark.parametrize("second", ["true", "echo 1 > made"], ids=["leaves", "writes"])
def test_what_the_attempt_before_wrote_is_no_output_of_the_next(local: Embedded, tmp_path: Path, second: str) -> None:
    """Both write the same bytes to the same file, one just after the other."""
    command = f"[ $TORC_ATTEMPT_ID == 2 ] && {{ {second}; exit; }}; echo 1 > made; exit 7"
    one = {"name": "a", "command": command, "output_files": ["o"], "failure_handler": "again"}
    number = store(local, tmp_path, [{**one, "name": "a"}], **AGAIN)
    run(local, number, tmp_path)
    result = results(local, number)["a"]
    assert result.attempt == 2
    assert (result.state.value, result.detail) == (("failed", OLD[2]) if second == "true" else ("completed", None))


def test_a_run_that_goes_on_wants_new_outputs(local: Embedded, tmp_path: Path) -> None:
    one = {"name": "a", "command": "[ -e stop ] || { echo 1 > made; touch stop; kill $$; }", "output_files": ["o"]}
    number = store(local, tmp_path, [one], **FILES)
    run(local, number, tmp_path)
    from torc.api.workflows import ResetWorkflow

    local.send(ResetWorkflow(workflow_id=number))
    run(local, number, tmp_path)
    assert results(local, number)["a"].detail == OLD[2]


def test_missing_and_old_outputs_are_told_together(local: Embedded, tmp_path: Path) -> None:
    files = [{"name": f"f{n}", "path": f"f{n}"} for n in range(4)]
    for name in ("f0", "f1"):
        (tmp_path / name).touch()
    one = {"name": "a", "command": "touch f2", "output_files": [f"f{n}" for n in range(4)]}
    result = run_jobs(local, tmp_path, one, fields={"files": files})["a"]
    assert (
        result.detail
        == "did not write f3; did not update f0, f1: they have not changed since the start of this attempt"
    )


def test_an_output_that_shows_its_change_late_is_waited_for(tmp_path: Path) -> None:
    from tests.runner.test_deferral import _exited

    made = tmp_path / "made"
    made.write_text("OLD")
    before = looks([str(made)])
    patience = DeferredEnds(visibility_delay_seconds=10.0, signal_seconds=0.0)
    assert patience.keeps(_exited(0, old=(str(made),), before=before), 100.0, is_stopping=False)
    assert patience.ready(100.5, is_stopping=False) == []
    made.write_text("NEW AND LONGER")
    (told,) = patience.ready(patience.due, is_stopping=False)
    assert (told.missing, told.old) == ((), ())


def test_a_start_waits_until_a_change_of_its_outputs_would_show(tmp_path: Path) -> None:
    made = tmp_path / "made"
    start = StartAttempt(job(1).model_copy(update={"outputs": [str(made)]}), ())
    patience = DeferredEnds(visibility_delay_seconds=0.0, signal_seconds=0.0)
    assert not patience.holds(start, 100.0)
    made.write_text("x")
    while not (seconds := unsettled_seconds([str(made)])):
        made.write_text("x")  # so slow a machine that the moment has passed
    assert seconds < 2.1
    held = patience.holds(start, 100.0)
    if held:
        assert 100.0 < patience.due <= 102.1
        assert patience.starts(patience.due) == [start]
