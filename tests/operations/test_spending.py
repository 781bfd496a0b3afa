"""One budget for all assistants of a store: charged for what runs, once, whatever they call, make or delete."""

from __future__ import annotations

from typing import Any

import pytest

from tests.operations.test_change_plans import apply, propose
from tests.support.workflows import create, ended, exchange, finish, states
from torc.api.base import Torc
from torc.api.change_plans import GetSpending, ReleaseIntervention, StartSpendingAnew
from torc.api.data import ListRequirements, UpdateRequirement
from torc.api.events import ListEvents
from torc.api.runs import EndRunner, NodeCapacity, RegisterRunner, StartRun
from torc.api.workflows import DeleteWorkflow
from torc.errors import Conflict

HOUR = 3600.0
#: each job takes all of it
NODE = NodeCapacity(num_cpus=1, memory_bytes=1 << 30)


def hours(torc: Torc, count: int = 1, runtime: str = "PT1H") -> int:
    """Make a workflow of jobs that may take all of a node for an hour each."""
    return create(
        torc,
        {
            "name": "w",
            "resource_requirements": [{"name": "r", "runtime": runtime, "memory": "1m"}],
            "jobs": [{"name": f"j{at}", "command": "true", "resource_requirements": "r"} for at in range(count)],
        },
    ).id


def begin(torc: Torc, wf: int, most: float, *operations: dict[str, Any], retries: int = 0) -> str:
    """Plan a run and agree to it. Raises Conflict beyond the budget."""
    plan = propose(torc, wf, *operations, starts="run", node=NODE, num_retries=retries)
    apply(torc, wf, plan.token, max_node_hours=most, max_retries=5)
    return str(plan.token)


def small_runner(torc: Torc, wf: int) -> int:
    torc.send(StartRun(workflow_id=wf))
    return torc.send(
        RegisterRunner(workflow_id=wf, host="here", pid=7, process_started="1", boot_id="b", capacity=NODE)
    ).id


def claim_one(torc: Torc, wf: int, number: int) -> list[Any]:
    return exchange(torc, wf, number, limit=1, free=NODE, total=NODE).assignments


def work(torc: Torc, wf: int, seconds: float) -> int:
    """Run the jobs that a runner is given, each for that long, and return their number."""
    number, count = small_runner(torc, wf), 0
    while given := claim_one(torc, wf, number):
        reports = [ended(item).model_copy(update={"wall_seconds": seconds}) for item in given]
        exchange(torc, wf, number, finished=reports, free=NODE)
        count += len(given)
    torc.send(EndRunner(workflow_id=wf, runner_id=number, reason="finished"))
    return count


def spent(torc: Torc) -> tuple[float, float]:
    """Return the node-hours that were used, and those that are spoken for."""
    found = torc.send(GetSpending())
    return round(found.node_hours, 4), round(found.node_hours_reserved, 4)


def test_a_run_is_reserved_when_it_is_agreed_to_and_charged_for_what_it_took(torc: Torc) -> None:
    wf = hours(torc, 2)
    begin(torc, wf, 10)
    assert spent(torc) == (0.0, 2.0)
    assert work(torc, wf, HOUR / 10) == 2
    assert spent(torc) == (0.2, 0.0)


def test_what_people_run_is_charged_to_nobody(torc: Torc) -> None:
    wf = hours(torc, 2)
    assert work(torc, wf, HOUR) == 2
    assert spent(torc) == (0.0, 0.0)


def test_every_workflow_draws_on_the_same_budget_and_deleting_one_gives_nothing_back(torc: Torc) -> None:
    first, second = hours(torc), hours(torc)
    begin(torc, first, 1.5)
    with pytest.raises(Conflict, match=r"1\.00 node-hours, and 0\.50 of 1\.5 are left"):
        begin(torc, second, 1.5)
    work(torc, first, HOUR)
    torc.send(DeleteWorkflow(workflow_id=first))
    assert spent(torc) == (1.0, 0.0)
    with pytest.raises(Conflict, match=r"0\.50 of 1\.5 are left"):
        begin(torc, second, 1.5)
    with pytest.raises(Conflict, match=r"0\.50 of 1\.5 are left"):
        begin(torc, hours(torc), 1.5)
    assert torc.send(StartSpendingAnew()).node_hours == 0.0
    begin(torc, second, 1.5)


def test_jobs_that_were_made_longer_after_the_plan_are_not_given_beyond_the_budget(torc: Torc) -> None:
    wf = hours(torc, 3, "PT3S")
    begin(torc, wf, 10)
    (asked,) = torc.send(ListRequirements(workflow_id=wf)).items
    number = small_runner(torc, wf)
    (first,) = claim_one(torc, wf, number)
    torc.send(UpdateRequirement(requirement_id=asked.id, runtime_seconds=int(100 * HOUR)))
    exchange(torc, wf, number, finished=[ended(first)], free=NODE)
    assert claim_one(torc, wf, number) == [], "a job of 100 hours, where 10 are left"
    (event,) = torc.send(ListEvents(workflow_id=wf, type="budget_spent")).items
    assert event.data["node_hours_left"] == pytest.approx(10, abs=0.01)
    claim_one(torc, wf, number)
    assert len(torc.send(ListEvents(workflow_id=wf, type="budget_spent")).items) == 1, "it is said once a run"
    torc.send(UpdateRequirement(requirement_id=asked.id, runtime_seconds=3))
    assert len(claim_one(torc, wf, number)) == 1


def test_a_plan_that_makes_jobs_of_a_run_longer_is_charged_for_the_difference(torc: Torc) -> None:
    wf = hours(torc, 2, "PT1H")
    begin(torc, wf, 10)
    (asked,) = torc.send(ListRequirements(workflow_id=wf)).items
    longer = {"kind": "UpdateRequirement", "fields": {"requirement_id": asked.id, "runtime_seconds": int(100 * HOUR)}}
    plan = propose(torc, wf, longer, shows="nothing", node=NODE)
    assert plan.node_hours == pytest.approx(198)
    with pytest.raises(Conflict, match=r"198\.00 node-hours, and 8\.00 of 10 are left"):
        apply(torc, wf, plan.token, max_node_hours=10)
    assert torc.send(ListRequirements(workflow_id=wf)).items[0].runtime_seconds == 3600
    twice = {"kind": "UpdateRequirement", "fields": {"requirement_id": asked.id, "runtime_seconds": int(2 * HOUR)}}
    apply(torc, wf, propose(torc, wf, twice, shows="nothing", node=NODE).token, max_node_hours=10)
    assert spent(torc) == (0.0, 4.0)
    idle = hours(torc)
    (asked,) = torc.send(ListRequirements(workflow_id=idle)).items
    longer = {"kind": "UpdateRequirement", "fields": {"requirement_id": asked.id, "runtime_seconds": int(100 * HOUR)}}
    apply(torc, idle, propose(torc, idle, longer, shows="nothing", node=NODE).token, max_node_hours=10)
    with pytest.raises(Conflict, match=r"100\.00 node-hours, and 6\.00 of 10 are left"):
        begin(torc, idle, 10)


def test_a_run_that_did_not_begin_is_not_charged_and_its_token_holds(torc: Torc) -> None:
    wf = hours(torc, 2)
    token = begin(torc, wf, 2)
    torc.send(ReleaseIntervention(workflow_id=wf, token=token))
    assert spent(torc) == (0.0, 0.0)
    apply(torc, wf, token, max_node_hours=2)
    assert spent(torc) == (0.0, 2.0)


def test_what_is_made_due_and_then_run_is_charged_once(torc: Torc) -> None:
    wf = hours(torc, 2)
    finish(torc, wf, "j0", "j1")
    again = {"kind": "ResetWorkflow", "fields": {"failed_only": False}}
    plan = propose(torc, wf, again, num_retries=1, node=NODE)
    assert plan.node_hours == 0.0
    apply(torc, wf, plan.token, max_node_hours=3)
    assert spent(torc) == (0.0, 0.0)
    begin(torc, wf, 3)
    work(torc, wf, HOUR)
    assert spent(torc) == (2.0, 0.0)


def test_a_recovery_is_agreed_to_charged_and_begun_in_one_transaction(torc: Torc) -> None:
    wf = hours(torc, 2)
    finish(torc, wf, "j0", failed=True)
    finish(torc, wf, "j1")
    recover = {"kind": "RecoverWorkflow", "fields": {"retry_unknown": True}}
    plan = propose(torc, wf, recover, starts="run", node=NODE, num_retries=1)
    assert states(torc, wf) == "j0:failed j1:completed"
    with pytest.raises(Conflict, match="exceeds the budget"):
        apply(torc, wf, plan.token, max_node_hours=0.1)
    assert states(torc, wf) == "j0:failed j1:completed", "nothing of it is done"
    assert torc.send(ListEvents(workflow_id=wf, type="workflow_recovered")).items == []
    apply(torc, wf, plan.token, max_node_hours=3, max_retries=1)
    assert states(torc, wf) == "j0:ready j1:completed"
    assert spent(torc)[1] > 0.0
    kinds = [event.type for event in torc.send(ListEvents(workflow_id=wf, limit=1000)).items]
    assert kinds.count("intervention_applied") == kinds.count("workflow_recovered") == 1
    work(torc, wf, HOUR / 2)
    finish_again = propose(torc, wf, recover, num_retries=1)
    with pytest.raises(Conflict, match="1 of 1 retries were used"):
        apply(torc, wf, finish_again.token, max_retries=1)


def test_retries_are_counted_over_all_workflows(torc: Torc) -> None:
    again = {"kind": "ResetWorkflow", "fields": {"failed_only": False}}
    for number in range(3):
        wf = hours(torc)
        finish(torc, wf, "j0")
        plan = propose(torc, wf, again, num_retries=1)
        if number < 2:
            apply(torc, wf, plan.token, max_retries=2)
        else:
            with pytest.raises(Conflict, match="2 of 2 retries were used"):
                apply(torc, wf, plan.token, max_retries=2)


def test_what_a_runner_holds_counts_until_it_has_ended_and_a_runner_that_ends_stops_the_charging(torc: Torc) -> None:
    wf = hours(torc, 4)
    begin(torc, wf, 10)
    number = small_runner(torc, wf)
    (given,) = claim_one(torc, wf, number)
    exchange(torc, wf, number, finished=[ended(given).model_copy(update={"wall_seconds": 3 * HOUR})], free=NODE)
    claim_one(torc, wf, number)
    used, reserved = spent(torc)
    assert (used, reserved) == (3.0, 1.0), "what is held is more than what is left of the reservation, or as much"
    torc.send(EndRunner(workflow_id=wf, runner_id=number, reason="killed"))
    assert spent(torc)[1] == 0.0
    assert work(torc, wf, HOUR) == 3, "a person goes on, and pays"
    assert spent(torc)[0] == pytest.approx(3.0, abs=0.01)
