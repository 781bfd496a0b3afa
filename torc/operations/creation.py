"""Make workflows from specs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torc.api.workflows import CreateWorkflow, SourceFile, Workflow
from torc.errors import Forbidden, Invalid
from torc.operations.dispatch import PreparationBounds, TooHeavy, Tx, answers, prepares
from torc.operations.provenance import record_spec
from torc.operations.row_mapping import workflow_of, workflow_row
from torc.operations.sliced_storage import check_quota, loads
from torc.operations.transaction import ReservedIds
from torc.spec.compiler import compile_spec
from torc.spec.expansion.objects import ExpansionLimits
from torc.spec.expansion.paths import Place, place_of, placing
from torc.spec.formats import Format
from torc.spec.plan import Plan
from torc.store.plan_rows import WorkflowOwner, num_rows, plan_rows, take_blocks, workflow_rows
from torc.store.sliced_storage import Batch, insert


def compile_text(
    spec: str,
    format: Format | None,
    name: str,
    files: Sequence[SourceFile],
    *,
    place: Place = place_of,
    max_jobs: int | None = None,
    bounds: PreparationBounds = PreparationBounds(),
) -> Plan:
    """Compile the text of a spec, with the texts of the `@file`s sent along.

    Raises Invalid with every diagnostic, Forbidden for more jobs than the account may have, and TooHeavy.
    """
    texts = {file.path: file.text for file in files}
    wanted = ExpansionLimits().max_jobs if max_jobs is None else max_jobs
    limits = ExpansionLimits(max_jobs=wanted if bounds.max_jobs is None else min(wanted, max(1, bounds.max_jobs)))
    plan, found = compile_spec(spec, format=format, name=name, read=texts.__getitem__, limits=limits, place=place)
    if plan is None:
        errors = [problem for problem in found if problem.severity == "error"]
        if limits.max_jobs < wanted and any(problem.code == "too_many" for problem in errors):
            if bounds.is_first:
                raise TooHeavy
            raise Forbidden(
                f"{name} makes more than the {bounds.max_jobs:,} jobs, files or values that your account has room for here",
                hint="delete workflows that are no longer needed, or ask an administrator of the server",
            )
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Invalid(
            f"{name} is not valid: {errors[0].message}{more}",
            hint="`torc validate` shows every problem with its place",
            diagnostics=[problem.to_dict() for problem in found],
        )
    return plan


@prepares(CreateWorkflow, bounded=True)
def compile_request(request: CreateWorkflow, bounds: PreparationBounds = PreparationBounds()) -> Plan:
    """Compile a spec that is to be stored."""
    place = placing(request.directory, request.links)
    return compile_text(
        request.spec, request.format, request.name, request.files, place=place, max_jobs=request.max_jobs, bounds=bounds
    )


def _user(tx: Tx, request: CreateWorkflow, plan: Plan) -> str:
    """Return the owner of the new workflow. Raises Forbidden for anybody but the caller."""
    named = plan.user or request.user
    if tx.rights is not None and not tx.rights.sees_all and named not in {None, tx.rights.user}:
        raise Forbidden(
            f"the spec says that the workflow belongs to `{named}`, and you are `{tx.rights.user}`",
            hint="leave out `user`: what you create is yours",
        )
    if named is not None:
        return named
    return tx.rights.user if tx.rights is not None else tx.actor.partition(":")[2] or tx.actor


@dataclass(frozen=True, slots=True)
class PlanLoad:
    """A plan that is to be stored."""

    request: CreateWorkflow
    plan: Plan
    is_dry: bool = False

    @property
    def num_rows(self) -> int:
        """About how many rows it has."""
        return num_rows(self.plan)

    @property
    def num_jobs(self) -> int:
        """How many jobs it has."""
        return len(self.plan.jobs)

    def user(self, tx: Tx) -> str:
        """To whom it is to belong. Raises Forbidden."""
        return _user(tx, self.request, self.plan)

    def take_ids(self, tx: Tx) -> ReservedIds:
        """Take the ids of all its rows."""
        first = take_blocks(tx.db, self.plan)
        return ReservedIds(first.workflow, first)

    def batches(self, ticket: ReservedIds) -> Iterator[Batch]:
        """Its rows, but for that of the workflow itself and the counts of its jobs."""
        return plan_rows(self.plan, ticket.ids)

    def settle(self, tx: Tx, ticket: ReservedIds) -> None:
        """Do nothing: the rows are complete."""

    def verify(self, tx: Tx, ticket: ReservedIds) -> None:
        """Do nothing: a plan is always valid."""


@loads(CreateWorkflow)
def plan_load(request: CreateWorkflow, prepared: Plan) -> PlanLoad:
    """What is stored of a plan."""
    return PlanLoad(request, prepared)


@answers(CreateWorkflow)
def create_workflow(tx: Tx, request: CreateWorkflow) -> Workflow:
    """Store what was compiled, or the rest of it."""
    plan: Plan = tx.prepared
    load = PlanLoad(request, plan)
    owner = WorkflowOwner(load.user(tx), request.directory, tx.now)
    ticket = tx.ticket
    if ticket is None:
        check_quota(tx, owner.user, load.num_jobs)
        ticket = load.take_ids(tx)
    insert(tx.db, tx.dialect, workflow_rows(plan, owner, ticket.ids))
    if not ticket.is_written:
        insert(tx.db, tx.dialect, load.batches(ticket))
    workflow_id = ticket.workflow_id
    record_spec(tx, workflow_id, request.spec, request.name, request.format, request.files)
    tx.event(workflow_id, "workflow_created", name=plan.name, num_jobs=len(plan.jobs))
    return workflow_of(tx, workflow_row(tx, workflow_id))
