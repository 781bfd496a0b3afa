"""What a changed file, command or value makes due again, and why; and taking in an edited spec."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.workflows import claim, create, ended, exchange, get, job, jobs, run_all, runner, states
from torc.api.data import ListFiles, ListUserData, SetUserData, UpdateFile, UpdateRequirement
from torc.api.events import ListEvents
from torc.api.jobs import ActOnJobs, UpdateJob
from torc.api.runs import EndRunner, ListResults
from torc.api.workflows import Changes, FileFact, GetWorkflow, ReinitializeWorkflow, UpdateWorkflow
from torc.client.embedded import Embedded
from torc.errors import Conflict, Invalid
from torc.runner import file_status


def chain() -> dict[str, Any]:
    """in.txt -> a -> mid.txt -> b -> out.txt, beside them c which reads user data, and d on its own."""
    return {
        "name": "chain",
        "jobs": [
            {"name": "a", "command": "sort in.txt > mid.txt", "input_files": ["in"], "output_files": ["mid"]},
            {"name": "b", "command": "wc mid.txt > out.txt", "input_files": ["mid"], "output_files": ["out"]},
            {"name": "c", "command": "use ${user_data.input.u}", "resource_requirements": "small"},
            {"name": "d", "command": "true"},
        ],
        "files": [{"name": name, "path": f"{name}.txt"} for name in ("in", "mid", "out")],
        "user_data": [{"name": "u", "data": {"x": 1}}],
        "resource_requirements": [{"name": "small"}],
    }


@dataclass
class Stored:
    """A stored workflow in a real directory, with a clock of its own."""

    torc: Embedded
    directory: Path
    id: int = 0
    now: float = 100.0
    document: dict[str, Any] = field(default_factory=chain)

    def store(self) -> None:
        self.id = create(self.torc, self.document, str(self.directory)).id

    def write(self, name: str, text: str) -> None:
        path = self.directory / f"{name}.txt"
        path.write_text(text)
        # another time for each text, whatever the file system's clock does
        self.now += 1
        os.utime(path, (self.now, self.now))

    def run(self, failing: tuple[str, ...] = (), spoil: str | None = None) -> None:
        """Run what is due as the runner of a machine does. `spoil`: an input that changes in the middle."""
        self.now += 10
        seen = file_status.look_before(self.torc, self.id, str(self.directory), self.now)
        due = {name for name, found in jobs(self.torc, self.id).items() if found.state not in {"completed", "disabled"}}
        run_all(self.torc, self.id, failing, at=self.now + 2)
        for writer, name in (("a", "mid"), ("b", "out")):
            if writer in due - set(failing):
                self.write(name, f"written by {writer}")
        if spoil:
            self.write(spoil, "changed in the middle")
        file_status.look_after(self.torc, seen)

    def reinitialize(self, **fields: Any) -> Changes:
        return file_status.reinitialize(self.torc, ReinitializeWorkflow(workflow_id=self.id, **fields))

    def reasons(self, **fields: Any) -> dict[str, str]:
        """Return what would be done, and check that asking changed nothing."""
        before = get(self.torc, self.id)
        found = self.reinitialize(dry_run=True, **fields)
        assert not found.applied
        assert get(self.torc, self.id) == before
        assert found.total == len(found.changes)
        return {change.job_name: change.reason for change in found.changes}

    def edited(self) -> dict[str, Any]:
        return {"spec": json.dumps(self.document), "format": "json"}

    def state(self) -> str:
        return states(self.torc, self.id)


@pytest.fixture
def stored(torc: Embedded, tmp_path: Path) -> Stored:
    """Return the chain, stored and completed."""
    made = Stored(torc, tmp_path)
    made.write("in", "one")
    made.store()
    made.run()
    assert made.state() == "a:completed b:completed c:completed d:completed"
    return made


A_AND_B = "upstream job a reruns"


def test_where_nothing_changed_nothing_is_due(stored: Stored) -> None:
    before = get(stored.torc, stored.id)
    changes = stored.reinitialize()
    assert (changes.applied, changes.total, changes.changes) == (True, 0, [])
    assert get(stored.torc, stored.id) == before, "and nothing at all was written"


def test_a_touched_input_makes_nothing_due(stored: Stored) -> None:
    stored.write("in", "one")
    assert stored.reasons() == {}


def test_a_touched_intermediate_file_makes_nothing_due(stored: Stored) -> None:
    stored.write("mid", "written by a")
    assert stored.reasons() == {}


def test_a_changed_input_makes_its_readers_due_and_all_behind_them(stored: Stored) -> None:
    stored.write("in", "two")  # of the same size
    assert stored.reasons() == {"a": "input file in.txt changed", "b": A_AND_B}
    changes = stored.reinitialize()
    assert [(c.job_name, c.state, c.new_state) for c in changes.changes] == [
        ("a", "completed", "ready"),
        ("b", "completed", "blocked"),
    ]
    assert stored.state() == "a:ready b:blocked c:completed d:completed"
    stored.run()
    assert (get(stored.torc, stored.id).state, get(stored.torc, stored.id).run_id) == ("completed", 2)
    assert stored.reasons() == {}


def test_what_a_person_did_to_an_intermediate_file_counts(stored: Stored) -> None:
    stored.write("mid", "edited by hand")
    assert stored.reasons() == {"b": "input file mid.txt changed"}


def test_a_missing_output_makes_its_writer_due(stored: Stored) -> None:
    (stored.directory / "out.txt").unlink()
    assert stored.reasons() == {"b": "output out.txt is missing"}


def test_a_missing_intermediate_file_is_said_of_both_sides(stored: Stored) -> None:
    (stored.directory / "mid.txt").unlink()
    assert stored.reasons() == {"a": "output mid.txt is missing", "b": "input file mid.txt is missing"}


def test_a_changed_command_makes_its_job_due(stored: Stored) -> None:
    number = jobs(stored.torc, stored.id)["a"].id
    stored.torc.send(UpdateJob(job_id=number, command="sort -r in.txt > mid.txt"))
    assert stored.reasons() == {"a": "command changed", "b": A_AND_B}
    stored.torc.send(UpdateJob(job_id=number, command="sort in.txt > mid.txt"))
    assert stored.reasons() == {}, "it is as it was when it ran"


def test_two_changes_since_the_run_are_compared_with_the_run(stored: Stored) -> None:
    number = jobs(stored.torc, stored.id)["d"].id
    stored.torc.send(UpdateJob(job_id=number, command="one"))
    stored.torc.send(UpdateJob(job_id=number, env={"X": "1"}))
    assert stored.reasons() == {"d": "command changed; environment changed"}


def test_what_results_do_not_depend_on_is_ignored(stored: Stored) -> None:
    found = jobs(stored.torc, stored.id)["c"]
    stored.torc.send(UpdateRequirement(requirement_id=found.requirement_id, memory_bytes=1 << 40, num_cpus=9))
    stored.torc.send(UpdateJob(job_id=found.id, priority=5, supports_termination=True))
    stored.torc.send(UpdateWorkflow(workflow_id=stored.id, name="renamed", settings={"enforce_memory": True}))
    assert stored.reasons() == {}


def test_the_environment_of_the_workflow_counts_for_all_jobs(stored: Stored) -> None:
    stored.torc.send(UpdateWorkflow(workflow_id=stored.id, env={"SEED": "2"}))
    assert stored.reasons() == dict.fromkeys("abcd", "environment changed")
    stored.torc.send(UpdateWorkflow(workflow_id=stored.id, env={}))
    assert stored.reasons() == {}


def test_changed_user_data_makes_its_readers_due(stored: Stored) -> None:
    number = stored.torc.send(ListUserData(workflow_id=stored.id)).items[0].id
    stored.torc.send(SetUserData(user_data_id=number, data={"x": 2}))
    assert stored.reasons() == {"c": "user data u changed"}
    stored.torc.send(SetUserData(user_data_id=number, data={"x": 1}))
    assert stored.reasons() == {}


def test_a_file_that_moved_is_new_to_its_readers(stored: Stored) -> None:
    number = next(f.id for f in stored.torc.send(ListFiles(workflow_id=stored.id)).items if f.name == "in")
    (stored.directory / "elsewhere.txt").write_text("one")
    stored.torc.send(UpdateFile(file_id=number, path="elsewhere.txt"))
    assert stored.reasons() == {"a": "input file elsewhere.txt is new", "b": A_AND_B}


def test_an_input_that_changed_in_the_middle_of_the_run_is_noticed(torc: Embedded, tmp_path: Path) -> None:
    made = Stored(torc, tmp_path)
    made.write("in", "one")
    made.store()
    made.run(spoil="in")
    assert made.reasons() == {"a": "input file in.txt changed", "b": A_AND_B}


def test_an_input_that_changed_before_an_interrupted_run_went_on_is_noticed(torc: Embedded, tmp_path: Path) -> None:
    made = Stored(torc, tmp_path)
    made.document["jobs"][1]["input_files"].append("in")
    made.write("in", "one")
    made.store()
    seen = file_status.look_before(torc, made.id, str(tmp_path), 200.0)
    worker = runner(torc, made.id)
    given = claim(torc, made.id, worker)
    made.write("mid", "written by a")
    stop = [ended(item, "succeeded" if name == "a" else "interrupted", at=202.0) for name, item in given.items()]
    exchange(torc, made.id, worker, stopping=True, finished=stop)
    torc.send(EndRunner(workflow_id=made.id, runner_id=worker))
    file_status.look_after(torc, seen)
    made.write("in", "two")
    made.now = 300.0
    made.run()
    assert made.state().count("completed") == 4
    # a saw the former one; b saw the new one, but no record tells them apart
    assert made.reasons() == {
        "a": "input file in.txt changed",
        "b": "input file in.txt changed",
    }
    made.reinitialize()
    made.run()
    assert made.reasons() == {}


def test_a_killed_run_leaves_enough_to_notice_a_changed_input(torc: Embedded, tmp_path: Path) -> None:
    made = Stored(torc, tmp_path)
    made.write("in", "one")
    made.store()
    file_status.look_before(torc, made.id, str(tmp_path), 150.0)
    run_all(torc, made.id, at=152.0)
    made.write("mid", "x")
    made.write("out", "x")  # and it is gone before it could look again
    made.write("in", "two")
    made.now = 300.0
    made.run()
    assert made.reasons() == {"a": "input file in.txt changed", "b": A_AND_B}


def test_unsuccessful_jobs_are_due_with_all_behind_them(torc: Embedded, tmp_path: Path) -> None:
    made = Stored(torc, tmp_path)
    made.write("in", "one")
    made.store()
    made.run(failing=("a",))
    assert made.state() == "a:failed b:canceled c:completed d:completed"
    assert made.reasons() == {"a": "it was failed before", "b": "it was canceled before"}
    made.reinitialize()
    assert made.state() == "a:ready b:blocked c:completed d:completed"


def test_a_job_that_ran_again_alone_and_wrote_the_same_leaves_its_readers_alone(stored: Stored) -> None:
    number = jobs(stored.torc, stored.id)["a"].id
    stored.torc.send(ActOnJobs(workflow_id=stored.id, job_ids=[number], action="reset"))
    stored.run()
    assert stored.reasons() == {}


def test_a_disabled_job_is_left_alone(stored: Stored) -> None:
    number = jobs(stored.torc, stored.id)["a"].id
    stored.torc.send(ActOnJobs(workflow_id=stored.id, job_ids=[number], action="disable"))
    stored.write("in", "two")
    assert stored.reasons() == {}


def test_ephemeral_user_data_of_jobs_that_run_again_is_forgotten_and_others_kept(
    torc: Embedded, tmp_path: Path
) -> None:
    made = Stored(torc, tmp_path)
    made.document["user_data"] += [
        {"name": "written", "is_ephemeral": True},
        {"name": "given", "is_ephemeral": True, "data": 5},
    ]
    made.document["jobs"][0]["output_user_data"] = ["written"]
    made.document["jobs"][3]["input_user_data"] = ["given"]
    made.write("in", "one")
    made.store()
    found = {item.name: item.id for item in torc.send(ListUserData(workflow_id=made.id)).items}
    torc.send(SetUserData(user_data_id=found["written"], data="w"))
    made.run()
    made.write("in", "two")
    made.reinitialize()
    data = {item.name: item.data for item in torc.send(ListUserData(workflow_id=made.id)).items}
    assert data == {"u": {"x": 1}, "written": None, "given": 5}
    made.run()
    assert made.reasons() == {}


def test_facts_are_asked_for_until_they_are_enough(stored: Stored) -> None:
    stored.write("in", "two")
    asked = stored.torc.send(ReinitializeWorkflow(workflow_id=stored.id))
    assert asked.needs_files == ["in.txt", "mid.txt", "out.txt"] and asked.result is None
    facts = {path: file_status.look_at(str(stored.directory), path) for path in asked.needs_files}
    asked = stored.torc.send(ReinitializeWorkflow(workflow_id=stored.id, files=list(facts.values())))
    assert asked.needs_hash == ["in.txt"] and asked.result is None
    facts["in.txt"] = facts["in.txt"].model_copy(update={"sha256": "0" * 64})
    reply = stored.torc.send(ReinitializeWorkflow(workflow_id=stored.id, files=list(facts.values())))
    assert reply.result is not None and reply.result.total == 2


def test_it_is_refused_while_runners_work_unless_forced(stored: Stored) -> None:
    stored.reinitialize()
    stored.torc.send(UpdateJob(job_id=jobs(stored.torc, stored.id)["d"].id, command="x"))
    stored.reinitialize()
    worker = runner(stored.torc, stored.id)
    with pytest.raises(Conflict, match="1 runner works"):
        stored.reinitialize()
    stored.write("in", "two")
    assert stored.reinitialize(force=True).total == 2
    stored.torc.send(EndRunner(workflow_id=stored.id, runner_id=worker))


def test_the_limit_bounds_the_list_and_not_the_total(stored: Stored) -> None:
    stored.torc.send(UpdateWorkflow(workflow_id=stored.id, env={"A": "1"}))
    changes = stored.reinitialize(limit=1)
    assert (len(changes.changes), changes.total) == (1, 4)


def test_it_is_an_event_with_its_author(stored: Stored) -> None:
    stored.write("in", "two")
    stored.reinitialize()
    events = stored.torc.send(ListEvents(workflow_id=stored.id, newest_first=True, limit=1)).items
    assert [(event.type, event.actor, event.data["num_jobs"]) for event in events] == [
        ("workflow_reinitialized", "user:tester", 2)
    ]


# -- an edited spec ---------------------------------------------------------------------------------------------


def test_the_same_spec_makes_nothing_due(stored: Stored) -> None:
    numbers = {name: found.id for name, found in jobs(stored.torc, stored.id).items()}
    before = [job(stored.torc, stored.id, name) for name in numbers]
    assert stored.reasons(**stored.edited()) == {}
    assert stored.reinitialize(**stored.edited()).total == 0
    assert [job(stored.torc, stored.id, name) for name in numbers] == before
    assert get(stored.torc, stored.id).state == "completed"


def test_an_edited_spec_reruns_what_it_changes_and_keeps_the_rest(stored: Stored) -> None:
    stored.document["jobs"][1]["command"] = "wc -l mid.txt > out.txt"
    stored.document["jobs"][3]["priority"] = 5
    stored.document["resource_requirements"][0]["memory"] = "8g"
    stored.document["description"] = "edited"
    assert stored.reasons(**stored.edited()) == {"b": "command changed"}
    results = stored.torc.send(ListResults(workflow_id=stored.id)).items
    stored.reinitialize(**stored.edited())
    assert stored.state() == "a:completed b:ready c:completed d:completed"
    assert stored.torc.send(ListResults(workflow_id=stored.id)).items == results
    found = get(stored.torc, stored.id)
    assert (found.description, found.version) == ("edited", found.version)
    assert job(stored.torc, stored.id, "d").priority == 5
    stored.run()
    assert stored.reasons() == {}
    assert stored.reasons(**stored.edited()) == {}


def test_new_jobs_are_added_and_old_ones_removed_with_their_results(stored: Stored) -> None:
    del stored.document["jobs"][3]
    stored.document["jobs"].append({"name": "e", "command": "after", "input_files": ["out"]})
    stored.document["jobs"].append({"name": "f", "command": "at once"})
    expected = {"d": "removed from the spec", "e": "new in the spec", "f": "new in the spec"}
    assert stored.reasons(**stored.edited()) == expected
    changes = stored.reinitialize(**stored.edited())
    assert {c.job_name: (c.state, c.new_state) for c in changes.changes} == {
        "d": ("completed", None),
        "e": ("uninitialized", "ready"),
        "f": ("uninitialized", "ready"),
    }
    assert stored.state() == "a:completed b:completed c:completed e:ready f:ready"
    assert {found.job_name for found in stored.torc.send(ListResults(workflow_id=stored.id)).items} == {"a", "b", "c"}
    stored.run()
    assert get(stored.torc, stored.id).state == "completed"


def test_a_job_in_the_middle_makes_what_is_behind_it_wait_again(stored: Stored) -> None:
    stored.document["jobs"][1]["depends_on"] = ["between"]
    stored.document["jobs"].append({"name": "between", "command": "x", "depends_on": ["a"]})
    assert stored.reasons(**stored.edited()) == {
        "b": "it now waits for between",
        "between": "new in the spec",
    }
    stored.reinitialize(**stored.edited())
    assert stored.state() == "a:completed b:blocked c:completed d:completed between:ready"


def test_a_dropped_dependency_reruns_nothing_and_opens_what_waited(torc: Embedded, tmp_path: Path) -> None:
    made = Stored(torc, tmp_path)
    made.document["jobs"][3]["depends_on"] = ["b"]
    made.write("in", "one")
    made.store()
    assert made.state() == "a:ready b:blocked c:ready d:blocked"
    del made.document["jobs"][3]["depends_on"]
    made.reinitialize(**made.edited())
    assert made.state() == "a:ready b:blocked c:ready d:ready"
    made.document["jobs"][3]["depends_on"] = ["c"]
    made.reinitialize(**made.edited())
    assert made.state() == "a:ready b:blocked c:ready d:blocked"
    made.run()
    del made.document["jobs"][3]["depends_on"]
    assert made.reasons(**made.edited()) == {}


def test_changed_inputs_are_said(stored: Stored) -> None:
    stored.write("extra", "x")
    stored.document["files"].append({"name": "extra", "path": "extra.txt"})
    stored.document["jobs"][0]["input_files"].append("extra")
    stored.document["jobs"][2]["command"] = "use"
    assert stored.reasons(**stored.edited()) == {
        "a": "it now reads file extra; input file extra.txt is new",
        "b": A_AND_B,
        "c": "command changed; user data changed; it no longer reads user data u",
    }


def test_user_data_of_the_spec_is_taken_and_what_jobs_wrote_is_kept(torc: Embedded, tmp_path: Path) -> None:
    made = Stored(torc, tmp_path)
    made.document["user_data"].append({"name": "v"})
    made.document["jobs"][0]["output_user_data"] = ["v"]
    made.write("in", "one")
    made.store()
    found = {item.name: item.id for item in torc.send(ListUserData(workflow_id=made.id)).items}
    torc.send(SetUserData(user_data_id=found["v"], data="from a"))
    made.run()
    made.document["user_data"] = [
        {"name": "new", "data": [1]},
        {"name": "v"},
        {"name": "u", "data": {"x": 2}},
    ]
    made.document["jobs"].append({"name": "e", "command": "${user_data.input.new} ${user_data.input.u}"})
    assert made.reasons(**made.edited()) == {"c": "user data u changed", "e": "new in the spec"}
    made.reinitialize(**made.edited())
    after = {item.name: item for item in torc.send(ListUserData(workflow_id=made.id)).items}
    assert {name: item.data for name, item in after.items()} == {"u": {"x": 2}, "v": "from a", "new": [1]}
    assert {name: after[name].id for name in found} == found, "ids stay: commands mention them"
    assert job(torc, made.id, "e").command == f"{after['new'].id} {after['u'].id}"
    assert job(torc, made.id, "c").command == f"use {after['u'].id}"


def test_new_actions_wait_for_their_jobs_in_a_new_run(stored: Stored) -> None:
    stored.document["actions"] = [
        {"trigger_type": "on_jobs_complete", "action_type": "run_commands", "jobs": ["d"], "commands": ["echo d"]}
    ]
    stored.document["jobs"][3]["command"] = "another"
    stored.reinitialize(**stored.edited())
    worker = runner(stored.torc, stored.id)
    given = claim(stored.torc, stored.id, worker)
    assert list(given) == ["d"]
    reply = exchange(stored.torc, stored.id, worker, finished=[ended(given["d"])])
    assert [action.commands for action in reply.actions] == [["echo d"]]
    stored.torc.send(EndRunner(workflow_id=stored.id, runner_id=worker))


def test_a_whole_new_spec_replaces_everything(stored: Stored) -> None:
    stored.document = {
        "name": "other",
        "jobs": [{"name": f"x{at}", "command": "x", "depends_on": ["y"]} for at in range(3)]
        + [{"name": "y", "command": "y"}],
        "env": {"A": "1"},
    }
    changes = stored.reinitialize(**stored.edited())
    assert changes.total == 8
    assert stored.state() == "x0:blocked x1:blocked x2:blocked y:ready"
    assert stored.torc.send(ListFiles(workflow_id=stored.id)).items == []
    stored.run()
    assert get(stored.torc, stored.id).state == "completed"


def test_a_broken_spec_changes_nothing(stored: Stored) -> None:
    before = get(stored.torc, stored.id)
    with pytest.raises(Invalid, match="nowhere") as caught:
        stored.reinitialize(spec='{"name": "x", "jobs": [{"name": "a", "command": "x", "depends_on": ["nowhere"]}]}')
    assert caught.value.details["diagnostics"]
    assert get(stored.torc, stored.id) == before


def test_an_edited_spec_is_refused_while_runners_work_even_by_force(stored: Stored) -> None:
    stored.torc.send(UpdateJob(job_id=jobs(stored.torc, stored.id)["d"].id, command="x"))
    stored.reinitialize()
    worker = runner(stored.torc, stored.id)
    with pytest.raises(Conflict):
        stored.reinitialize(force=True, **stored.edited())
    stored.torc.send(EndRunner(workflow_id=stored.id, runner_id=worker))


def test_two_files_of_one_path_are_one_file(torc: Embedded, tmp_path: Path) -> None:
    made = Stored(torc, tmp_path)
    made.document["files"].append({"name": "again", "path": "in.txt"})
    made.document["jobs"][3]["input_files"] = ["again"]
    made.write("in", "one")
    made.store()
    made.run()
    assert made.reasons() == {}
    made.write("in", "two")
    assert made.reasons() == {
        "a": "input file in.txt changed",
        "b": A_AND_B,
        "d": "input file in.txt changed",
    }


def test_a_very_large_file_is_told_by_size_and_time_alone(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_status, "LARGEST_HASHED_BYTES", 2)
    stored.write("in", "one!")
    stored.reinitialize()
    stored.run()
    assert stored.reasons() == {}
    stored.write("in", "one!")
    assert stored.reasons() == {"a": "input file in.txt changed", "b": A_AND_B}


def test_an_unreadable_file_counts_as_changed(stored: Stored) -> None:
    fact = FileFact(path="in.txt", exists=True, size_bytes=3, mtime_ns=1)
    facts = [fact, *(file_status.look_at(str(stored.directory), path) for path in ("mid.txt", "out.txt"))]
    (stored.directory / "in.txt").unlink()
    found = file_status.reinitialize(
        stored.torc, ReinitializeWorkflow(workflow_id=stored.id, files=facts, dry_run=True)
    )
    assert [change.job_name for change in found.changes] == ["a", "b"]


def test_getting_the_workflow_tells_where_files_are(stored: Stored) -> None:
    assert stored.torc.send(GetWorkflow(workflow_id=stored.id)).directory == str(stored.directory)
