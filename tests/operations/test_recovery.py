"""What failed is proposed for, given more, and made due again; what a retry does not help is left, with the reason."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.graphs import acyclic_prerequisites
from tests.support.stores import open_sqlite
from tests.support.workflows import NODE, create, ended, exchange, get, jobs, run_all, runner, states, workflow
from torc.api.base import Torc
from torc.api.data import ListRequirements
from torc.api.events import ListEvents
from torc.api.jobs import ListJobs
from torc.api.recovery import GetRecoverySpent, RecoverWorkflow, Recovery
from torc.api.runs import EndRunner, RegisterRunner, StartRun
from torc.api.workflows import CheckWorkflow
from torc.errors import Conflict
from torc.workflow.states import State

GIB = 1 << 30
CLASSES = [{"name": "small", "num_cpus": 2, "memory": "1g", "runtime": "PT10M"}]
TEXTS = {
    "memory": "MemoryError",
    "time": "",
    "net": "Connection refused",
    "module": "ModuleNotFoundError: No module named 'x'",
    "none": "",
}


def failing(torc: Torc, kinds: dict[str, str], *chains: str, peak: int = 0) -> int:
    """Run a workflow whose named jobs fail in these ways; the others that can run complete."""
    own = {name: {"resource_requirements": "small"} for name in kinds}
    wf = workflow(torc, " ".join(kinds), *chains, resource_requirements=CLASSES, jobs=own)
    number = runner(torc, wf)
    reply = exchange(torc, wf, number, limit=100)
    while reply.assignments:
        reports = [_report(item, kinds.get(item.name), peak) for item in reply.assignments]
        reply = exchange(torc, wf, number, finished=reports, limit=100)
    torc.send(EndRunner(workflow_id=wf, runner_id=number))
    return wf


def _report(item: Any, kind: str | None, peak: int) -> Any:
    if kind is None:
        return ended(item)
    if kind == "time":
        return ended(item, "terminated", -15, reason="timeout").model_copy(update={"wall_seconds": 600.0})
    return ended(item, "failed", 1, stderr_tail=TEXTS[kind] or None, usage={"peak_memory_bytes": peak})


def recover(torc: Torc, wf: int, **options: Any) -> Recovery:
    return torc.send(RecoverWorkflow.model_validate({"workflow_id": wf, **options}))


KINDS = {"m1": "memory", "m2": "memory", "t1": "time", "n1": "net", "x1": "module", "u1": "none"}


def test_each_is_given_what_it_lacked_and_no_other_job_is_touched(torc: Torc) -> None:
    wf = failing(torc, KINDS, "m1 -> behind", "ok -> also")
    before = states(torc, wf)
    proposed = recover(torc, wf, dry_run=True)
    assert not proposed.applied and states(torc, wf) == before
    told = {(p.action, p.num_jobs, p.new_memory_bytes // (1 << 20), p.new_runtime_seconds) for p in proposed.proposals}
    assert told == {("again", 1, 1024, 600), ("more memory", 2, 1536, 600), ("more time", 1, 1024, 840)}
    assert {(left.category, left.num_jobs) for left in proposed.left} == {("missing_module", 1), ("unknown", 1)}
    done = recover(torc, wf, mark=proposed.mark)
    assert done.applied and done.proposals == proposed.proposals
    assert (done.num_retried, done.num_left) == (4, 2)
    now = {name: (job.state, job.requirement_name) for name, job in jobs(torc, wf).items()}
    assert now["m1"] == now["m2"] == ("ready", "small__raised_1")
    assert now["t1"] == ("ready", "small__raised_2") and now["n1"] == ("ready", "small")
    assert now["behind"][0] == "blocked"
    assert now["x1"][0] == now["u1"][0] == "failed" and now["ok"][0] == now["also"][0] == "completed"
    assert {item.name: item.memory_bytes for item in torc.send(ListRequirements(workflow_id=wf)).items}["small"] == GIB
    kinds = [event.type for event in torc.send(ListEvents(workflow_id=wf, newest_first=True, limit=6)).items]
    assert kinds.count("resources_raised") == 2 and "workflow_recovered" in kinds
    assert run_all(torc, wf).state == "failed"
    assert {name for name, job in jobs(torc, wf).items() if job.state is State.FAILED} == {"x1", "u1"}


def test_what_was_used_counts_where_it_is_more_than_was_asked_for(torc: Torc) -> None:
    wf = failing(torc, {"m1": "memory"}, peak=3 * GIB)
    (proposal,) = recover(torc, wf, dry_run=True, memory_multiplier=2).proposals
    assert proposal.new_memory_bytes == 6 * GIB and "used up to 3 GiB of 1 GiB" in proposal.reason


def test_others_are_retried_when_somebody_says_so(torc: Torc) -> None:
    wf = failing(torc, {"x1": "module", "u1": "none"})
    assert recover(torc, wf, dry_run=True).num_retried == 0
    assert recover(torc, wf, dry_run=True, retry_unknown=True).num_retried == 1
    assert recover(torc, wf, dry_run=True, retry=["missing_module"]).num_retried == 1
    left = recover(torc, wf, dry_run=True, retry_unknown=True, retry=["missing_module"], max_attempts=1).left
    assert {item.reason for item in left} == {"tried 1 times"}


def test_a_proposal_that_is_out_of_date_is_refused(torc: Torc) -> None:
    wf = failing(torc, KINDS)
    proposed = recover(torc, wf, dry_run=True)
    recover(torc, wf, mark=proposed.mark)
    with pytest.raises(Conflict, match="has changed since"):
        recover(torc, wf, mark=proposed.mark)


def test_a_workflow_is_not_recovered_under_its_runners(torc: Torc) -> None:
    wf = failing(torc, KINDS)
    torc.send(StartRun(workflow_id=wf))
    here = {"host": "h", "pid": 1, "process_started": "1", "boot_id": "b", "capacity": NODE}
    torc.send(RegisterRunner.model_validate({"workflow_id": wf, **here}))
    with pytest.raises(Conflict, match="cannot be recovered"):
        recover(torc, wf)


def test_a_runner_whose_lease_has_ended_does_not_stand_in_the_way(sqlite_file: Path, tmp_path: Path) -> None:
    torc = open_sqlite(sqlite_file, tmp_path)
    wf = workflow(torc, "a")
    number = runner(torc, wf)
    (given,) = exchange(torc, wf, number, limit=1).assignments
    exchange(torc, wf, number, finished=[ended(given, "failed", 1, stderr_tail="Connection refused")])
    with pytest.raises(Conflict, match="cannot be recovered"):
        recover(torc, wf)
    with torc.store.dialect.begin_write(torc.store.engine) as db:
        torc.store.dialect.run(db, "UPDATE runner SET lease_expires_at = 1.0", {})
    assert recover(torc, wf).num_retried == 1
    torc.close()


def test_no_more_is_asked_for_than_the_largest_runner_has(torc: Torc) -> None:
    own = {"a": {"resource_requirements": "small"}}
    wf = workflow(torc, "a", resource_requirements=CLASSES, jobs=own)
    torc.send(StartRun(workflow_id=wf))
    here = {"host": "h", "pid": 1, "process_started": "1", "boot_id": "b"}

    def fail(memory: int) -> None:
        capacity = {"num_cpus": 4, "memory_bytes": memory}
        torc.send(StartRun(workflow_id=wf))
        made = torc.send(RegisterRunner.model_validate({"workflow_id": wf, "capacity": capacity, **here}))
        (given,) = exchange(torc, wf, made.id, limit=1).assignments
        exchange(torc, wf, made.id, finished=[ended(given, "failed", 1, stderr_tail="MemoryError")], stopping=True)
        torc.send(EndRunner(workflow_id=wf, runner_id=made.id))

    fail(5 * GIB // 4)
    (proposal,) = recover(torc, wf).proposals
    assert proposal.new_memory_bytes == 5 * GIB // 4 and "as much as the largest node has" in proposal.reason
    fail(5 * GIB // 4)
    again = recover(torc, wf)
    assert again.proposals == [] and "no runner or partition has more memory" in again.left[0].reason
    assert get(torc, wf).state == "failed"


def test_a_giant_gets_a_class_of_its_own_and_does_not_raise_the_others(torc: Torc) -> None:
    names = [f"s{at}" for at in range(6)]
    own = {name: {"resource_requirements": "small"} for name in [*names, "giant"]}
    wf = workflow(torc, " ".join(own), resource_requirements=CLASSES, jobs=own)
    number = runner(torc, wf)
    given = exchange(torc, wf, number, limit=100).assignments
    peaks = {"giant": 40 * GIB} | {name: GIB + at for at, name in enumerate(names)}
    exchange(torc, wf, number, finished=[_report(item, "memory", peaks[item.name]) for item in given])
    torc.send(EndRunner(workflow_id=wf, runner_id=number))
    proposed = recover(torc, wf, dry_run=True)
    told = {p.key: (p.num_jobs, p.new_memory_bytes // (1 << 20)) for p in proposed.proposals}
    assert told == {"small/out_of_memory/1.5GiB": (6, 1537), "small/out_of_memory/60GiB": (1, 60 * 1024)}
    done = recover(torc, wf, skip=["small/out_of_memory/60GiB"], reason="the giant is looked at by hand")
    assert (done.num_retried, done.num_left, done.left[0].reason) == (6, 1, "not chosen")
    (told_why,) = torc.send(ListEvents(workflow_id=wf, type="workflow_recovered")).items
    assert told_why.data["reason"] == "the giant is looked at by hand" and told_why.actor.startswith("user:")
    assert states(torc, wf).endswith("giant:failed")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"only": ["small/timeout"]}, {"t1"}),
        ({"only": ["small"], "skip": ["*/network"]}, {"m1", "m2", "t1"}),
        ({"skip": ["small"]}, set()),
        ({"only": ["*/out_of_memory"]}, {"m1", "m2"}),
    ],
)
def test_groups_are_chosen_by_their_keys(torc: Torc, choice: dict[str, Any], expected: set[str]) -> None:
    wf = failing(torc, KINDS)
    recover(torc, wf, **choice)
    assert {name for name, job in jobs(torc, wf).items() if job.state is State.READY} == expected


def spent(torc: Torc, wf: int, automation: str | None = None) -> tuple[int, float]:
    found = torc.send(GetRecoverySpent(workflow_id=wf, automation=automation))
    return found.rounds, found.node_hours


def test_the_budget_is_kept_in_the_store_and_each_program_has_its_own(torc: Torc) -> None:
    wf = failing(torc, {"m1": "memory", "n1": "net"}, "n1 -> behind")
    first = recover(torc, wf, automation="watch", dry_run=True)
    costs = {p.key: p.cost_node_hours for p in first.proposals}
    assert costs["small/network"] > costs["small/out_of_memory"] > 0, "what is behind it will run, too"
    assert first.cost_node_hours == pytest.approx(sum(costs.values()))
    cheap = recover(torc, wf, automation="watch", max_node_hours=1.01 * costs["small/out_of_memory"], dry_run=True)
    assert [p.key for p in cheap.proposals] == ["small/out_of_memory"]
    assert "node-hours" in cheap.left[0].reason and "of the budget" in cheap.left[0].reason
    assert recover(torc, wf, automation="watch", max_retries=1, mark=first.mark).num_retried == 2
    assert spent(torc, wf, "watch") == (1, 0.0) and spent(torc, wf) == (0, 0.0)
    run_all(torc, wf, ("m1",))
    assert spent(torc, wf, "watch")[1] == pytest.approx(2 * (1 / 500 / 3600) + 1 / 1000 / 3600)
    again = recover(torc, wf, automation="watch", max_retries=1, retry_unknown=True)
    assert not again.applied and again.left[0].reason == "the budget of 1 recovery is spent"
    by_hand = recover(torc, wf, max_retries=1, retry_unknown=True, dry_run=True)
    assert by_hand.num_retried == 1 and by_hand.spent.rounds == 0
    fresh = recover(torc, wf, automation="watch", max_retries=1, retry_unknown=True, new_budget=True)
    assert fresh.applied and spent(torc, wf, "watch") == (1, 0.0)


def test_a_caller_who_knows_the_cluster_may_raise_the_bounds(torc: Torc) -> None:
    wf = failing(torc, {"t1": "time", "m1": "memory"})
    proposed = recover(torc, wf, dry_run=True, max_runtime_seconds=700)
    assert {p.new_runtime_seconds for p in proposed.proposals} == {600, 700}
    left = recover(torc, wf, dry_run=True, max_runtime_seconds=600).left
    assert left[0].category == "timeout" and "no partition lets them run longer" in left[0].reason


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(prerequisites=acyclic_prerequisites(1, 9), seed=st.integers(0, 10**6))
def test_any_failed_workflow_is_whole_after_a_recovery(
    prerequisites: list[list[int]], seed: int, sqlite_file: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    torc = open_sqlite(sqlite_file, tmp_path_factory.mktemp("recovery"))
    pick = random.Random(seed)
    names = [f"j{at}" for at in range(len(prerequisites))]
    specs = [
        {
            "name": name,
            "command": "x",
            "depends_on": [names[other] for other in members],
            "cancel_on_blocking_job_failure": pick.random() < 0.7,
        }
        for name, members in zip(names, prerequisites, strict=True)
    ]
    wf = create(torc, {"name": "any", "jobs": specs}).id
    kinds = {name: pick.choice(["memory", "net", "module", None, None]) for name in names}
    for _ in range(3):
        number = runner(torc, wf)
        reply = exchange(torc, wf, number, limit=100)
        while reply.assignments:
            reply = exchange(
                torc, wf, number, finished=[_report(item, kinds[item.name], 0) for item in reply.assignments], limit=100
            )
        torc.send(EndRunner(workflow_id=wf, runner_id=number))
        done = recover(torc, wf, max_attempts=4)
        assert torc.send(CheckWorkflow(workflow_id=wf)) == []
        due = {
            job.name for job in torc.send(ListJobs(workflow_id=wf)).items if job.state in {State.READY, State.BLOCKED}
        }
        assert bool(due) is bool(done.num_retried)
        if not due:
            break
        kinds = {name: None if pick.random() < 0.5 else kind for name, kind in kinds.items()}
    torc.close()
