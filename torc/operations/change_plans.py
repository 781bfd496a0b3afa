"""Plans of assistants: shown whole, agreed to once, and done in the same transaction that checks and charges them.

To propose, the requests of the plan are answered, what would run afterwards is read from the tables, and all of it is undone: in
a transaction of its own, that only reads where the plan has no requests. What is shown is made of it while nobody waits, and
kept in another transaction, if the workflow still is what it was. To apply, the requests are answered for good, and the same is
read again: only if its digest is the one of what was shown does the transaction go through.

Not for what is shown how (`torc.workflow.executable_content`), or for sums (`spending`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from sqlalchemy import RowMapping

from torc.api import change_plans as api
from torc.api.base import Page, Request
from torc.api.data import UpdateRequirement
from torc.api.jobs import ActOnJobs
from torc.api.recovery import RecoverWorkflow
from torc.api.workflows import CancelWorkflow, ReinitializeReply, ReinitializeWorkflow, ResetWorkflow
from torc.errors import Conflict, Forbidden, Invalid, NotFound
from torc.operations import spending
from torc.operations.budget import AttemptPrices
from torc.operations.creation import compile_text
from torc.operations.dispatch import DryRun, TransactionRunner, Tx, answer, answers, drafts, prepares
from torc.operations.executable_content import (
    StoredContent,
    StoredJobs,
    content_of,
    shown_jobs,
    stored,
    stored_jobs,
)
from torc.operations.row_mapping import decode_cursor, encode_cursor, workflow_of, workflow_row
from torc.planning.budget import Budget
from torc.spec.compiler import compile_spec, parse_spec
from torc.spec.executable_content import planned_jobs, templates_of
from torc.spec.plan import Plan
from torc.store import change_plans as plan_rows
from torc.store import costs, demand, events, provenance
from torc.store import rows as stored_rows
from torc.store import spending as spending_rows
from torc.store import tokens as token_rows
from torc.store.change_plans import PlanFilter
from torc.store.json_columns import loads
from torc.units import HOUR
from torc.workflow.executable_content import (
    ExecutableContent,
    ReviewDocument,
    ShownKind,
    digest_of,
    document_of,
    pages_of,
    visible,
)
from torc.workflow.resources import Capacity

#: columns of a workflow that stay as they are for as long as a plan holds
_HELD = ("version", "run_id")
_MOST_CHANGES = 6
_MOST_EVENTS = 10_000
_MOST_NAMES = 4
_REMEMBERED_SECONDS = 30 * 86_400.0
_ANEW = "make a new plan: call the tool without plan_token"
_KINDS: Mapping[str, type[Request[Any]]] = {
    kind.__name__: kind
    for kind in (CancelWorkflow, ResetWorkflow, ActOnJobs, ReinitializeWorkflow, RecoverWorkflow, UpdateRequirement)
}


# -- what a plan consists of ------------------------------------------------------------------------------------


class PreparedSpecs(NamedTuple):
    """Specs that were compiled before the transaction: the one that a plan brings in, and the one that jobs are shown by."""

    edited: Plan | None = None
    shown_by: Mapping[str, tuple[str, Any]] = {}
    names: Mapping[str, str] = {}


@prepares(api.ProposeIntervention)
def prepare_proposal(request: api.ProposeIntervention) -> PreparedSpecs:
    """Compile the specs that a plan needs."""
    edited = next((item.fields for item in request.operations if item.kind == "ReinitializeWorkflow"), {})
    if edited.get("spec") is not None:
        given = ReinitializeWorkflow.model_validate({**edited, "workflow_id": request.workflow_id})
        spec = api.SpecAsWritten(text=str(given.spec), format=given.format, name=given.name, files=given.spec_files)
        return _prepared(spec, compile_text(spec.text, spec.format, spec.name, spec.files), is_edited=True)
    if request.spec is None:
        return PreparedSpecs()
    texts = {file.path: file.text for file in request.spec.files}
    try:
        plan, _ = compile_spec(
            request.spec.text, format=request.spec.format, name=request.spec.name, read=texts.__getitem__
        )
    except (KeyError, OSError):  # the texts of its files are not kept: each text of a job is its own kind then
        plan = None
    return PreparedSpecs() if plan is None else _prepared(request.spec, plan, is_edited=False)


@prepares(api.ApplyIntervention)
def prepare_application(request: api.ApplyIntervention) -> PreparedSpecs:
    """Compile the spec that a plan brings in."""
    spec = request.spec
    return PreparedSpecs(None if spec is None else compile_text(spec.text, spec.format, spec.name, spec.files))


def _prepared(spec: api.SpecAsWritten, plan: Plan, *, is_edited: bool) -> PreparedSpecs:
    parsed, _ = parse_spec(spec.text, format=spec.format, name=spec.name)
    names = {str(at): f"`{job.name}`" for at, job in enumerate(parsed.jobs)} if parsed is not None else {}
    return PreparedSpecs(plan if is_edited else None, planned_jobs(plan), names)


class PerformedPlan(NamedTuple):
    """What answering the requests of a plan has come to, as it stood in the tables then."""

    results: list[Any]
    stored: StoredContent | None  # None: nothing of it is shown
    before: StoredJobs | None  # None: the plan brings in no spec
    after: StoredJobs
    estimate: float  # node-hours, as jobs took so far
    most: float  # node-hours, if every job runs to its limit

    def content(self, plan: Mapping[str, Any]) -> ExecutableContent:
        """Return what would run, and what is changed."""
        content = ExecutableContent((), (), ()) if self.stored is None else content_of(self.stored)
        changes = [change for result in self.results for change in _changes_in_words(result)]
        content = content._replace(changes=[*plan["changes"], *changes])
        if self.before is None:
            return content
        before, after = shown_jobs(self.before), shown_jobs(self.after)
        return content._replace(
            removed=[job for name, job in before.items() if name not in after],
            changed=[(job, after[name]) for name, job in before.items() if name in after and after[name] != job],
        )


def _perform(
    tx: Tx, workflow_id: int, plan: Mapping[str, Any], node: Capacity | None, plan_spec: Plan | None
) -> PerformedPlan:
    """Answer the requests of a plan, and read what would run afterwards."""
    operations = [api.Operation.model_validate(item) for item in plan["operations"]]
    brings_in = any(item.kind == "ReinitializeWorkflow" and item.fields.get("spec") is not None for item in operations)
    before = stored_jobs(tx, workflow_id) if brings_in else None
    unpriced = _priced(tx, workflow_id, node)
    results = [_done(_answer(tx, workflow_id, item, plan_spec)) for item in operations]
    shows = plan["shows"]
    found = None
    if shows != "nothing":
        found = stored(tx, workflow_id, due_only=shows == "due", with_jobs=shows != "ending")
    after = stored_jobs(tx, workflow_id) if brings_in else StoredJobs()
    estimate, most = _priced(tx, workflow_id, node)
    if plan["starts"] is None:  # it begins nothing, but what goes on may take longer
        estimate, most = (max(0.0, new - old) for new, old in zip((estimate, most), unpriced, strict=True))
    return PerformedPlan(results, found, before, after, estimate, most)


def _answer(tx: Tx, workflow_id: int, item: api.Operation, plan_spec: Plan | None) -> Any:
    kind = _KINDS[item.kind]
    fields = dict(item.fields)
    if kind is not UpdateRequirement:
        fields["workflow_id"] = workflow_id
    try:
        made = kind.model_validate({key: value for key, value in fields.items() if key != "dry_run"})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, ("operations", kind.__name__, *first["loc"])))
        raise Invalid(f"`{where}`: {first['msg']}", hint="give each operation the fields of its request") from None
    if isinstance(made, UpdateRequirement):
        owner = stored_rows.workflow_of(tx.db, "requirement", made.requirement_id)
        if owner != workflow_id:
            raise NotFound(f"workflow {workflow_id} has no such class", hint="list its classes")
    try:
        reply = answer(replace(tx, prepared=plan_spec), made)
    except DryRun as dry:  # it asks for more than it was given
        reply = dry.reply
    if isinstance(reply, ReinitializeReply):
        if reply.result is None:
            raise Conflict("files of the workflow have changed just now", hint="try again")
        return reply.result
    return reply


def _done(reply: Any) -> Any:
    return reply.model_dump(mode="json") if isinstance(reply, BaseModel) else reply


def _changes_in_words(result: Any) -> list[str]:
    """Say what a request does to jobs, each of them; nothing of it depends on ids of what is new or on times."""
    if not isinstance(result, Mapping):
        return []
    alike: dict[tuple[str, str, str], list[str]] = {}
    for change in result.get("changes", ()):
        key = change["state"], change["new_state"] or "removed, with all results", change["reason"]
        alike.setdefault(key, []).append(change["job_name"])
    # what is taken away comes first, and what is rare before what is common
    ordered = sorted(alike.items(), key=lambda item: (not item[0][1].startswith("removed"), len(item[1])))
    said = [f"{_named(names)}: {old} -> {new} ({why})" for (old, new, why), names in ordered]
    for item in result.get("proposals", ()):
        old = f"memory {item['memory_bytes']:,} B, time {item['runtime_seconds']:,} s"
        new = f"memory {item['new_memory_bytes']:,} B, time {item['new_runtime_seconds']:,} s"
        jobs = f"{item['num_jobs']} jobs and {item['num_behind']} behind them"
        said.append(f"{item['key']}: {jobs}: {old} -> {new} ({item['reason']})")
    if said and result.get("total", 0) > len(result.get("changes", ())):
        said.append(f"and {result['total'] - len(result['changes'])} more jobs")
    return said


def _named(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"job {names[0]}"
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"{len(names):,} jobs ({', '.join(names[:_MOST_NAMES])}{more})"


def _priced(tx: Tx, workflow_id: int, node: Capacity | None) -> tuple[float, float]:
    """Estimate the node-hours of what is left: as jobs took so far, and to their limits."""
    prices = AttemptPrices(tx, workflow_id, node)
    expected = most = 0.0
    for number, count in demand.num_unfinished(tx.db, tx.dialect, workflow_id).items():
        request = prices.classes[number]
        expected += count * prices.node_hours(request, number)
        most += count * prices.node_hours(request, number, to_its_limit=True)
    return expected, most


# -- rows -------------------------------------------------------------------------------------------------------


def _intervention(row: RowMapping, token: str | None = None, **more: Any) -> api.Intervention:
    given = {"token", "arguments", "num_pages", "document", "is_whole", "code", "results", "operations"}
    fields = {name: row[name] for name in api.Intervention.model_fields if name not in given}
    arguments = loads(row["arguments"], {}).get("arguments", {})
    pages = len(pages_of(row["document"] or ""))
    return api.Intervention.model_validate(
        {**fields, "token": token, "arguments": arguments, "num_pages": pages, **more}
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _new_token() -> str:
    return f"plan_{secrets.token_urlsafe(12)}"


def _standing(tx: Tx, workflow: RowMapping) -> dict[str, Any]:
    """Show the state of a workflow."""
    found = workflow_of(tx, workflow)
    return {
        "version": workflow["version"],
        "run_id": workflow["run_id"],
        "counts": {state.value: count for state, count in sorted(found.counts.by_state.items())},
        "event": events.last_id(tx.db, tx.dialect, workflow["id"]),
    }


def _row(tx: Tx, workflow_id: int, token: str) -> RowMapping:
    shown = _hash(token)
    row = plan_rows.of_token(tx.db, workflow_id, shown)
    if row is None or not hmac.compare_digest(row["token_hash"], shown):
        raise NotFound(f"plan_token: workflow {workflow_id} has no plan with this token", hint=_ANEW)
    return row


def _row_of_id(tx: Tx, workflow_id: int, number: int) -> RowMapping:
    row = plan_rows.get(tx.db, workflow_id, number)
    if row is None:
        raise NotFound(
            f"workflow {workflow_id} has no plan {number}", hint="`torc plans list` shows those that are open"
        )
    return row


def _refuse_closed(row: RowMapping, now: float) -> None:
    """Raise Conflict for a plan that nobody can apply any more."""
    if row["applied_at"] is not None:
        raise Conflict("plan_token: this plan was already applied", hint=f"look at the workflow; {_ANEW}")
    if row["declined_at"] is not None:
        raise Conflict(
            "plan_token: this plan was declined and cannot be applied", hint=f"ask the user what they want; {_ANEW}"
        )
    if row["expires_at"] <= now:
        raise Conflict("plan_token: this plan has expired", hint=_ANEW)


def _holding(tx: Tx, workflow: RowMapping, token: str, action: str) -> RowMapping:
    """Return a plan that still holds. Raises NotFound, or Conflict with what changed."""
    row = _row(tx, workflow["id"], token)
    if row["action"] != action:
        raise Conflict(
            f"plan_token: this plan is for {row['action']}, not for {action}", hint=f"call {row['action']} with it"
        )
    _refuse_closed(row, tx.now)
    standing = loads(row["standing"], {})
    if any(standing[name] != workflow[name] for name in _HELD):
        raise _stale(tx, workflow, standing)
    return row


def _stale(tx: Tx, workflow: RowMapping, standing: Mapping[str, Any]) -> Conflict:
    return Conflict(
        f"plan_token: the workflow has changed since this plan was made: {_changes(tx, workflow, standing)}",
        hint=f"nothing was done; {_ANEW}, and show the user what changed",
    )


def _changes(tx: Tx, workflow: RowMapping, standing: Mapping[str, Any]) -> str:
    """Say what changed: how many jobs stand otherwise, and what was done by whom."""
    now = json.loads(json.dumps(_standing(tx, workflow)))
    before, after, said = standing.get("counts", {}), now["counts"], []
    for state in sorted({*before, *after}):
        if before.get(state, 0) != after.get(state, 0):
            said.append(f"{before.get(state, 0)} -> {after.get(state, 0)} {state}")
    if standing["run_id"] != now["run_id"]:
        said.append(f"run {standing['run_id']} -> {now['run_id']}")
    since = events.after(tx.db, workflow["id"], standing["event"], _MOST_EVENTS)
    done = Counter(f"{row['type']} by {row['actor']}" for row in since)
    said += [f"{what}{f' ({count} times)' if count > 1 else ''}" for what, count in done.most_common(_MOST_CHANGES)]
    return ", ".join(said) or "what would run or change differs from what was shown"


# -- propose, read, ask -----------------------------------------------------------------------------------------


class ProposedPlan(NamedTuple):
    """The content of a proposal, for a workflow in an unchanged state."""

    specs: PreparedSpecs
    plan: dict[str, Any]
    standing: dict[str, Any]
    performed: PerformedPlan
    hours: float
    digest: str
    document: ReviewDocument


@drafts(api.ProposeIntervention)
def draft_proposal(
    request: api.ProposeIntervention, specs: PreparedSpecs | None, transact: TransactionRunner
) -> ProposedPlan:
    """Work out the content of a plan."""
    specs, plan = specs or PreparedSpecs(), _plan_of(request)
    seen = transact(lambda tx: _look(tx, request, specs, plan, undoes=True), writes=bool(request.operations))
    return _proposed(request, specs, plan, seen)


class _Seen(NamedTuple):
    """What was read for a proposal."""

    standing: dict[str, Any]
    performed: PerformedPlan
    is_charged: bool
    left: float | None  # node-hours of the budget
    by_templates: bool
    directory: str


def _look(
    tx: Tx, request: api.ProposeIntervention, specs: PreparedSpecs, plan: dict[str, Any], *, undoes: bool
) -> _Seen:
    """Read what a proposal needs. `undoes`: raises DryRun with that where anything was written for it."""
    workflow = workflow_row(tx, request.workflow_id, lock=bool(request.operations))
    standing, left = _standing(tx, workflow), _left(tx)
    by_templates = specs.edited is not None or _is_written(tx, request)
    node = None if request.node is None else Capacity.of_node(request.node.model_dump())
    performed = _perform(tx, workflow["id"], plan, node, specs.edited)
    is_charged = workflow["charged_to"] is not None
    seen = _Seen(standing, performed, is_charged, left, by_templates, workflow["directory"])
    if undoes and request.operations:
        raise DryRun(seen)
    return seen


def _proposed(
    request: api.ProposeIntervention, specs: PreparedSpecs, plan: dict[str, Any], seen: _Seen
) -> ProposedPlan:
    """Make of it what is shown. In no transaction: it takes seconds for a large workflow."""
    hours = seen.performed.estimate if request.node_hours is None else request.node_hours
    if request.starts is None and not seen.is_charged:
        hours = 0.0  # nothing goes on: what runs later is charged then
    content = seen.performed.content(plan)
    digest = digest_of(content, [plan, seen.directory])
    content = content._replace(estimate=_estimate_in_words(request, seen.performed, hours, seen.left))
    templates = templates_of(content.jobs, specs.shown_by, specs.names) if seen.by_templates else {}
    document = document_of(visible(request.summary), content, templates)
    return ProposedPlan(specs, plan, seen.standing, seen.performed, hours, digest, document)


@answers(api.ProposeIntervention)
def propose(tx: Tx, request: api.ProposeIntervention) -> api.Intervention:
    """Keep a plan."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    proposed: ProposedPlan = tx.prepared
    if any(proposed.standing[name] != workflow[name] for name in _HELD):  # changed since: now nobody can
        with plan_rows.undone(tx.db):
            seen = _look(tx, request, proposed.specs, proposed.plan, undoes=False)
        proposed = _proposed(request, proposed.specs, proposed.plan, seen)
    plan_rows.forget_unapplied(tx.db, workflow["id"], tx.now - _REMEMBERED_SECONDS)
    document = proposed.document
    number, token = _keep(tx, request, proposed.plan, proposed.standing, proposed.digest, document.text, proposed.hours)
    shown, is_whole = document.within(request.most_characters, f"`torc plans show {number}`")
    row = _row_of_id(tx, workflow["id"], number)
    results = proposed.performed.results
    return _intervention(row, token if is_whole else None, document=shown, is_whole=is_whole, results=results)


def _plan_of(request: api.ProposeIntervention) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        json.dumps(
            {
                "operations": [item.model_dump(mode="json") for item in request.operations],
                "starts": request.starts,
                "shows": request.shows,
                "changes": request.changes,
                "arguments": request.arguments,
                "summary": request.summary,
                "node": None if request.node is None else request.node.model_dump(mode="json"),
            }
        )
    )
    for item in made["operations"]:
        item["fields"].pop("files", None)  # how files looked: what follows from it is in what is shown
    return made


def _is_written(tx: Tx, request: api.ProposeIntervention) -> bool:
    """Return whether the spec that came along is the one that the workflow was made from: no other puts jobs together."""
    if request.spec is None:
        return False
    found = provenance.last_spec(tx.db, request.workflow_id)
    written = request.spec.text.encode("utf-8", "surrogatepass")
    return found is not None and found.get("sha256") == hashlib.sha256(written).hexdigest()


def _keep(
    tx: Tx,
    request: api.ProposeIntervention,
    plan: dict[str, Any],
    standing: dict[str, Any],
    digest: str,
    document: str,
    hours: float,
) -> tuple[int, str]:
    token = _new_token()
    values = {
        "workflow_id": request.workflow_id,
        "token_hash": _hash(token),
        "action": request.action,
        "client": request.client,
        "arguments": plan,
        "standing": standing,
        "num_retries": request.num_retries,
        "node_hours": round(hours, 6),
        "proposed_at": tx.now,
        "expires_at": tx.now + request.lifetime_seconds,
        "digest": digest,
        "document": document,
        "token_id": None if tx.caller is None else tx.caller.token_id,
    }
    plan_rows.insert(tx.db, values)
    return int(_row(tx, request.workflow_id, token)["id"]), token


def _left(tx: Tx) -> float | None:
    found = spending.spent(tx)
    if found.limit_seconds is None:
        return None
    return max(0.0, found.limit_seconds - found.node_seconds - found.reserved_seconds) / HOUR


def _estimate_in_words(
    request: api.ProposeIntervention, outcome: PerformedPlan, hours: float, left: float | None
) -> str:
    if request.node_hours is not None:
        said = f"Asks for {hours:.4g} node-hours of allocations"
    elif request.starts is None and not hours:
        return ""
    else:
        said = f"About {hours:.4g} node-hours as such jobs took so far, at most {outcome.most:.4g} if all run to their limits"
    return said + ("." if left is None else f"; {left:.4g} are left of the budget.")


@answers(api.ReadIntervention)
def read(tx: Tx, request: api.ReadIntervention) -> api.Intervention:
    """Read a page; return the token if the caller has read all pages."""
    workflow_row(tx, request.workflow_id, lock=True)
    row = _row_of_id(tx, request.workflow_id, request.intervention_id)
    _refuse_closed(row, tx.now)
    pages = pages_of(row["document"] or "")
    if request.page > len(pages):
        raise Invalid(f"page: plan {row['id']} has {len(pages)} pages", hint="page=1")
    if request.page > (row["pages_read"] or 0) + 1:
        raise Conflict(
            f"page: read page {(row['pages_read'] or 0) + 1} first: the token comes with the last one when all were read",
            hint="read the pages in order",
        )
    read_now = max(row["pages_read"] or 0, request.page)
    token = None
    token_hash = row["token_hash"]
    if request.page == len(pages):
        token = _new_token()
        token_hash = _hash(token)
    plan_rows.update(tx.db, row["id"], pages_read=read_now, token_hash=token_hash)
    return _intervention(row, token, document=pages[request.page - 1], is_whole=len(pages) == 1)


@answers(api.AskIntervention)
def ask(tx: Tx, request: api.AskIntervention) -> api.Intervention:
    """Record that the user is being asked."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    row = _holding(tx, workflow, request.token, request.action)
    if request.agreed is not None:
        _agreed(row, request.agreed, must_be_approved=request.must_be_approved)
        _check_budget(tx, row, request.max_retries, request.max_node_hours)
    if not request.again:
        if row["asked_at"] is not None:
            raise Conflict(
                "plan_token: the user was asked about this plan and did not agree: it cannot be applied", hint=_ANEW
            )
        _check_budget(tx, row, request.max_retries, request.max_node_hours)
        plan_rows.update(tx.db, row["id"], asked_at=tx.now)
    shown, is_whole = _first_of(row, request.most_characters)
    operations = loads(row["arguments"], {})["operations"]
    return _intervention(
        row, document=shown, is_whole=is_whole, code=None if is_whole else _code(row), operations=operations
    )


def _first_of(row: RowMapping, most: int) -> tuple[str, bool]:
    """Return what of a document fits between its lines, and whether it is all."""
    document: str = row["document"] or ""
    if len(document) <= most:
        return document, True
    lines = document.splitlines()
    marks = [at for at, line in enumerate(lines) if line.startswith("* ")]
    kinds = [ShownKind(0, lines[at:end]) for at, end in zip(marks, [*marks[1:], len(lines)], strict=True)]
    cut = ReviewDocument(lines[: marks[0]] if marks else lines, kinds, [])
    return cut.within(most, f"`torc plans show {row['id']}`")


def _code(row: RowMapping) -> str:
    """Return what stands at the end of a document where people read it."""
    return hashlib.sha256(f"code of {row['id']}: {row['digest']}".encode()).hexdigest()[:8]


@answers(api.DeclineIntervention)
def decline(tx: Tx, request: api.DeclineIntervention) -> api.Intervention:
    """End a plan."""
    workflow_row(tx, request.workflow_id, lock=True)
    if (request.token is None) == (request.intervention_id is None):
        raise Invalid("the token or the number of the plan is missing", hint="`torc plans list` shows the numbers")
    if request.token is not None:
        row = _row(tx, request.workflow_id, request.token)
    else:
        row = _row_of_id(tx, request.workflow_id, request.intervention_id or 0)
    _refuse_closed(row, tx.now)
    plan_rows.update(tx.db, row["id"], declined_at=tx.now)
    tx.event(
        request.workflow_id,
        "intervention_declined",
        action=row["action"],
        client=row["client"],
        reason=request.reason,
        intervention_id=row["id"],
    )
    return _intervention(_row_of_id(tx, request.workflow_id, row["id"]))


def _is_of_proposer(tx: Tx, row: RowMapping) -> bool:
    """Return whether the caller shows the token that proposed a plan, or one that was made with it."""
    if row["token_id"] is None or tx.caller is None or tx.caller.token_id is None:
        return False
    return token_rows.is_derived(tx.db, tx.dialect, tx.caller.token_id, row["token_id"])


@answers(api.ApproveIntervention)
def approve(tx: Tx, request: api.ApproveIntervention) -> api.Intervention:
    """Agree to a plan, as a person."""
    workflow_row(tx, request.workflow_id, lock=True)
    row = _row_of_id(tx, request.workflow_id, request.intervention_id)
    _refuse_closed(row, tx.now)
    if not tx.actor.startswith("user:"):
        raise Forbidden("only people can approve plans, not assistants", hint=f"run `torc approve {row['id']}`")
    if _is_of_proposer(tx, row):
        raise Forbidden(
            "neither the token that proposed this plan nor one that was made with it can approve it",
            hint="sign in with your password: torc login URL",
        )
    if request.digest != row["digest"]:
        raise Conflict(
            "the plan differs from the one that was shown", hint=f"look at it again: torc plans show {row['id']}"
        )
    plan_rows.update(tx.db, row["id"], approved_at=tx.now, approved_by=tx.actor)
    tx.event(
        request.workflow_id,
        "intervention_approved",
        action=row["action"],
        client=row["client"],
        intervention_id=row["id"],
    )
    return _intervention(_row_of_id(tx, request.workflow_id, row["id"]))


# -- apply ------------------------------------------------------------------------------------------------------


@answers(api.ApplyIntervention)
def apply(tx: Tx, request: api.ApplyIntervention) -> api.Intervention:
    """Apply a plan."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    row = _holding(tx, workflow, request.token, request.action)
    agreed = _agreed(row, request.agreed, must_be_approved=request.must_be_approved)
    plan = loads(row["arguments"], {})
    standing = loads(row["standing"], {})
    _check_budget(tx, row, request.max_retries, request.max_node_hours)
    prepared: PreparedSpecs = tx.prepared or PreparedSpecs()
    node = None if plan["node"] is None else Capacity.of_node(plan["node"])
    try:
        outcome = _perform(tx, workflow["id"], _with_files(plan, request), node, prepared.edited)
    except Conflict as error:
        raise Conflict(f"plan_token: {error.message}", hint=f"nothing was done; {_ANEW}") from None
    if digest_of(outcome.content(plan), [plan, workflow["directory"]]) != row["digest"]:
        raise _stale(tx, workflow, standing)
    reserved = row["node_hours"] * HOUR
    if plan["starts"] is None and workflow["charged_to"] is not None and reserved:
        plan_rows.reserve(tx.db, tx.dialect, workflow["charged_to"], reserved)
    limit = None if request.max_node_hours is None else request.max_node_hours * HOUR
    spending.charge_retries(tx, row["num_retries"], limit)
    plan_rows.update(
        tx.db,
        row["id"],
        applied_at=tx.now,
        reason=request.reason,
        agreed=agreed,
        client=request.client,
        reserved_seconds=reserved if plan["starts"] is not None else 0.0,
        used_seconds=0,
        charged_attempt=costs.last_attempt(tx.db, tx.dialect, workflow["id"]),
    )
    if plan["starts"] is not None:
        _charge(tx, workflow, row["id"])
    tx.event(
        workflow["id"],
        "intervention_applied",
        action=row["action"],
        client=request.client,
        reason=request.reason,
        agreed=agreed,
        approved_by=row["approved_by"],
        num_retries=row["num_retries"],
        node_hours=row["node_hours"],
        digest=row["digest"],
        intervention_id=row["id"],
    )
    return _intervention(_row(tx, workflow["id"], request.token), results=outcome.results)


def _agreed(row: RowMapping, agreed: api.Agreed, *, must_be_approved: bool) -> api.Agreed:
    """Return who agreed to a plan. Raises Forbidden or Conflict if that does not suffice."""
    if row["approved_at"] is not None and agreed == "token":
        return "approval"
    if must_be_approved and agreed == "token":
        raise Forbidden(
            f"plan {row['id']} waits for a person's approval and was not applied",
            hint=f"ask the user to review and approve it in a terminal: torc approve {row['id']}; then call again with the same token",
        )
    if agreed == "token" and row["asked_at"] is not None:
        raise Conflict(
            "plan_token: the user was asked about this plan and did not agree: it cannot be applied", hint=_ANEW
        )
    return agreed


def _with_files(plan: dict[str, Any], request: api.ApplyIntervention) -> dict[str, Any]:
    files = [fact.model_dump(mode="json") for fact in request.files]
    operations = [
        {**item, "fields": {**item["fields"], "files": files}} if item["kind"] == "ReinitializeWorkflow" else item
        for item in plan["operations"]
    ]
    return {**plan, "operations": operations}


def _charge(tx: Tx, workflow: RowMapping, plan: int) -> None:
    """Charge future attempts of a workflow to a plan; an earlier plan's reservation is carried over."""
    now = workflow_row(tx, workflow["id"])["charged_to"]
    if now is not None and now != plan:
        spending.settle(tx, workflow["id"], now)
        plan_rows.take_over(tx.db, tx.dialect, plan, now)
    spending_rows.charge_to(tx.db, tx.dialect, workflow["id"], plan)


def _check_budget(tx: Tx, row: RowMapping, max_retries: int | None, max_node_hours: float | None) -> None:
    """Refuse what would exceed the budget. Raises Conflict."""
    spending.lock(tx)
    found = spending.spent(tx)
    budget = Budget(max_retries, max_node_hours)
    over = []
    if row["num_retries"] and not budget.allows_retries(found.num_retries, row["num_retries"]):
        over.append(f"{found.num_retries} of {max_retries} retries were used")
    left = budget.node_hours_left((found.node_seconds + found.reserved_seconds) / HOUR)
    if left is not None and 0.0 < row["node_hours"] > left:
        over.append(
            f"it may take {row['node_hours']:.2f} node-hours, and {max(0.0, left):.2f} of {max_node_hours:g} are left"
        )
    if over:
        raise Conflict(
            f"this plan exceeds the budget of assistants: {'; '.join(over)}",
            hint="nothing was done; only a person can raise the budget ([mcp] max_retries, max_node_hours), or do it with torc",
        )


@answers(api.ReleaseIntervention)
def release(tx: Tx, request: api.ReleaseIntervention) -> api.Intervention:
    """Undo the record of a run that did not start."""
    workflow = workflow_row(tx, request.workflow_id, lock=True)
    row = _row(tx, workflow["id"], request.token)
    is_charged = row["applied_at"] is not None and workflow["charged_to"] == row["id"]
    if not is_charged or plan_rows.has_begun(tx.db, tx.dialect, workflow["id"], row["applied_at"]):
        raise Conflict("the run of this plan has started, so the plan stays applied", hint="wait_for_workflow")
    if spending.is_at_work(tx, workflow["id"]):  # what was begun before goes on, and is charged to this plan
        plan_rows.reserve(tx.db, tx.dialect, row["id"], -row["node_hours"] * HOUR)
    else:
        spending_rows.charge_to(tx.db, tx.dialect, workflow["id"], None)
        plan_rows.update(tx.db, row["id"], reserved_seconds=0)
        if not loads(row["arguments"], {})["operations"]:
            standing = _standing(tx, workflow)
            plan_rows.update(tx.db, row["id"], applied_at=None, asked_at=None, agreed=None, standing=standing)
    tx.event(workflow["id"], "intervention_released", action=row["action"], intervention_id=row["id"])
    return _intervention(_row(tx, workflow["id"], request.token))


# -- look -------------------------------------------------------------------------------------------------------


@answers(api.GetIntervention)
def get(tx: Tx, request: api.GetIntervention) -> api.Intervention:
    """Get a plan with its document."""
    workflow_row(tx, request.workflow_id)
    row = _row_of_id(tx, request.workflow_id, request.intervention_id)
    return _intervention(row, document=row["document"] or "", code=_code(row))


@answers(api.GetSpending)
def get_spending(tx: Tx, request: api.GetSpending) -> api.Spending:
    """Sum up what assistants have cost."""
    found = spending.spent(tx)
    return api.Spending(
        num_retries=found.num_retries,
        node_hours=found.node_seconds / HOUR,
        node_hours_reserved=found.reserved_seconds / HOUR,
        max_node_hours=None if found.limit_seconds is None else found.limit_seconds / HOUR,
    )


@answers(api.StartSpendingAnew)
def start_anew(tx: Tx, request: api.StartSpendingAnew) -> api.Spending:
    """Reset what assistants have spent."""
    if not tx.actor.startswith("user:"):
        raise Forbidden("only people can raise budgets, not assistants", hint="run `torc plans budget --reset`")
    spending.start_anew(tx)
    return get_spending(tx, api.GetSpending())


@answers(api.ListInterventions)
def list_interventions(tx: Tx, request: api.ListInterventions) -> Page[api.Intervention]:
    """List plans, newest first."""
    workflow_row(tx, request.workflow_id)
    key = decode_cursor(request.cursor)
    wanted = PlanFilter(request.applied_only, tx.now if request.open_only else None)
    before = key[0] if key else None
    rows = plan_rows.newest(tx.db, request.workflow_id, wanted, before=before, limit=request.limit + 1)
    items = [_intervention(row) for row in rows[: request.limit]]
    return Page(items=items, cursor=encode_cursor(items[-1].id) if len(rows) > request.limit else None)


@answers(api.ListOpenInterventions)
def list_open(tx: Tx, request: api.ListOpenInterventions) -> list[api.Intervention]:
    """List open plans of all workflows."""
    return [_intervention(row) for row in plan_rows.open_of_all(tx.db, tx.rights, tx.now, request.limit)]


@answers(api.FindInterventions)
def find(tx: Tx, request: api.FindInterventions) -> list[api.Intervention]:
    """Find a plan of any workflow."""
    found = plan_rows.find(tx.db, tx.rights, request.intervention_id or 0, request.token_sha256 or "")
    return [_intervention(row) for row in found]
