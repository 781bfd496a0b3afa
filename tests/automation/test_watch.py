"""Following and recovering, with hands of several kinds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import end_processes, run, start_process, states, store, wait_until
from tests.support.stores import check_all, open_sqlite
from torc.api.data import ListRequirements
from torc.api.recovery import GetRecoverySpent, Recovery
from torc.api.runs import ListRunners
from torc.automation import lock
from torc.automation.executor import Executor, NodeLimits, Work
from torc.automation.local_executor import LocalExecutor
from torc.automation.policy import AUTOMATION, RecoveryPolicy
from torc.automation.watch import WatchResult, WorkflowWatch, lines_of
from torc.client.embedded import Embedded
from torc.errors import Conflict
from torc.runner.local_run import RunOptions

pytestmark = pytest.mark.usefixtures("processes")

FLAKY = 'echo x >> {name}.tries; [ $(wc -l < {name}.tries) -gt {good} ] || {{ echo "Connection refused" >&2; exit 1; }}'


@pytest.fixture
def local(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    opened = open_sqlite(sqlite_file, tmp_path)
    yield opened
    end_processes()
    check_all(opened)
    opened.close()


def flaky(name: str, fails: int) -> dict[str, Any]:
    """Return a job that fails so often before it succeeds."""
    return {"name": name, "command": FLAKY.format(name=name, good=fails)}


def here(torc: Embedded, folder: Path) -> Executor:
    return LocalExecutor(torc, RunOptions(output_dir=folder / "out", wait_seconds=0.2), lambda workflow: nullcontext())


def watch(torc: Embedded, number: int, hands: Executor, **policy: Any) -> WatchResult:
    return WorkflowWatch(torc, number, RecoveryPolicy(**policy), hands, poll_seconds=0.2).run()


def test_it_runs_recovers_and_goes_on_until_all_is_done(local: Embedded, tmp_path: Path) -> None:
    jobs = [flaky("once", 1), flaky("twice", 2), {"name": "end", "command": "true", "depends_on": ["once", "twice"]}]
    number = store(local, tmp_path, jobs)
    watched = watch(local, number, here(local, tmp_path))
    assert (watched.ending, watched.num_rounds) == ("completed", 2)
    assert set(states(local, number).values()) == {"completed"}


def test_it_ends_when_its_budget_is_spent_and_says_so(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [flaky("never", 99), {"name": "typo", "command": "frobnicate"}])
    watched = watch(local, number, here(local, tmp_path), max_retries=2)
    assert (watched.ending, watched.num_rounds) == ("left", 2)
    assert watched.last is not None
    left = {item.category: item.reason for item in watched.last.left}
    assert left["network"] == "the budget of 2 recoveries is spent" and "check the path" in left["missing_file"]
    assert any("the budget of 2 recoveries is spent" in line for line in lines_of(watched.last))
    again = watch(local, number, here(local, tmp_path), max_retries=2)
    assert (again.ending, again.num_rounds) == ("left", 0), "what was spent is in the store"
    more = watch(local, number, here(local, tmp_path), max_retries=3)
    assert more.num_rounds == 1
    assert watch(local, number, here(local, tmp_path), max_retries=1, new_budget=True).num_rounds == 1
    assert local.send(GetRecoverySpent(workflow_id=number, automation=AUTOMATION)).rounds == 1


def test_memory_grows_round_by_round_until_it_is_enough_and_each_round_counts(local: Embedded, tmp_path: Path) -> None:
    takes = "block = bytearray(min(270 << 20, limit + (5 << 20))); time.sleep(0 if limit > 285 << 20 else 60)"
    command = f"python3 -c \"import os, time; limit = int(os.environ['TORC_MEMORY_BYTES']); {takes}\""
    job = {"name": "hungry", "command": command, "resource_requirements": "tight"}
    needs = [{"name": "tight", "num_cpus": 1, "memory": "40m", "runtime": "PT1M"}]
    number = store(local, tmp_path, [job], resource_requirements=needs, enforce_memory=True)
    first = watch(local, number, here(local, tmp_path), memory_multiplier=2, max_retries=2)
    assert (first.ending, first.num_rounds) == ("left", 2) and states(local, number) == {"hungry": "terminated"}
    second = watch(local, number, here(local, tmp_path), memory_multiplier=2, max_retries=3)
    assert (second.ending, second.num_rounds) == ("completed", 1), "the third round is the last that is allowed"
    given = sorted(item.memory_bytes >> 20 for item in local.send(ListRequirements(workflow_id=number)).items)
    given = given[given.index(40) :]
    assert len(given) >= 4 and all(later >= 2 * sooner for sooner, later in pairwise(given[-4:])), given
    assert local.send(GetRecoverySpent(workflow_id=number, automation=AUTOMATION)).rounds == 3


def test_node_hours_bound_what_is_tried_again(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [flaky("never", 99)])
    watched = watch(local, number, here(local, tmp_path), max_node_hours=0.0)
    assert (watched.ending, watched.num_rounds) == ("left", 0)
    assert watched.last is not None and "node-hours" in watched.last.left[0].reason


def test_a_hook_that_says_no_stops_it_before_anything_is_changed(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [flaky("never", 99)])
    seen: list[Recovery] = []

    def refuse(proposal: Recovery) -> None:
        seen.append(proposal)
        raise Conflict("the hook says no")

    with pytest.raises(Conflict, match="the hook says no"):
        WorkflowWatch(local, number, RecoveryPolicy(), here(local, tmp_path), refuse, 0.2).run()
    assert [item.num_retried for item in seen] == [1] and states(local, number) == {"never": "failed"}


@dataclass
class Elsewhere:
    """Hands that begin a runner in another process, and return at once, as those of a cluster do."""

    torc: Embedded
    folder: Path
    begun: list[subprocess.Popen[str]] = field(default_factory=list)

    def limits(self) -> NodeLimits:
        return NodeLimits()

    def is_busy(self, workflow_id: int) -> bool:
        return bool(self.begun) and self.begun[-1].poll() is None

    def work(self, workflow_id: int) -> Work:
        self.begun.append(start_process(self.folder / "torc.db", workflow_id, self.folder / "out"))
        return "begun"


def test_work_may_be_done_by_others_that_hands_have_begun(local: Embedded, tmp_path: Path) -> None:
    hands = Elsewhere(local, tmp_path)
    number = store(local, tmp_path, [flaky("once", 1)])
    watched = watch(local, number, hands)
    assert (watched.ending, watched.num_rounds, len(hands.begun)) == ("completed", 1, 2)
    for process in hands.begun:
        process.communicate()


def test_it_follows_a_run_of_somebody_else_and_recovers_afterwards(local: Embedded, tmp_path: Path) -> None:
    wait = "until [ -e go ]; do sleep 0.01; done"
    number = store(local, tmp_path, [flaky("once", 1), {"name": "slow", "command": wait}])
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until(lambda: states(local, number) == {"once": "failed", "slow": "running"}, "the one failed, the other runs")

    class Late(Elsewhere):
        def is_busy(self, workflow_id: int) -> bool:
            if process.poll() is None:  # looked at, and found running: now it may end
                (tmp_path / "go").touch()
            return super().is_busy(workflow_id)

    hands = Late(local, tmp_path)
    watched = watch(local, number, hands)
    assert (watched.ending, watched.num_rounds, len(hands.begun)) == ("completed", 1, 1)
    process.communicate()
    hands.begun[0].communicate()


def test_nothing_here_is_large_enough(local: Embedded, tmp_path: Path) -> None:
    huge = [{"name": "huge", "num_cpus": 100_000, "memory": "1m", "runtime": "PT1M"}]
    number = store(
        local, tmp_path, [{"name": "a", "command": "true", "resource_requirements": "huge"}], resource_requirements=huge
    )
    assert watch(local, number, here(local, tmp_path)).ending == "stuck"


def test_dead_runners_are_found(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [{"name": "a", "command": "[ -e again ] && exit; touch again; exec sleep 1000"}])
    process = start_process(tmp_path / "torc.db", number, tmp_path / "out")
    wait_until((tmp_path / "again").exists, "the job runs")
    process.kill()
    process.communicate()
    assert local.send(ListRunners(workflow_id=number, active_only=True)).items
    assert watch(local, number, here(local, tmp_path)).ending == "completed"


def test_one_watches_at_a_time(tmp_path: Path) -> None:
    assert lock.holder(tmp_path, 7) is None
    with lock.held(tmp_path, 7):
        who = lock.holder(tmp_path, 7)
        assert who is not None and (who.pid, who.host) == (os.getpid(), socket.gethostname())
        with pytest.raises(Conflict, match="is already being watched by process"), lock.held(tmp_path, 7):
            pass
        with lock.held(tmp_path, 8):
            pass
    assert lock.holder(tmp_path, 7) is None
    lock.path_of(tmp_path, 7).write_text(json.dumps({"pid": 1, "host": "gone", "since": 0.0}))
    assert lock.holder(tmp_path, 7) is None, "who was killed holds nothing"


def test_a_finished_workflow_is_left_alone(local: Embedded, tmp_path: Path) -> None:
    number = store(local, tmp_path, [{"name": "a", "command": "true"}])
    run(local, number, tmp_path)
    assert watch(local, number, here(local, tmp_path)).ending == "completed"
