"""Tools about specs: validate, save, store, convert, compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mcp_server import file_access, spec_input
from mcp_server.confirmation import whole
from mcp_server.context import context, find_workflow, require_writes
from mcp_server.formatting import Quoted, Reply, plain, quoted
from mcp_server.registry import tool
from mcp_server.spec_input import Spec, SpecPath, SpecProblem, SpecSource
from torc.api.workflows import CreateWorkflow
from torc.errors import Invalid
from torc.runner.symbolic_links import links_of
from torc.spec.compiler import parse_spec
from torc.spec.executable_content import content_of_plan, planned_jobs, templates_of
from torc.spec.formats import ANY_SUFFIX, Format, format_of
from torc.spec.plan import Plan
from torc.spec.writer import write_spec
from torc.units import whole_number
from torc.workflow.executable_content import document_of, visible

_MOST_CHARACTERS = 5_000
_MOST_CHANGES = 25


class SpecReport(Reply):
    """The result of validating, saving or storing a spec."""

    valid: bool
    problems: list[SpecProblem] | None = None
    num_problems: int = 0
    name: str | None = None
    num_jobs: int | None = None
    shown: Quoted | None = Field(None, description="everything that would run: show it to the user")
    needs_files: list[str] | None = Field(None, description="input files that must exist before it runs")
    saved: str | None = Field(None, description="the file that was written")
    workflow_id: int | None = Field(None, description="of the stored workflow")
    next: str


@tool("Create a workflow", "destroys", idempotent=False)
def create_workflow(
    action: Annotated[
        Literal["validate", "save", "create"],
        Field(description="validate: only check; save: write the file save_as; create: store it, ready to run"),
    ],
    spec: Spec = None,
    path: SpecPath = None,
    save_as: Annotated[str | None, Field(description="file to write, below the server's directory")] = None,
    directory: Annotated[
        str | None,
        Field(description="where its jobs run and its paths are relative to; default: the server's directory"),
    ] = None,
    overwrite: bool = False,
) -> SpecReport:
    """Check a spec, save it as a file, or store it as a workflow. Nothing runs and nothing is spent. Read torc://guide/spec
    first; validate until `valid`, show `shown` to the user, then create. Next: get_execution_plan, run_workflow."""
    source = spec_input.source_of(spec, path)
    plan, report = _report(source)
    if plan is None or action == "validate":
        return report
    require_writes()
    if action == "save":
        written = _save(source, plan, save_as, overwrite=overwrite)
        return report.model_copy(
            update={"saved": written, "next": f"create_workflow(action='create', path={written!r})"}
        )
    here = context()
    where = str(file_access.folder(directory or ".")) if here.is_here else str(directory or "/")
    links = links_of([file.path for file in plan.files], where) if here.is_here else {}
    stored = here.torc.send(
        CreateWorkflow(
            spec=source.text,
            format=source.format,
            name=source.name,
            files=spec_input.source_files(source),
            directory=where,
            user=here.user,
            links=links,
        )
    )
    following = "get_execution_plan shows what it will need; run_workflow or submit_workflow runs it"
    return report.model_copy(update={"workflow_id": stored.id, "next": following})


@tool("Validate a spec")
def validate_spec(spec: Spec = None, path: SpecPath = None) -> SpecReport:
    """Check a spec: every problem with its line, field and fix. Costs nothing; the same as create_workflow with validate."""
    return _report(spec_input.source_of(spec, path))[1]


def _report(source: SpecSource) -> tuple[Plan | None, SpecReport]:
    plan, found = spec_input.compiled(source)
    told = spec_input.problems(found)
    if plan is None:
        report = SpecReport(
            valid=False,
            problems=told,
            num_problems=len(found),
            next="correct the problems and validate again; nothing was stored",
        )
        return None, report
    needed = [plain(file.path, 160) for file in plan.files if file.producer is None]
    report = SpecReport(
        valid=True,
        problems=told or None,
        num_problems=len(found),
        name=plain(plan.name, 80),
        num_jobs=len(plan.jobs),
        shown=shown(source, plan),
        needs_files=needed[:20] or None,
        next="show what would run to the user; create_workflow(action='create') stores it",
    )
    return plan, report


def shown(source: SpecSource, plan: Plan) -> Quoted:
    """Show what would run: all of it, or the rare items and the number of other kinds."""
    content = content_of_plan(plan)
    parsed, _ = parse_spec(source.text, format=source.format, name=source.name)
    names = {str(at): f"`{job.name}`" for at, job in enumerate(parsed.jobs)} if parsed is not None else {}
    templates = templates_of(content.jobs, planned_jobs(plan), names)
    document = document_of(f"Workflow {visible(plan.name)}", content, templates)
    text, _ = document.within(_MOST_CHARACTERS, "the plan that run_workflow makes of the stored workflow")
    return whole(text, "the spec")


def _save(source: SpecSource, plan: Plan, save_as: str | None, *, overwrite: bool) -> str:
    """Write a spec to a file atomically. Raises Invalid, Conflict or Forbidden."""
    name = save_as or f"{''.join(c if c.isalnum() or c in '-_' else '_' for c in plan.name)}.yaml"
    form = format_of(name)
    if form is None:
        raise Invalid(f"save_as: {plain(name)} is not the name of a spec", hint=f"end it in {ANY_SUFFIX}")
    parsed, _ = parse_spec(source.text, format=source.format, name=source.name)
    assert parsed is not None
    keeps = source.format is None and form is Format.YAML and not source.text.lstrip().startswith("{")
    text = source.text if keeps else write_spec(parsed, form)
    return file_access.write(name, text, overwrite=overwrite, is_ours=lambda old: _is_spec(SpecSource(old, form, name)))


def _is_spec(source: SpecSource) -> bool:
    return spec_input.compiled(source)[0] is not None


class Converted(Reply):
    """A spec in another format."""

    format: str
    spec: Quoted | None = None
    saved: str | None = None


@tool("Convert a spec", "adds", idempotent=True)
def convert_spec(
    to: Format,
    spec: Spec = None,
    path: SpecPath = None,
    save_as: Annotated[str | None, Field(description="write it to this file instead of returning it")] = None,
) -> Converted:
    """Turn a spec into another format without losing meaning."""
    source = spec_input.source_of(spec, path)
    plan = spec_input.checked(source)
    parsed, _ = parse_spec(source.text, format=source.format, name=source.name)
    assert parsed is not None
    if save_as is not None:
        require_writes()
        if format_of(save_as) is not to:
            raise Invalid(
                f"save_as: {plain(save_as)} is not the name of a {to} file", hint=f"end it in {to.suffixes[0]}"
            )
        return Converted(format=to, saved=_save(source, plan, save_as, overwrite=False))
    return Converted(format=to, spec=quoted(write_spec(parsed, to), "the spec", 12_000, keep="start"))


class Difference(Reply):
    """How two specs or workflows differ. Jobs are matched by name after expansion."""

    same: bool
    added_jobs: list[str]
    removed_jobs: list[str]
    changed_jobs: list[str] = Field(description="name: field old -> new")
    other: list[str] = Field(description="differences of the workflow and its classes")
    num_changed: int


@tool("Compare two specs")
def diff_specs(
    first: Annotated[
        str | int | dict[str, Any],
        Field(description="a workflow id, a spec file below the server's directory, its text, or an object"),
    ],
    second: Annotated[str | int | dict[str, Any], Field(description="likewise")],
) -> Difference:
    """Compare two specs or stored workflows job by job, as they are after expansion. Use it before reinitialize_workflow, or
    to say what an edit changed."""
    before, after = _plan_of(first), _plan_of(second)
    old, new = _jobs_of(before), _jobs_of(after)
    added, removed = [n for n in new if n not in old], [n for n in old if n not in new]
    changed = [
        (name, field) for name in old if name in new for field in old[name] if old[name][field] != new[name][field]
    ]
    shown = [
        f"{plain(name, 60)}: {plain(field, 30)} {plain(str(old[name][field]), 120)} -> {plain(str(new[name][field]), 120)}"
        for name, field in changed[:_MOST_CHANGES]
    ]
    others = _other_differences(before, after)
    return Difference(
        same=not (added or removed or changed or others),
        added_jobs=_some(added),
        removed_jobs=_some(removed),
        changed_jobs=shown,
        other=others[:20],
        num_changed=len(changed),
    )


def _plan_of(named: str | int | dict[str, Any]) -> Plan:
    if isinstance(named, dict):
        return spec_input.checked(spec_input.source_of(named, None))
    if isinstance(named, int) or whole_number(named) is not None:
        return spec_input.stored_plan(find_workflow(named).id)
    is_path = "\n" not in named and format_of(named) is not None
    return spec_input.checked(spec_input.source_of(None, named) if is_path else spec_input.source_of(named, None))


def _jobs_of(plan: Plan) -> dict[str, dict[str, object]]:
    files, user_data = plan.files, plan.user_data
    waited_for = [
        sorted(plan.jobs[other].name for other in gate) for gate in plan.gates
    ]  # once for all jobs behind a gate
    found: dict[str, dict[str, object]] = {}
    for job in plan.jobs:
        inputs = plan.input_sets[job.input_set] if job.input_set is not None else None
        request = plan.requirements[job.requirement].request
        found[job.name] = {
            "command": job.command.replace("\x00", ""),
            "priority": job.priority,
            "env": dict(job.env),
            "depends_on": waited_for[job.gate] if job.gate is not None else [],
            "resources": request._asdict() if hasattr(request, "_asdict") else request,
            "input_files": [files[at].path for at in inputs.files] if inputs else [],
            "output_files": [files[at].path for at in job.output_files],
            "output_user_data": [user_data[at].name for at in job.output_user_data],
            "invocation_script": job.invocation_script,
            "cancel_on_blocking_job_failure": job.cancel_on_blocking_job_failure,
            "failure_handler": None if job.failure_handler is None else plan.failure_handlers[job.failure_handler].name,
        }
    return found


def _other_differences(before: Plan, after: Plan) -> list[str]:
    found = [
        f"{field}: {plain(str(getattr(before, field)), 120)} -> {plain(str(getattr(after, field)), 120)}"
        for field in ("name", "description", "env", "settings", "metadata")
        if getattr(before, field) != getattr(after, field)
    ]
    for kind in ("failure_handlers", "schedulers"):
        old = {item.name: dict(item.fields) for item in getattr(before, kind)}
        new = {item.name: dict(item.fields) for item in getattr(after, kind)}
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                found.append(
                    f"{kind} {plain(name, 60)}: {plain(str(old.get(name)), 120)} -> {plain(str(new.get(name)), 120)}"
                )
    return found


def _some(names: Sequence[str]) -> list[str]:
    shown = [plain(name, 80) for name in names[:_MOST_CHANGES]]
    return [*shown, f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else shown
