"""Make workflows from specs."""

from __future__ import annotations

from collections.abc import Sequence

from torc.api.workflows import CreateWorkflow, SourceFile, SpecFormat, Workflow
from torc.errors import Forbidden, Invalid
from torc.operations.dispatch import Tx, answers, prepares
from torc.operations.provenance import record_spec
from torc.operations.rows import workflow_of, workflow_row
from torc.spec.compile import Limits, compile_spec
from torc.spec.paths import Place, place_of, placing
from torc.spec.plan import Plan
from torc.store.insert import Owner, insert_plan


def compile_text(
    spec: str,
    format: SpecFormat | None,
    name: str,
    files: Sequence[SourceFile],
    *,
    place: Place = place_of,
    limits: Limits = Limits(),
) -> Plan:
    """Compile the text of a spec, with the texts of the `@file`s sent along. Raises Invalid with every diagnostic."""
    texts = {file.path: file.text for file in files}
    plan, found = compile_spec(spec, format=format, name=name, read=texts.__getitem__, limits=limits, place=place)
    if plan is None:
        errors = [problem for problem in found if problem.severity == "error"]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Invalid(
            f"{name} is not valid: {errors[0].message}{more}",
            hint="`torc validate` shows every problem with its place",
            diagnostics=[problem.to_dict() for problem in found],
        )
    return plan


@prepares(CreateWorkflow)
def compile_request(request: CreateWorkflow) -> Plan:
    """Compile a spec that is to be stored."""
    limits = Limits(max_jobs=request.max_jobs)
    place = placing(request.directory, request.links)
    return compile_text(request.spec, request.format, request.name, request.files, place=place, limits=limits)


def _user(tx: Tx, request: CreateWorkflow, plan: Plan) -> str:
    """Give to whom the workflow is to belong. Raises Forbidden for somebody else than the caller."""
    named = plan.user or request.user
    if tx.rights is not None and not tx.rights.sees_all and named not in {None, tx.rights.user}:
        raise Forbidden(
            f"the spec says that the workflow belongs to `{named}`, and you are `{tx.rights.user}`",
            hint="leave out `user`: what you create is yours",
        )
    if named is not None:
        return named
    return tx.rights.user if tx.rights is not None else tx.actor.partition(":")[2] or tx.actor


@answers(CreateWorkflow)
def create_workflow(tx: Tx, request: CreateWorkflow) -> Workflow:
    """Store what was compiled."""
    plan: Plan = tx.prepared
    owner = Owner(_user(tx, request, plan), request.directory, tx.now)
    workflow_id = insert_plan(tx.db, tx.dialect, plan, owner)
    record_spec(tx, workflow_id, request)
    tx.event(workflow_id, "workflow_created", name=plan.name, num_jobs=len(plan.jobs))
    return workflow_of(tx, workflow_row(tx, workflow_id))
