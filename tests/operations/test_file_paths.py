"""Jobs and files that are added or changed later are compared by path, as those of a spec are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workflows import create, run_all, runner, workflow
from torc.api.data import CreateFile, File, GetFile, ListFiles, UpdateFile
from torc.api.jobs import CreateJob, Job, ListJobs
from torc.client.embedded import Embedded
from torc.errors import Conflict

FILES = [{"name": "res", "path": "res.txt"}, {"name": "folder", "path": "outd"}, {"name": "raw", "path": "raw/a.txt"}]
JOBS: dict[str, Any] = {"w": {"output_files": ["res", "folder"]}, "r": {"input_files": ["raw"]}, "x": {}}


@pytest.fixture
def wf(torc: Embedded) -> int:
    return workflow(torc, "w r x", jobs=JOBS, files=FILES)


def add(torc: Embedded, wf: int, name: str = "n", **fields: Any) -> Job:
    return torc.send(CreateJob(workflow_id=wf, name=name, command="true", **fields))


def file(torc: Embedded, wf: int, name: str, path: str) -> File:
    return torc.send(CreateFile(workflow_id=wf, name=name, path=path))


def names(torc: Embedded, wf: int) -> list[str]:
    return [job.name for job in torc.send(ListJobs(workflow_id=wf)).items]


@pytest.mark.parametrize("path", ["res.txt", "./res.txt", "a/../res.txt", "{directory}/res.txt", "outd/x.txt", "."])
def test_an_added_job_cannot_write_what_another_writes_under_another_name(torc: Embedded, path: str) -> None:
    wf = create(
        torc,
        {"name": "t", "files": FILES, "jobs": [{"name": "w", "command": "x", "output_files": ["res", "folder"]}]},
        directory="/some/where",
    ).id
    file(torc, wf, "alias", path.format(directory="/some/where"))
    with pytest.raises(Conflict, match=r"two jobs would write the same file: .*`w`") as caught:
        add(torc, wf, output_files=["alias"])
    assert f"torc workflows reinitialize {wf} --spec" in (caught.value.hint or "")
    assert names(torc, wf) == ["w"]


@pytest.mark.parametrize("path", ["res.txt", "./res.txt", "a/../res.txt", "outd/x.txt", "outd/deep/er/"])
def test_an_added_job_waits_for_whoever_writes_the_path_that_it_reads(torc: Embedded, wf: int, path: str) -> None:
    file(torc, wf, "alias", path)
    assert add(torc, wf, input_files=["alias"]).depends_on == ["w"]


def test_an_added_job_that_reads_a_folder_waits_for_all_that_write_into_it(torc: Embedded, wf: int) -> None:
    for number in range(2):
        file(torc, wf, f"part{number}", f"parts/{number}")
        add(torc, wf, f"p{number}", output_files=[f"part{number}"])
    file(torc, wf, "parts", "parts/")
    assert add(torc, wf, "all", input_files=["parts"]).depends_on == ["p0", "p1"]


@pytest.mark.parametrize("path", ["./raw/a.txt", "raw"])
def test_an_added_job_cannot_write_what_is_read_by_those_who_do_not_wait_for_it(
    torc: Embedded, wf: int, path: str
) -> None:
    file(torc, wf, "alias", path)
    with pytest.raises(Conflict, match=r"raw/a\.txt is read by job `r`, which does not wait for `n`"):
        add(torc, wf, output_files=["alias"])
    assert names(torc, wf) == ["w", "r", "x"]


def test_an_added_job_may_write_into_a_folder_whose_writer_it_waits_for(torc: Embedded, wf: int) -> None:
    file(torc, wf, "inside", "outd/more.txt")
    add(torc, wf, "between", depends_on=["w"])
    assert add(torc, wf, depends_on=["between"], output_files=["inside"]).output_files == ["inside"]


def test_an_added_job_cannot_read_what_it_writes_under_another_name(torc: Embedded, wf: int) -> None:
    file(torc, wf, "one", "own.txt")
    file(torc, wf, "two", "./own.txt")
    with pytest.raises(Conflict, match="wait for itself"):
        add(torc, wf, input_files=["two"], output_files=["one"])
    file(torc, wf, "home", "home")
    file(torc, wf, "mine", "home/mine")
    assert add(torc, wf, input_files=["home"], output_files=["mine"]).depends_on == [], (
        "who works in a folder may read it"
    )


def test_a_changed_path_is_refused_where_it_is_that_of_another_job(torc: Embedded, wf: int) -> None:
    mine = file(torc, wf, "mine", "mine.txt")
    add(torc, wf, output_files=["mine"])
    for path, message in [
        ("b/../res.txt", "two jobs would write the same file"),
        ("outd/mine.txt", "two jobs would write the same file"),
        ("raw", "is read by job `r`"),
    ]:
        with pytest.raises(Conflict, match=message):
            torc.send(UpdateFile(file_id=mine.id, path=path))
    assert torc.send(GetFile(file_id=mine.id)).path == "mine.txt"
    assert torc.send(UpdateFile(file_id=mine.id, path="other.txt")).path == "other.txt"


def test_what_is_read_cannot_become_what_a_job_writes_unless_all_readers_wait_for_it(torc: Embedded, wf: int) -> None:
    raw = torc.send(ListFiles(workflow_id=wf, name="raw")).items[0]
    with pytest.raises(Conflict, match=r"\./res.txt is read by job `r`, which does not wait for `w`"):
        torc.send(UpdateFile(file_id=raw.id, path="./res.txt"))
    late = file(torc, wf, "late", "late.txt")
    add(torc, wf, "after", depends_on=["w"], input_files=["late"])
    assert torc.send(UpdateFile(file_id=late.id, path="./res.txt")).path == "./res.txt"


def test_while_it_runs_a_workflow_gains_no_output_that_another_one_writes(torc: Embedded, wf: int) -> None:
    other = workflow(torc, "o", jobs={"o": {"output_files": ["o"]}}, files=[{"name": "o", "path": "theirs.txt"}])
    runner(torc, other)
    file(torc, wf, "alias", "./theirs.txt")
    held = runner(torc, wf)
    assert held
    with pytest.raises(Conflict, match=f"workflow {other} .* runs and writes"):
        add(torc, wf, output_files=["alias"])


def test_the_added_jobs_run(torc: Embedded, wf: int) -> None:
    file(torc, wf, "alias", "outd/x.txt")
    add(torc, wf, input_files=["alias"])
    assert run_all(torc, wf).state == "completed"
