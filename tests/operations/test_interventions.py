"""Plans of assistants: bound to the state they were made from, applied once, within a budget, told to everybody."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workflows import finish, run_all, workflow
from torc.api.base import Torc
from torc.api.events import ListEvents
from torc.api.interventions import (
    ApplyIntervention,
    FindIntervention,
    GetSpending,
    Intervention,
    ListInterventions,
    ProposeIntervention,
)
from torc.api.workflows import UpdateWorkflow
from torc.errors import Conflict, NotFound


def propose(torc: Torc, wf: int, **fields: Any) -> Intervention:
    return torc.send(
        ProposeIntervention.model_validate({"workflow_id": wf, "action": "reset_jobs", "client": "editor", **fields})
    )


def apply(torc: Torc, wf: int, token: str | None, **fields: Any) -> Intervention:
    return torc.send(
        ApplyIntervention.model_validate({
            "workflow_id": wf, "token": token, "action": "reset_jobs", "client": "editor", "reason": "as agreed", **fields,
        })
    )  # fmt: skip


def test_a_plan_is_applied_once_and_everybody_sees_who_did_it_and_why(torc: Torc) -> None:
    wf = workflow(torc, "a -> b")
    made = propose(torc, wf, arguments={"failed_only": True}, num_retries=1, node_hours=0.5)
    assert torc.send(FindIntervention(workflow_id=wf, token=str(made.token), action="reset_jobs")).arguments == {
        "failed_only": True
    }
    done = apply(torc, wf, made.token, reason="the disk has room again", agreed="user")
    assert (done.reason, done.agreed, done.token) == ("the disk has room again", "user", None)
    (event,) = torc.send(ListEvents(workflow_id=wf, type="intervention_applied")).items
    assert event.data["reason"] == "the disk has room again"
    assert event.data["client"] == "editor"
    with pytest.raises(Conflict, match="applied already"):
        apply(torc, wf, made.token)
    spent = torc.send(GetSpending(workflow_id=wf))
    assert (spent.num_applied, spent.num_retries, spent.node_hours) == (1, 1, 0.5)
    (listed,) = torc.send(ListInterventions(workflow_id=wf, applied_only=True)).items
    assert listed.token is None


def test_a_stale_plan_is_refused_with_what_changed(torc: Torc) -> None:
    wf = workflow(torc, "a -> b")
    bound = propose(torc, wf)
    following = propose(torc, wf, follows_progress=True)
    finish(torc, wf, "a")
    with pytest.raises(Conflict, match="0 -> 1 completed"):
        apply(torc, wf, bound.token)
    with pytest.raises(Conflict, match="run 0 -> 1"):
        apply(torc, wf, following.token)
    following = propose(torc, wf, follows_progress=True)
    run_all(torc, wf)
    apply(torc, wf, following.token)
    edited = propose(torc, wf, follows_progress=True)
    torc.send(UpdateWorkflow(workflow_id=wf, description="second try"))
    with pytest.raises(Conflict, match="has changed since"):
        apply(torc, wf, edited.token)


def test_a_plan_holds_for_its_own_action_workflow_and_time_alone(torc: Torc) -> None:
    wf, other = workflow(torc, "a"), workflow(torc, "b")
    made = propose(torc, wf)
    with pytest.raises(Conflict, match="is for reset_jobs"):
        apply(torc, wf, made.token, action="cancel_workflow")
    for token in (made.token, "plan_AAAAAAAAAAAAAAAA"):
        with pytest.raises(NotFound):
            apply(torc, other, token)
    with pytest.raises(Conflict, match="expired"):
        apply(torc, wf, propose(torc, wf, lifetime_seconds=1e-9).token)


def test_what_goes_beyond_the_budget_is_refused_and_what_was_spent_stays_spent(torc: Torc) -> None:
    wf = workflow(torc, "a")
    budget = {"max_retries": 2, "max_node_hours": 1.0}
    for _ in range(2):
        apply(torc, wf, propose(torc, wf, num_retries=1, node_hours=0.4).token, **budget)
    with pytest.raises(Conflict, match="2 of 2 retries were used") as refused:
        apply(torc, wf, propose(torc, wf, num_retries=1, node_hours=0.4).token, **budget)
    assert "0.20 of 1 are left" in refused.value.message
    apply(torc, wf, propose(torc, wf).token, **budget)  # costs nothing
    assert torc.send(GetSpending(workflow_id=wf)).num_applied == 3
