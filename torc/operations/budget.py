"""What recoveries have cost, and what the next one would cost: from the event log, the attempts and the runners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torc.api import planning
from torc.api import recovery as api
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import classes_of, workflow_row
from torc.planning.cost import expected_seconds, node_seconds
from torc.store import costs, demand, events, runners
from torc.store.costs import CompletedAttempts
from torc.units import HOUR
from torc.workflow.resources import Capacity, ResourceRequest

BEGUN, RECOVERED = "recovery_budget_begun", "workflow_recovered"


@dataclass(frozen=True)
class AttemptPrices:
    """What attempts of a workflow cost on the nodes that it has seen, or on one that is given."""

    tx: Tx
    workflow_id: int
    node: Capacity | None = None

    @cached_property
    def nodes(self) -> Mapping[int, Capacity]:
        """Return the nodes of its runners, by runner."""
        return runners.capacities(self.tx.db, self.tx.dialect, self.workflow_id)

    @cached_property
    def largest(self) -> Capacity | None:
        """Return the node with the most memory that was ever there, unless one is given; None: there was none."""
        return self.node or max(self.nodes.values(), key=lambda node: (node.memory_bytes, node.num_cpus), default=None)

    @cached_property
    def classes(self) -> Mapping[int, ResourceRequest]:
        """Return what its classes ask for."""
        return {number: found.request for number, found in classes_of(self.tx, self.workflow_id).items()}

    @cached_property
    def _completed(self) -> Mapping[int, CompletedAttempts]:
        found = costs.completed(self.tx.db, self.tx.dialect, self.workflow_id)
        return {attempts.requirement_id: attempts for attempts in found}

    def node_hours(self, request: ResourceRequest, like: int, *, to_its_limit: bool = False) -> float:
        """Estimate an attempt with a request; those of the class `like` tell how long it takes, unless it runs to its limit."""
        seconds = float(request.runtime_seconds)
        if not to_its_limit:
            known = self._completed.get(like, CompletedAttempts(like, 0, 0.0))
            seconds = expected_seconds(request, known.number, known.longest_seconds)
        return node_seconds(request, seconds, self.largest) / HOUR


def spent(tx: Tx, prices: AttemptPrices, automation: str | None) -> api.Spent:
    """Return what recoveries by one program, or by people, have cost since their budget started."""
    workflow_id = prices.workflow_id
    since = None
    for event in events.of_types(tx.db, tx.dialect, workflow_id, (BEGUN, "workflow_reset"), newest_first=True):
        if event.type != BEGUN or event.data.get("automation") == automation:
            since = event.id
            break
    recovered = events.of_types(tx.db, tx.dialect, workflow_id, (RECOVERED,), after=since or 0)
    rounds = [event.data for event in recovered if event.data.get("automation") == automation]
    if not rounds:
        return api.Spent(rounds=0, node_hours=0.0, since_event=since)
    total = 0.0
    for taken in costs.time_taken(tx.db, tx.dialect, workflow_id, after_run=rounds[0].get("run_id", 0)):
        node = prices.largest if taken.runner_id is None else prices.nodes.get(taken.runner_id, prices.largest)
        total += node_seconds(prices.classes[taken.requirement_id], taken.wall_seconds, node)
    return api.Spent(rounds=len(rounds), node_hours=total / HOUR, since_event=since)


@answers(api.GetRecoverySpent)
def get_recovery_spent(tx: Tx, request: api.GetRecoverySpent) -> api.Spent:
    """Get what was spent."""
    workflow_id = workflow_row(tx, request.workflow_id)["id"]
    return spent(tx, AttemptPrices(tx, workflow_id), request.automation)


@answers(planning.EstimateCost)
def estimate_cost(tx: Tx, request: planning.EstimateCost) -> planning.EstimatedCost:
    """Estimate what jobs will take."""
    workflow_id = workflow_row(tx, request.workflow_id)["id"]
    node = None if request.node is None else Capacity.of_node(request.node.model_dump())
    prices = AttemptPrices(tx, workflow_id, node)
    if request.job_ids is None:
        numbers = demand.num_unfinished(tx.db, tx.dialect, workflow_id)
    else:
        numbers = demand.num_by_requirement(tx.db, tx.dialect, workflow_id, request.job_ids)
    hours = sum(count * prices.node_hours(prices.classes[number], number) for number, count in numbers.items())
    return planning.EstimatedCost(node_hours=hours)
