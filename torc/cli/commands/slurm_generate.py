"""`torc slurm generate`: a spec with the plan of its allocations written into it, to look at and to change by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torc.cli import allocation_plan, rendering
from torc.cli.options.allocation_plans import Account, Planning, options_of
from torc.cli.options.groups import grouped
from torc.cli.session import SESSION
from torc.cli.spec_files import read_spec
from torc.cli.terminal import print_document
from torc.errors import Conflict, Invalid
from torc.spec.formats import SUFFIXES


@grouped
def generate(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help=f"A spec ({SUFFIXES}), or - for standard input.")],
    account: Account = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write; its suffix selects the format. Default: standard output."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    planning: Planning = Planning(),
) -> None:
    """Plan allocations, and write them into the spec as Slurm schedulers and actions.

    `torc submit` uses them as they are. They replace the schedulers and schedule_nodes actions of the spec. The plan
    is shown on standard error.

    Example: torc slurm generate sweep.yaml --account climate --profile kestrel -o sweep_kestrel.yaml
    """
    _generate(spec, output, force, planning, planning.given(account))


def _generate(spec: str, output: Path | None, force: bool, planning: Planning, given: dict[str, Any]) -> None:
    from torc.cli.commands.specs import compiled
    from torc.cli.submission import demand_of
    from torc.files import write_whole
    from torc.planning.demand import due_jobs
    from torc.schedulers.allocation_planning import plan
    from torc.schedulers.plan_spec import with_plan
    from torc.schedulers.slurm.backend import SlurmBackend
    from torc.spec.compiler import parse_spec
    from torc.spec.formats import format_to_write
    from torc.spec.writer import write_spec

    if spec == "-":
        raise Invalid("`torc slurm generate` reads a file", hint="save the spec, and name it")
    form = format_to_write(output or spec)
    if output is not None and output.exists() and not force:
        raise Conflict(f"{output} already exists", hint="use --force to overwrite it")
    scheduler = SlurmBackend()
    wanted = options_of(given, scheduler)
    cluster, source = planning.cluster(scheduler)
    compiled(spec)
    text, kind, name = read_spec(spec)
    parsed, _ = parse_spec(text, format=kind, name=name)
    assert parsed is not None, "it was compiled"
    parsed = _without_schedulers(parsed)
    expanded = _expanded(write_spec(parsed, "json"), name)
    demand = demand_of(expanded, due_jobs(None, len(expanded.jobs)))
    made = plan(demand, cluster, wanted)
    allocation_plan.check(made)
    written, notes = with_plan(parsed, expanded, made, scheduler, cluster, wanted)
    for note in notes:
        rendering.note(f"note: {note}")
    if output is None:
        print_document(write_spec(written, form))
        return
    write_whole(output, write_spec(written, form).encode())
    if SESSION.json:
        rendering.show_json({**allocation_plan.as_json(made, cluster, source, demand), "path": str(output)})
    else:
        allocation_plan.show(made, cluster, source, demand)
        rendering.note(f"wrote {output}")


def _without_schedulers(spec: Any) -> Any:
    """Take out what a spec says of allocations: it is planned anew."""
    from torc.spec.model import WorkflowSpec

    data = spec.model_dump(mode="json", exclude_unset=True)
    data.pop("slurm_schedulers", None)
    data["actions"] = [action for action in data.get("actions", []) if action["action_type"] != "schedule_nodes"]
    for job in data["jobs"]:
        job.pop("scheduler", None)
    if not data["actions"]:
        del data["actions"]
    return WorkflowSpec.model_validate(data)


def _expanded(text: str, name: str) -> Any:
    """Return what a spec stands for. The files that it refers to are found as those of the original."""
    from torc.cli.commands.specs import reader_beside
    from torc.spec.compiler import compile_spec

    made, found = compile_spec(text, format="json", name=name, read=reader_beside(name))
    if made is None:
        raise Invalid(f"{name} is not valid without its schedulers", rendered=[problem.render() for problem in found])
    return made


COMMANDS = {"generate": generate}
