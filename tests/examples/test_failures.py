"""Examples that really fail: each failure is told apart, and what can be put right is, by a watch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.examples.cases import EXAMPLES, text
from tests.examples.test_examples import torc
from torc.api.events import ListEvents
from torc.client.connect import connect

pytestmark = pytest.mark.usefixtures("processes")

#: job -> category, and what its explanation must mention
DIAGNOSES = {
    "memory": ("out_of_memory", "64 MiB"),
    "allocation": ("out_of_memory", "MemoryError"),
    "runtime": ("timeout", "limit of 1.0s"),
    "quota": ("disk_full", "File too large"),
    "disk": ("disk_full", "No space left on device"),
    "handles": ("resource_limit", "Too many open files"),
    "module": ("missing_module", "a_module_that_nobody_has"),
    "file": ("missing_file", "nobody_wrote_this.csv"),
    "program": ("missing_file", "a_program_that_nobody_has"),
    "network": ("network", "Connection refused"),
    "crash": ("unknown", "segmentation fault"),
    "abort": ("unknown", "SIGABRT"),
    "check": ("assertion", "the energy must be negative"),
    "killed": ("killed_by_user", "SIGTERM"),
}


def test_each_way_to_fail_is_told_apart(tmp_path: Path) -> None:
    assert torc(tmp_path, "run", str(EXAMPLES / "yaml/failures.yaml"), "-q").returncode == 1
    listed = json.loads(torc(tmp_path, "jobs", "list", "1", "-f", "json").stdout)
    assert {job["name"] for job in listed if job["state"] != "completed"} == set(DIAGNOSES)
    found = json.loads(torc(tmp_path, "workflows", "diagnose", "1", "-f", "json").stdout)
    assert found["num_failed"] == len(DIAGNOSES)
    names = {job["id"]: job["name"] for job in listed}
    explained = {names[number]: group for group in found["groups"] for number in group["job_ids"]}
    for name, (category, _) in DIAGNOSES.items():
        group = explained[name]
        assert group["category"] == category, (name, group)
    for number, name in names.items():
        if name in {"memory", "handles", "quota", "crash", "killed"}:
            told = torc(tmp_path, "jobs", "explain", str(number)).stdout
            assert DIAGNOSES[name][1] in told, told


def test_a_sweep_that_ran_out_of_memory_and_time_ends_well_under_a_watch(tmp_path: Path) -> None:
    assert torc(tmp_path, "create", str(EXAMPLES / "yaml/recover.yaml")).returncode == 0
    watched = torc(tmp_path, "watch", "--recover")
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert text(tmp_path, "recover/iterate.txt") == "converged\n"
    sizes = {path.stem for path in (tmp_path / "example_output/recover").glob("[0-9]*.txt")}
    assert sizes == {"1", "2", "65", "105"}
    store = connect(cwd=tmp_path)
    rounds = store.send(ListEvents(workflow_id=1, type="workflow_recovered")).items
    store.close()
    assert 1 <= len(rounds) <= 3 and all(event.data["automation"] == "watch" for event in rounds)
    (log,) = (tmp_path / "torc_output").glob("watch_*_1.log")
    assert "job(s) will run again" in log.read_text() and "ending: completed" in log.read_text()
