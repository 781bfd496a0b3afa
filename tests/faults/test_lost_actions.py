"""Actions whose runner is lost: recorded before they run, known by their key when they run again, and never again where they say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Program
from tests.support.running import run, start_process, store, wait_until
from torc.api.events import ListEvents
from torc.api.runs import EndRunner, Exchange, ExchangeReply, NodeCapacity, RegisterRunner, StartRun
from torc.client.embedded import Embedded

pytestmark = pytest.mark.usefixtures("processes")

NODE = NodeCapacity(num_cpus=1, memory_bytes=1 << 30)


def _action(command: str, **more: Any) -> dict[str, Any]:
    return {"trigger_type": "on_workflow_start", "action_type": "run_commands", "commands": [command], **more}


@pytest.mark.parametrize("at_most_once", [False, True])
def test_an_action_that_was_killed_runs_again_with_its_key_unless_it_says_so(
    local: Embedded, tmp_path: Path, at_most_once: bool
) -> None:
    command = "echo $TORC_ACTION_KEY >> keys; [ -e again ] && exit; touch begun; exec sleep 1000"
    number = store(
        local, tmp_path, [{"name": "a", "command": "true"}], actions=[_action(command, at_most_once=at_most_once)]
    )
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until((tmp_path / "begun").exists, "the action runs")
    process.kill()
    process.communicate()
    (tmp_path / "again").touch()
    assert run(local, number, tmp_path).workflow.state == "completed"
    keys = (tmp_path / "keys").read_text().split()
    assert len(keys) == (1 if at_most_once else 2) and len(set(keys)) == 1
    (finished,) = local.send(ListEvents(workflow_id=number, type="action_finished")).items
    assert finished.data["return_code"] == (None if at_most_once else 0)
    assert ("may have run" in (finished.data["detail"] or "")) == at_most_once


def test_commands_of_an_action_have_keys_of_their_own_and_other_runs_have_others(
    local: Embedded, tmp_path: Path
) -> None:
    actions = [{**_action("echo $TORC_ACTION_KEY >> keys"), "commands": ["echo $TORC_ACTION_KEY >> keys"] * 2}] * 2
    number = store(local, tmp_path, [{"name": "a", "command": "true"}], actions=actions)
    run(local, number, tmp_path)
    keys = (tmp_path / "keys").read_text().split()
    assert len(keys) == len(set(keys)) == 4 and len({key.partition("-")[0] for key in keys}) == 2


def test_an_action_ends_in_the_journal_before_anybody_is_told(local: Embedded, tmp_path: Path) -> None:
    """A runner that dies between the end of an action and its report does not have it run again."""
    held = tmp_path / "held"
    number = store(local, tmp_path, [{"name": "a", "command": "true"}], actions=[_action(f"echo x >> {held}")])
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    journal = tmp_path / "out" / f"undelivered_wf{number}_n1.json"

    def is_kept() -> bool:
        try:
            text = journal.read_text()
        except FileNotFoundError:  # not there yet, or delivered
            return False
        return "firing_id" in text and text.endswith("\n")

    try:
        wait_until(lambda: is_kept() or process.poll() is not None, "the end is in the journal, or was told")
    finally:
        process.kill()
        process.communicate()
    run(local, number, tmp_path)
    assert held.read_text() == "x\n"


class _Runner:
    """What a runner says, one exchange at a time."""

    def __init__(self, torc: Embedded, workflow_id: int, host: str) -> None:
        self._torc, self._workflow_id = torc, workflow_id
        made = torc.send(
            RegisterRunner(
                workflow_id=workflow_id,
                kind="local",
                host=host,
                pid=1,
                process_started="1@1",
                boot_id="b",
                capacity=NODE,
            )
        )
        self.id = made.id

    def says(self, **more: Any) -> ExchangeReply:
        return self._torc.send(Exchange(workflow_id=self._workflow_id, runner_id=self.id, free=NODE, **more))

    def is_lost(self) -> None:
        self._torc.send(EndRunner(workflow_id=self._workflow_id, runner_id=self.id, reason="lease ended"))


@pytest.mark.parametrize("has_begun", [False, True])
@pytest.mark.parametrize("at_most_once", [False, True])
def test_only_what_has_begun_may_have_been_carried_out(
    local: Embedded, tmp_path: Path, has_begun: bool, at_most_once: bool
) -> None:
    action = _action("true", at_most_once=at_most_once)
    number = store(local, tmp_path, [{"name": "a", "command": "true"}], actions=[action])
    local.send(StartRun(workflow_id=number))
    first = _Runner(local, number, "here")
    (given,) = first.says().actions
    if has_begun:
        assert not first.says(actions_started=[given.firing_id]).actions
    first.is_lost()
    again = _Runner(local, number, "here").says()
    if has_begun and at_most_once:
        assert not again.actions
        return
    assert [item.key for item in again.actions] == [given.key]
    assert [item.runner_id for item in again.given_up] == [first.id], "who may still run it, on this machine"


def test_who_was_given_up_on_another_machine_is_the_business_of_its_lease(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [{"name": "a", "command": "true"}], actions=[_action("true")])
    local.send(StartRun(workflow_id=number))
    first = _Runner(local, number, "there")
    assert first.says().actions
    first.is_lost()
    again = _Runner(local, number, "here").says()
    assert again.actions and not again.given_up


def test_an_action_that_runs_again_in_a_restored_database_has_its_key_and_no_other_action_has_it(
    tmp_path: Path,
) -> None:
    program = Program(tmp_path)
    actions = [
        {
            "trigger_type": "on_jobs_complete",
            "jobs": [name],
            "action_type": "run_commands",
            "at_most_once": True,
            "commands": [f"echo {name} $TORC_ACTION_KEY | tee -a keys >> round"],
        }
        for name in "ab"
    ]
    jobs = [
        {"name": name, "command": f"until [ -e first_{name} ] || grep -q '^{other} ' round; do sleep 0.02; done"}
        for name, other in ("ab", "ba")
    ]
    program("create", program.write("spec.json", json.dumps({"name": "w", "jobs": jobs, "actions": actions})))
    program("server", "backup", "-o", "copy.db")
    for first in "ab":  # in another order: the ids of what has run are given again to others
        (tmp_path / "round").unlink(missing_ok=True)
        (tmp_path / f"first_{first}").touch()
        program("run", 1, "-q", "-j", "2")
        program("server", "restore", "copy.db")
        (tmp_path / f"first_{first}").unlink()
    lines = [line.split() for line in (tmp_path / "keys").read_text().splitlines()]
    assert [name for name, _ in lines] == ["a", "b", "b", "a"]
    assert lines[0] == lines[3] and lines[1] == lines[2], "each has its key again"
    assert lines[0][1] != lines[1][1]


def test_an_action_that_kills_what_started_it_has_failed_and_the_run_goes_on(local: Embedded, tmp_path: Path) -> None:
    command = "echo x >> ran; kill -9 $PPID; sleep 1000"
    number = store(local, tmp_path, [{"name": "a", "command": "true"}], actions=[_action(command)])
    assert run(local, number, tmp_path).workflow.state == "completed"
    assert (tmp_path / "ran").read_text() == "x\n"
    (end,) = local.send(ListEvents(workflow_id=number, type="action_finished")).items
    assert end.data["return_code"] == 137


@pytest.mark.parametrize("is_begun", [False, True])
def test_an_action_whose_spawner_died_before_it_told_of_its_start_runs_once(
    local: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_begun: bool
) -> None:
    monkeypatch.setattr("torc.runner.spawner.__file__", str(Path(__file__).with_name("crash_spawner.py")))
    monkeypatch.setenv("TORC_TEST_CRASH_SPAWNER", str(tmp_path))
    (tmp_path / "spawner_crashes").write_text("2" if is_begun else "1")
    command = "exec sleep 1000" if is_begun else "echo x >> ran"
    number = store(local, tmp_path, [{"name": "a", "command": "true"}], actions=[_action(command)])
    assert run(local, number, tmp_path).workflow.state == "completed"
    (end,) = local.send(ListEvents(workflow_id=number, type="action_finished")).items
    assert end.data["return_code"] == (137 if is_begun else 0)
    assert is_begun or (tmp_path / "ran").read_text() == "x\n"
