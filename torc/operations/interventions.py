"""Plans of assistants: kept with the state that they were made from, applied once, within a budget that the store sums up."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections import Counter
from typing import Any

from sqlalchemy import RowMapping, text

from torc.api import interventions as api
from torc.api.base import Page
from torc.errors import Conflict, NotFound
from torc.operations.dispatch import Tx, answers
from torc.operations.rows import decode_cursor, encode_cursor, loads, workflow_of, workflow_row

_INSERT = text(
    """INSERT INTO intervention (workflow_id, token_hash, action, arguments, standing, client, num_retries, node_hours,
    proposed_at, expires_at) VALUES (:workflow_id, :token_hash, :action, :arguments, :standing, :client, :num_retries,
    :node_hours, :now, :expires_at)"""
)
_OF_TOKEN = text("SELECT * FROM intervention WHERE workflow_id = :id AND token_hash = :hash")
_APPLY = text(
    "UPDATE intervention SET applied_at = :now, reason = :reason, agreed = :agreed, client = :client WHERE id = :id"
)
_SPENT = text(
    "SELECT count(*), coalesce(sum(num_retries), 0), coalesce(sum(node_hours), 0) FROM intervention "
    "WHERE workflow_id = :id AND applied_at IS NOT NULL"
)
_LAST = text("SELECT coalesce(max(id), 0) FROM event WHERE workflow_id = :id")
_SINCE = text("SELECT type, actor FROM event WHERE workflow_id = :id AND id > :after ORDER BY id LIMIT 10000")
_ATTEMPTS = text("SELECT coalesce(max(id), 0) FROM attempt WHERE workflow_id = :id")
_MOST_CHANGES = 6


def _intervention(row: RowMapping, token: str | None = None) -> api.Intervention:
    return api.Intervention.model_validate({
        **{name: row[name] for name in api.Intervention.model_fields if name not in {"token", "arguments"}},
        "token": token, "arguments": loads(row["arguments"], {}),
    })  # fmt: skip


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _standing(tx: Tx, workflow: RowMapping, *, follows_progress: bool) -> dict[str, Any]:
    """Tell how a workflow stands; without its progress, what somebody has to do to change it."""
    standing: dict[str, Any] = {"version": workflow["version"], "run_id": workflow["run_id"]}
    if not follows_progress:
        found = workflow_of(tx, workflow)
        standing |= {
            "state": found.state,
            "counts": {state.value: count for state, count in sorted(found.counts.by_state.items())},
            "attempt": tx.db.execute(_ATTEMPTS, {"id": workflow["id"]}).scalar_one(),
        }
    return standing


@answers(api.ProposeIntervention)
def propose(tx: Tx, request: api.ProposeIntervention) -> api.Intervention:
    """Keep a plan."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    token = f"plan_{secrets.token_urlsafe(12)}"
    standing = {
        "seen": _standing(tx, workflow, follows_progress=request.follows_progress),
        "event": tx.db.execute(_LAST, {"id": workflow["id"]}).scalar_one(),
        "follows_progress": request.follows_progress,
    }
    values = {
        "workflow_id": workflow["id"], "token_hash": _hash(token), "action": request.action, "client": request.client,
        "arguments": json.dumps(request.arguments), "standing": json.dumps(standing), "num_retries": request.num_retries,
        "node_hours": request.node_hours, "now": tx.now, "expires_at": tx.now + request.lifetime_seconds,
    }  # fmt: skip
    tx.db.execute(_INSERT, values)
    return _intervention(_row(tx, workflow["id"], token), token)


def _row(tx: Tx, workflow_id: int, token: str) -> RowMapping:
    shown = _hash(token)
    row = tx.db.execute(_OF_TOKEN, {"id": workflow_id, "hash": shown}).mappings().first()
    if row is None or not hmac.compare_digest(row["token_hash"], shown):
        raise NotFound(
            f"plan_token: workflow {workflow_id} has no plan with this token",
            hint="make a new plan: call the tool without it",
        )
    return row


def _holding(tx: Tx, workflow: RowMapping, token: str, action: str) -> RowMapping:
    """Give a plan that still holds. Raises NotFound, or Conflict with what changed."""
    row = _row(tx, workflow["id"], token)
    again = "make a new plan: call the tool without plan_token"
    if row["action"] != action:
        raise Conflict(
            f"plan_token: this plan is for {row['action']}, not for {action}", hint=f"call {row['action']} with it"
        )
    if row["applied_at"] is not None:
        raise Conflict("plan_token: this plan was applied already", hint=f"look at the workflow; {again}")
    if row["expires_at"] <= tx.now:
        raise Conflict("plan_token: this plan has expired", hint=again)
    standing = loads(row["standing"], {})
    now = json.loads(json.dumps(_standing(tx, workflow, follows_progress=standing["follows_progress"])))
    if now != standing["seen"]:
        raise Conflict(
            f"plan_token: the workflow has changed since this plan was made: {_changes(tx, workflow['id'], standing, now)}",
            hint=f"nothing was done; {again}, and show the user what changed",
        )
    return row


def _changes(tx: Tx, workflow_id: int, standing: dict[str, Any], now: dict[str, Any]) -> str:
    """Say what changed: how many jobs stand otherwise, and what was done by whom."""
    seen, said = standing["seen"], []
    before, after = seen.get("counts", {}), now.get("counts", {})
    for state in sorted({*before, *after}):
        if before.get(state, 0) != after.get(state, 0):
            said.append(f"{before.get(state, 0)} -> {after.get(state, 0)} {state}")
    if seen["run_id"] != now["run_id"]:
        said.append(f"run {seen['run_id']} -> {now['run_id']}")
    events = tx.db.execute(_SINCE, {"id": workflow_id, "after": standing["event"]})
    done = Counter(f"{kind} by {actor}" for kind, actor in events)
    said += [f"{what}{f' ({count} times)' if count > 1 else ''}" for what, count in done.most_common(_MOST_CHANGES)]
    return ", ".join(said) or "somebody changed its fields"


@answers(api.FindIntervention)
def find(tx: Tx, request: api.FindIntervention) -> api.Intervention:
    """Look at a plan."""
    workflow = workflow_row(tx, request.workflow_id)
    return _intervention(_holding(tx, workflow, request.token, request.action))


@answers(api.ApplyIntervention)
def apply(tx: Tx, request: api.ApplyIntervention) -> api.Intervention:
    """Take a plan as applied."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    row = _holding(tx, workflow, request.token, request.action)
    _check_budget(_spending(tx, workflow["id"]), row, request)
    values = {
        "now": tx.now,
        "reason": request.reason,
        "agreed": request.agreed,
        "client": request.client,
        "id": row["id"],
    }
    tx.db.execute(_APPLY, values)
    tx.event(
        workflow["id"], "intervention_applied", action=row["action"], client=request.client, reason=request.reason,
        agreed=request.agreed, num_retries=row["num_retries"], node_hours=row["node_hours"], intervention_id=row["id"],
    )  # fmt: skip
    return _intervention(_row(tx, workflow["id"], request.token))


def _check_budget(spent: api.Spending, row: RowMapping, request: api.ApplyIntervention) -> None:
    """Refuse what goes beyond the budget. Raises Conflict."""
    over = []
    if (
        request.max_retries is not None
        and row["num_retries"]
        and spent.num_retries + row["num_retries"] > request.max_retries
    ):
        over.append(f"{spent.num_retries} of {request.max_retries} retries were used")
    if request.max_node_hours is not None and row["node_hours"] > 0.0:
        left = request.max_node_hours - spent.node_hours
        if row["node_hours"] > left:
            over.append(
                f"it may take {row['node_hours']:.2f} node-hours, and {max(0.0, left):.2f} of {request.max_node_hours:g} are left"
            )
    if over:
        raise Conflict(
            f"this plan goes beyond the budget of workflow {request.workflow_id}: {'; '.join(over)}",
            hint="nothing was done; only a person can raise the budget ([mcp] max_retries, max_node_hours), or do it with torc",
        )


@answers(api.GetSpending)
def get_spending(tx: Tx, request: api.GetSpending) -> api.Spending:
    """Sum up what was applied."""
    return _spending(tx, workflow_row(tx, request.workflow_id)["id"])


def _spending(tx: Tx, workflow_id: int) -> api.Spending:
    applied, retries, hours = tx.db.execute(_SPENT, {"id": workflow_id}).one()
    return api.Spending(num_applied=applied, num_retries=retries, node_hours=hours)


@answers(api.ListInterventions)
def list_interventions(tx: Tx, request: api.ListInterventions) -> Page[api.Intervention]:
    """List plans, newest first."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    applied = " AND applied_at IS NOT NULL" if request.applied_only else ""
    query = text(
        f"SELECT * FROM intervention WHERE workflow_id = :id AND id < :before{applied} ORDER BY id DESC LIMIT :n"
    )
    values = {"id": request.workflow_id, "before": key[0] if key else 2**62, "n": request.limit + 1}
    rows = tx.db.execute(query, values).mappings().all()
    items = [_intervention(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)
