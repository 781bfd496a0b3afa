"""Recovery: diagnose failures, propose what would help, and apply it in one transaction. A dry run leaves out the last step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from torc.api import recovery as api
from torc.errors import Conflict
from torc.failures.categories import Category
from torc.failures.resource_adjustment import is_chosen
from torc.operations import remedies
from torc.operations.budget import BEGUN, RECOVERED, AttemptPrices, spent
from torc.operations.diagnosis import failed_jobs
from torc.operations.dispatch import DryRun, Tx, answers
from torc.operations.failure_handlers import class_for
from torc.operations.remedies import FailedAttempt, Remedy, ResourceLimits
from torc.operations.reset import make_due
from torc.operations.row_mapping import workflow_row
from torc.operations.runs import end_lost, expire_leases
from torc.operations.workflows import refuse_while_running
from torc.planning.budget import Budget
from torc.store import costs, demand, gates, jobs
from torc.workflow.states import State

_MOST_IDS = 100
_LeftOut = defaultdict[tuple[Category, str], list[FailedAttempt]]
_NOT_CHOSEN = "not chosen"


@answers(api.RecoverWorkflow)
def recover_workflow(tx: Tx, request: api.RecoverWorkflow) -> api.Recovery:
    """Recover a workflow."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    mark = f"{workflow['version']}.{costs.last_attempt(tx.db, tx.dialect, workflow['id'])}"
    expire_leases(tx, workflow)  # of runners that nobody else asks about any more
    end_lost(tx, workflow, request.lost_runners)
    refuse_while_running(tx, workflow["id"], "recovered", force=False)
    if request.mark not in {None, mark}:
        raise Conflict(
            f"workflow {workflow['id']} has changed since the recovery was proposed",
            hint="look at a new proposal, then decide",
        )
    if request.new_budget:
        tx.event(workflow["id"], BEGUN, automation=request.automation)
    prices = AttemptPrices(tx, workflow["id"])
    round_ = _Round(tx, request, prices, spent(tx, prices, request.automation))
    chosen = round_.decide()
    made = api.Recovery(
        applied=bool(chosen) and not request.dry_run,
        mark=mark,
        proposals=[proposal for _, proposal, _ in chosen],
        left=[_left(category, reason, members) for (category, reason), members in sorted(round_.left.items())],
        num_retried=sum(proposal.num_jobs for _, proposal, _ in chosen),
        num_left=sum(map(len, round_.left.values())),
        cost_node_hours=round(sum(proposal.cost_node_hours for _, proposal, _ in chosen), 6),
        spent=round_.spent,
    )
    if request.dry_run:
        raise DryRun(made)
    if chosen:
        for remedy, proposal, _ in chosen:
            _give(tx, workflow["id"], remedy, proposal, request)
        make_due(tx, workflow["id"], {job for _, _, due in chosen for job in due}, round_.before)
        tx.event(
            workflow["id"],
            RECOVERED,
            num_jobs=made.num_retried,
            num_left=made.num_left,
            mark=mark,
            run_id=workflow["run_id"],
            reason=request.reason,
            automation=request.automation,
            cost_node_hours=made.cost_node_hours,
            groups=[proposal.key for proposal in made.proposals],
        )
    return made


_Chosen = tuple[Remedy, api.Proposal, set[int]]


class _Round:
    """What a recovery decides about each failed job."""

    def __init__(self, tx: Tx, request: api.RecoverWorkflow, prices: AttemptPrices, already: api.Spent) -> None:
        self.tx, self.request, self.prices, self.spent = tx, request, prices, already
        #: states of the jobs that some remedy reaches: to read those of all jobs would be most of the time
        self.before: dict[int, State] = {}
        self.left: _LeftOut = defaultdict(list)

    def decide(self) -> list[_Chosen]:
        """Return what to do, and the jobs that will run again as a result; the others are in `left`."""
        request = self.request
        limits = ResourceLimits.of(self.prices.largest, request)
        found = self._helped()
        chosen: list[tuple[str, Remedy]] = []
        for (requirement, category), members in sorted(found.items()):
            made, helpless = remedies.propose(members, request, limits)
            for reason, those in helpless.items():
                self.left[category, reason] += those
            for remedy in made:
                key = f"{requirement}/{category}" + (f"/{remedy.gives}" if len(made) > 1 else "")
                if is_chosen(key, request.only, request.skip):
                    chosen.append((key, remedy))
                else:
                    self.left[category, _NOT_CHOSEN] += remedy.members
        if not Budget(max_retries=request.max_retries).allows_retries(self.spent.rounds):
            for _, remedy in chosen:
                reason = (
                    f"the budget of {request.max_retries} recover{'y' if request.max_retries == 1 else 'ies'} is spent"
                )
                self.left[remedy.category, reason] += remedy.members
            return []
        return self._within_budget(chosen)

    def _helped(self) -> dict[tuple[str, Category], list[FailedAttempt]]:
        """Return the jobs that a retry helps, by class and category."""
        request, found = self.request, defaultdict[tuple[str, Category], list[FailedAttempt]](list)
        for row, diagnosis in failed_jobs(self.tx, request.workflow_id):
            member = FailedAttempt(row, diagnosis)
            asked_for = diagnosis.category in request.retry or (
                request.retry_unknown and diagnosis.category is Category.UNKNOWN
            )
            if not diagnosis.category.is_retryable and not asked_for:
                said = (
                    f"{diagnosis.what}; {diagnosis.advice}"
                    if diagnosis.category is Category.UNKNOWN
                    else diagnosis.advice
                )
                self.left[diagnosis.category, said].append(member)
            elif row["attempt"] >= request.max_attempts:
                self.left[diagnosis.category, f"tried {request.max_attempts} times"].append(member)
            else:
                found[row["requirement_name"], diagnosis.category].append(member)
        return found

    def _within_budget(self, chosen: Sequence[tuple[str, Remedy]]) -> list[_Chosen]:
        """Select what fits into the budget of node-hours, cheapest first. The result has the order of `chosen`."""
        priced = [(key, remedy, *self._price(remedy)) for key, remedy in chosen]
        room = Budget(max_node_hours=self.request.max_node_hours).node_hours_left(self.spent.node_hours)
        taken: dict[str, _Chosen] = {}
        for key, remedy, due, cost in sorted(priced, key=lambda item: (item[3], item[0])):
            if room is not None and cost > room:
                reason = f"needs about {cost:.3g} node-hours, {max(room, 0.0):.3g} are left of the budget"
                self.left[remedy.category, reason] += remedy.members
                continue
            room = None if room is None else room - cost
            taken[key] = remedy, _proposal(key, remedy, due, cost), due
        return [taken[key] for key, _ in chosen if key in taken]

    def _price(self, remedy: Remedy) -> tuple[set[int], float]:
        """Return the jobs that a remedy reruns, and the cost of all of them in node-hours."""
        own = {member.row["id"] for member in remedy.members}
        reached = gates.downstream(self.tx.db, self.tx.dialect, own)
        self.before |= jobs.states_of(self.tx.db, self.tx.dialect, reached)
        due = {job for job in reached if job in own or self.before[job] is State.CANCELED}
        like = remedy.members[0].row["requirement_id"]
        each = self.prices.node_hours(remedy.new, like, to_its_limit=remedy.action == "more time")
        cost = len(own) * each
        if behind := due - own:
            numbers = demand.num_by_requirement(self.tx.db, self.tx.dialect, self.request.workflow_id, behind)
            cost += sum(
                n * self.prices.node_hours(self.prices.classes[number], number) for number, n in numbers.items()
            )
        return due, cost


def _proposal(key: str, remedy: Remedy, due: set[int], cost: float) -> api.Proposal:
    members, old, new = remedy.members, remedy.old, remedy.new
    return api.Proposal.model_validate(
        {
            "key": key,
            "action": remedy.action,
            "category": remedy.category,
            "requirement": members[0].row["requirement_name"],
            "num_jobs": len(members),
            "job_ids": [member.row["id"] for member in members[:_MOST_IDS]],
            "num_behind": len(due) - len(members),
            "memory_bytes": old.memory_bytes,
            "new_memory_bytes": new.memory_bytes,
            "runtime_seconds": old.runtime_seconds,
            "new_runtime_seconds": new.runtime_seconds,
            "cost_node_hours": round(cost, 6),
            "reason": remedy.reason,
        }
    )


def _give(tx: Tx, workflow_id: int, remedy: Remedy, proposal: api.Proposal, request: api.RecoverWorkflow) -> None:
    """Move jobs to the proposed class; other jobs of their old class keep it."""
    old, new = remedy.old, remedy.new
    if new == old:
        return
    number, name = class_for(tx, workflow_id, new, proposal.requirement)
    jobs.set_requirement(tx.db, tx.dialect, [member.row["id"] for member in remedy.members], number)
    tx.event(
        workflow_id,
        "resources_raised",
        requirement=proposal.requirement,
        new_requirement=name,
        num_jobs=proposal.num_jobs,
        memory_bytes=[old.memory_bytes, new.memory_bytes],
        runtime_seconds=[old.runtime_seconds, new.runtime_seconds],
        because=proposal.reason,
        reason=request.reason,
        automation=request.automation,
    )


def _left(category: Category, reason: str, members: Sequence[FailedAttempt]) -> api.Left:
    ids = [member.row["id"] for member in members[:_MOST_IDS]]
    return api.Left(category=category, num_jobs=len(members), job_ids=ids, reason=reason)
