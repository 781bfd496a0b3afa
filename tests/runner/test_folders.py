"""Folders as inputs and outputs: a change of anything in them is a change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.running import run, store
from torc.api.workflows import ReinitializeWorkflow
from torc.client.embedded import Embedded
from torc.runner.file_status import look_at, reinitialize, with_hash

pytestmark = pytest.mark.usefixtures("processes")

CHANGES = {
    "a file in it": lambda folder: (folder / "deep" / "x").write_text("changed\n"),
    "a file of the same size": lambda folder: (folder / "deep" / "x").write_text("NEW\n"),
    "a new file": lambda folder: (folder / "y").write_text(""),
    "a file less": lambda folder: (folder / "deep" / "x").unlink(),
    "a new name": lambda folder: (folder / "deep" / "x").rename(folder / "deep" / "y"),
}


@pytest.mark.parametrize("what", [*CHANGES, "nothing", "times alone"])
@pytest.mark.parametrize("written", [False, True], ids=["given", "written"])
def test_a_change_in_a_folder_reruns_who_reads_it(local: Embedded, tmp_path: Path, what: str, written: bool) -> None:
    folder = tmp_path / "data"
    make = "mkdir -p data/deep; echo OLD > data/deep/x"
    jobs = [{"name": "read", "command": "cat data/*/*", "input_files": ["d"]}]
    if written:
        jobs.append({"name": "make", "command": make, "output_files": ["d"]})
    else:
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "x").write_text("OLD\n")
    number = store(local, tmp_path, jobs, files=[{"name": "d", "path": "data"}])
    assert run(local, number, tmp_path).workflow.state == "completed"
    if what == "times alone":
        os.utime(folder / "deep" / "x", (1e9, 2e9))
    elif what != "nothing":
        CHANGES[what](folder)
    changes = reinitialize(local, ReinitializeWorkflow(workflow_id=number, dry_run=True))
    expected = [] if what not in CHANGES else [("read", "input file data changed")]
    assert [(change.job_name, change.reason) for change in changes.changes] == expected


def test_the_hash_of_a_folder_is_of_names_and_contents(tmp_path: Path) -> None:
    for name, content in (("one", "x"), ("other", "x"), ("third", "y")):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "f").write_text(content)
    one, other, third = (
        with_hash(str(tmp_path), look_at(str(tmp_path), name)).sha256 for name in ("one", "other", "third")
    )
    assert one == other != third
    (tmp_path / "other" / "link").symlink_to("deep")
    assert with_hash(str(tmp_path), look_at(str(tmp_path), "other")).sha256 != one
