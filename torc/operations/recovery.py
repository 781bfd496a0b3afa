"""Recovery: diagnose what failed, propose what would help, and do it in one transaction. A dry run is the same without the last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, text

from torc.api import recovery as api
from torc.core.correction import raised
from torc.core.diagnosis import Diagnosis
from torc.core.quantities import human_bytes, human_duration
from torc.core.resources import ResourceRequest
from torc.core.states import State
from torc.errors import Conflict
from torc.operations.diagnosis import failed_jobs
from torc.operations.dispatch import DryRun, Tx, answers
from torc.operations.handling import class_for
from torc.operations.reset import all_states, downstream, make_due
from torc.operations.rows import loads, workflow_row
from torc.operations.workflows import refuse_while_running

_MOST_IDS = 100
_LARGEST = text("SELECT capacity FROM runner WHERE workflow_id = :id")
_MARK = text("SELECT coalesce(max(id), 0) FROM attempt WHERE workflow_id = :id")


class _Failed(NamedTuple):
    """A job that failed, why, and what it used."""

    row: RowMapping
    found: Diagnosis

    @property
    def asked(self) -> ResourceRequest:
        """Give what it asked for."""
        return ResourceRequest(*(self.row[field] for field in ResourceRequest._fields))


@answers(api.RecoverWorkflow)
def recover_workflow(tx: Tx, request: api.RecoverWorkflow) -> api.Recovery:
    """Recover a workflow."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    refuse_while_running(tx, workflow["id"], "recovered", force=False)
    mark = f"{workflow['version']}.{tx.db.execute(_MARK, {'id': workflow['id']}).scalar_one()}"
    if request.mark not in {None, mark}:
        raise Conflict(
            f"workflow {workflow['id']} has changed since the recovery was proposed",
            hint="look at a new proposal, then decide",
        )
    again, left = _sort(tx, workflow["id"], request)
    largest = _largest(tx, workflow["id"])
    proposals: list[api.Proposal] = []
    for (action, _), members in sorted(again.items()):
        proposal = _propose(action, members, request, largest)
        if proposal is None:
            reason = f"no runner that was there has more memory than they asked for ({human_bytes(largest or 0)})"
            left[members[0].found.category, reason] += members
            continue
        proposals.append(proposal)
        _give(tx, workflow["id"], proposal, members)
    chosen = [member.row["id"] for proposal in proposals for member in _members(again, proposal)]
    made = api.Recovery(
        applied=bool(chosen) and not request.dry_run,
        mark=mark,
        proposals=proposals,
        left=[_left(category, reason, members) for (category, reason), members in sorted(left.items())],
        num_retried=len(chosen),
        num_left=sum(map(len, left.values())),
    )
    if chosen:
        before = all_states(tx, workflow["id"])
        asked = set(chosen)
        behind = {job for job in downstream(tx, chosen) if job in asked or before[job] is State.CANCELED}
        make_due(tx, workflow["id"], behind, before)
        tx.event(workflow["id"], "workflow_recovered", num_jobs=len(chosen), num_left=made.num_left, mark=mark)
    if request.dry_run:
        raise DryRun(made)
    return made


_Groups = dict[tuple[str, int], list[_Failed]]
_LeftOut = defaultdict[tuple[Any, str], list[_Failed]]


def _sort(tx: Tx, workflow_id: int, request: api.RecoverWorkflow) -> tuple[_Groups, _LeftOut]:
    """Sort failed jobs into those that a retry helps, by what it has to change and their class, and the others."""
    again: _Groups = defaultdict(list)
    left: _LeftOut = defaultdict(list)
    for row, found in failed_jobs(tx, workflow_id):
        member = _Failed(row, found)
        action = found.remedy
        if action == "none" and (
            found.category in request.retry or (request.retry_unknown and found.category == "unknown")
        ):
            action = "again"
        if action == "none":
            left[found.category, found.advice].append(member)
        elif row["attempt"] >= request.max_attempts:
            left[found.category, f"tried {request.max_attempts} times"].append(member)
        else:
            again[action, row["requirement_id"]].append(member)
    return again, left


def _largest(tx: Tx, workflow_id: int) -> int | None:
    """Give the memory of the largest runner that ever worked on a workflow; None: there was none."""
    found = [loads(row[0], {}).get("memory_bytes", 0) for row in tx.db.execute(_LARGEST, {"id": workflow_id})]
    return max(found, default=None)


def _propose(
    action: str, members: Sequence[_Failed], request: api.RecoverWorkflow, largest: int | None
) -> api.Proposal | None:
    """Propose for jobs of one class; None: more memory than any runner has would be needed."""
    old = members[0].asked
    peak = max((member.row["peak_memory_bytes"] or 0 for member in members), default=0)
    wall = max((member.row["wall_seconds"] or 0.0 for member in members), default=0.0)
    new = raised(
        old,
        memory_factor=request.memory_multiplier if action == "more memory" else None,
        runtime_factor=request.runtime_multiplier if action == "more time" else None,
        peak_memory=peak,
        wall_seconds=wall,
    ) if action != "again" else old  # fmt: skip
    capped = ""
    if action == "more memory" and largest is not None and new.memory_bytes > largest:
        if largest <= max(old.memory_bytes, peak):
            return None
        new, capped = new._replace(memory_bytes=largest), ", as much as the largest runner has"
    reason = {
        "more memory": f"they used up to {human_bytes(max(peak, 1))} of {human_bytes(old.memory_bytes)}{capped}",
        "more time": f"they ran up to {human_duration(max(1, int(wall)))} of {human_duration(old.runtime_seconds)}",
        "again": members[0].found.what,
    }[action]
    return api.Proposal.model_validate({
        "action": action, "category": members[0].found.category, "requirement": members[0].row["requirement_name"],
        "num_jobs": len(members), "job_ids": [member.row["id"] for member in members[:_MOST_IDS]],
        "memory_bytes": old.memory_bytes, "new_memory_bytes": new.memory_bytes, "runtime_seconds": old.runtime_seconds,
        "new_runtime_seconds": new.runtime_seconds, "reason": reason,
    })  # fmt: skip


def _members(again: _Groups, proposal: api.Proposal) -> list[_Failed]:
    """Give the jobs of a proposal: its first one tells which group it was made of."""
    first = proposal.job_ids[0]
    return next(members for members in again.values() if members[0].row["id"] == first)


def _give(tx: Tx, workflow_id: int, proposal: api.Proposal, members: Sequence[_Failed]) -> None:
    """Give jobs the class that is proposed for them."""
    old = members[0].asked
    new = old._replace(memory_bytes=proposal.new_memory_bytes, runtime_seconds=proposal.new_runtime_seconds)
    if new == old:
        return
    number, name = class_for(tx, workflow_id, new, proposal.requirement)
    tx.dialect.run_many(
        tx.db, "UPDATE job SET requirement_id = :class WHERE id = :id",
        [{"class": number, "id": member.row["id"]} for member in members],
    )  # fmt: skip
    tx.event(
        workflow_id, "resources_raised", requirement=proposal.requirement, new_requirement=name, num_jobs=len(members),
        memory_bytes=[old.memory_bytes, new.memory_bytes], runtime_seconds=[old.runtime_seconds, new.runtime_seconds],
    )  # fmt: skip


def _left(category: Any, reason: str, members: Sequence[_Failed]) -> api.Left:
    ids = [member.row["id"] for member in members[:_MOST_IDS]]
    return api.Left(category=category, num_jobs=len(members), job_ids=ids, reason=reason)
