"""What recoveries have cost, and what the next one would: from the log, the attempts and the runners that there were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torc.api import planning
from torc.api import recovery as api
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import classes_of, workflow_row
from torc.planning.cost import expected_seconds, node_seconds
from torc.store.json_columns import loads
from torc.units import HOUR
from torc.workflow.resources import Capacity, ResourceRequest
from torc.workflow.states import FINISHED

BEGUN, RECOVERED = "recovery_budget_begun", "workflow_recovered"
_BEGINNING = (
    "SELECT id, type, data FROM event WHERE workflow_id = :id "
    "AND type IN ('recovery_budget_begun', 'workflow_reset') ORDER BY id DESC"
)
_ROUNDS = "SELECT data FROM event WHERE workflow_id = :id AND type = 'workflow_recovered' AND id > :after ORDER BY id"
_ATTEMPTS = (
    "SELECT j.requirement_id, a.runner_id, sum(a.wall_seconds) FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.workflow_id = :id AND a.run_id > :run GROUP BY j.requirement_id, a.runner_id"
)
_RUNNERS = "SELECT id, capacity FROM runner WHERE workflow_id = :id"
_COMPLETED = (
    "SELECT j.requirement_id, count(*), max(a.wall_seconds) FROM attempt a JOIN job j ON j.id = a.job_id "
    "WHERE a.workflow_id = :id AND a.is_current AND a.state = 'completed' GROUP BY j.requirement_id"
)
_BY_CLASS = "SELECT requirement_id, count(*) FROM job WHERE +workflow_id = :id AND id IN {} GROUP BY requirement_id"
_UNFINISHED = (
    "SELECT requirement_id, count(*) FROM job WHERE workflow_id = :id "
    f"AND state NOT IN ({', '.join(repr(state.value) for state in sorted(FINISHED))}) GROUP BY requirement_id"
)


@dataclass(frozen=True)
class AttemptPrices:
    """What attempts of a workflow cost on the nodes that it has seen, or on one that is given."""

    tx: Tx
    workflow_id: int
    node: Capacity | None = None

    @cached_property
    def nodes(self) -> Mapping[int, Capacity]:
        """Return the nodes of its runners, by runner."""
        rows = self.tx.dialect.fetch(self.tx.db, _RUNNERS, {"id": self.workflow_id})
        return {row[0]: _capacity(loads(row[1], {})) for row in rows}

    @cached_property
    def largest(self) -> Capacity | None:
        """Return the node with the most memory that was ever there, unless one is given; None: there was none."""
        return self.node or max(self.nodes.values(), key=lambda node: (node.memory_bytes, node.num_cpus), default=None)

    @cached_property
    def classes(self) -> Mapping[int, ResourceRequest]:
        """Return what its classes ask for."""
        return {number: found.request for number, found in classes_of(self.tx, self.workflow_id).items()}

    @cached_property
    def _completed(self) -> Mapping[int, tuple[int, float]]:
        rows = self.tx.dialect.fetch(self.tx.db, _COMPLETED, {"id": self.workflow_id})
        return {row[0]: (row[1], row[2]) for row in rows}

    def node_hours(self, request: ResourceRequest, like: int, *, to_its_limit: bool = False) -> float:
        """Estimate an attempt with a request; those of the class `like` tell how long it takes, unless it runs to its limit."""
        seconds = float(request.runtime_seconds)
        if not to_its_limit:
            seconds = expected_seconds(request, *self._completed.get(like, (0, 0.0)))
        return node_seconds(request, seconds, self.largest) / HOUR


def _capacity(fields: Mapping[str, Any]) -> Capacity:
    return Capacity(fields.get("num_cpus", 1), fields.get("memory_bytes", 1), fields.get("num_gpus", 0))


def spent(tx: Tx, prices: AttemptPrices, automation: str | None) -> api.Spent:
    """Sum up what recoveries by one program, or by people, have cost since their budget began."""
    workflow_id = prices.workflow_id
    since = None
    for number, kind, data in tx.dialect.fetch(tx.db, _BEGINNING, {"id": workflow_id}):
        fields = loads(data, {})
        if kind != BEGUN or fields.get("automation") == automation:
            since = number
            break
    rows = tx.dialect.fetch(tx.db, _ROUNDS, {"id": workflow_id, "after": since or 0})
    rounds = [fields for row in rows if (fields := loads(row[0], {})).get("automation") == automation]
    if not rounds:
        return api.Spent(rounds=0, node_hours=0.0, since_event=since)
    values = {"id": workflow_id, "run": rounds[0].get("run_id", 0)}
    total = 0.0
    for class_id, runner_id, seconds in tx.dialect.fetch(tx.db, _ATTEMPTS, values):
        total += node_seconds(prices.classes[class_id], seconds, prices.nodes.get(runner_id, prices.largest))
    return api.Spent(rounds=len(rounds), node_hours=total / HOUR, since_event=since)


@answers(api.GetRecoverySpent)
def get_recovery_spent(tx: Tx, request: api.GetRecoverySpent) -> api.Spent:
    """Get what was spent."""
    workflow_id = workflow_row(tx, request.workflow_id)["id"]
    return spent(tx, AttemptPrices(tx, workflow_id), request.automation)


@answers(planning.EstimateCost)
def estimate_cost(tx: Tx, request: planning.EstimateCost) -> planning.EstimatedCost:
    """Estimate what jobs will take."""
    key = {"id": workflow_row(tx, request.workflow_id)["id"]}
    node = None if request.node is None else _capacity(request.node.model_dump())
    prices = AttemptPrices(tx, key["id"], node)
    if request.job_ids is None:
        rows = tx.dialect.fetch(tx.db, _UNFINISHED, key)
    elif request.job_ids:
        ids = {**key, "ids": tx.dialect.ids(request.job_ids)}
        rows = tx.dialect.fetch(tx.db, _BY_CLASS.format(tx.dialect.id_list), ids)
    else:
        rows = []
    hours = sum(count * prices.node_hours(prices.classes[number], number) for number, count in rows)
    return planning.EstimatedCost(node_hours=hours)
