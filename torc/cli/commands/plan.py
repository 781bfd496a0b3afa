"""`torc plan`: what a workflow will take, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torc.cli import rendering
from torc.cli.connection import torc, workflow_id
from torc.cli.session import SESSION
from torc.cli.spec_files import looks_like_spec
from torc.cli.terminal import print_document
from torc.client import workloads
from torc.errors import Invalid
from torc.planning.analysis import WorkflowAnalysis, analyze
from torc.units import human_bytes, human_duration
from torc.workflow.graph_export import as_json, dot, draw, mermaid

_MOST_PATH = 12
GRAPHS = ("mermaid", "dot", "json")


def plan(
    spec: Annotated[str, typer.Argument(metavar="SPEC_OR_ID", help="A spec, or the id or name of a stored workflow.")],
    graph: Annotated[str | None, typer.Option("--graph", help="Print the graph instead: mermaid, dot or json.")] = None,
    learn: Annotated[
        bool, typer.Option("--learn", help="Show instead what to request, from what similar jobs have used.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With --learn: write the spec with these requests to this file."),
    ] = None,
    margin: Annotated[float, typer.Option("--margin", min=1.0, help="With --learn: factor on what was used.")] = 1.3,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Show the stages, critical path, resource peaks and expected makespan on this machine.

    Example: torc plan sweep.yaml --graph mermaid
    """
    if learn:
        from torc.cli.estimates import learn as show_learnt

        if not looks_like_spec(spec):
            raise Invalid(
                "--learn is for a spec", hint="`torc workflows correct-resources` lowers what a stored one asks for"
            )
        show_learnt(spec, output, margin, force=force)
        return
    if output is not None:
        raise Invalid("--output needs --learn", hint="torc plan sweep.yaml --learn -o learnt.yaml")
    show_plan(spec, graph)


def show_plan(spec: str, graph: str | None) -> None:
    """Print the plan of a spec or of a stored workflow."""
    if graph is not None and graph not in GRAPHS:
        raise Invalid(f"there is no graph format `{graph}`", hint=f"formats are {', '.join(GRAPHS)}")
    name, workload, names, states, classes = _of_spec(spec) if looks_like_spec(spec) else _of_stored(spec)
    if graph is not None:
        drawing = draw(workload.graph, names)
        made = {"mermaid": mermaid(drawing), "dot": dot(drawing, name), "json": as_json(drawing, names)}
        print_document(made[graph] + "\n")
        return
    from torc.runner.hardware import node

    here, _ = node()
    analysis = analyze(workload, [here], states=states)
    if SESSION.json:
        rendering.show_json(_as_json(name, analysis, names, classes))
        return
    _print(name, analysis, names, classes, here)


def _of_spec(spec: str) -> Any:
    from torc.cli.commands.specs import compiled

    return workloads.of_plan(compiled(spec)[0])


def _of_stored(named: str) -> Any:
    from torc.api.workflows import GetGraph

    with torc(create=False) as opened:
        return workloads.of_stored(opened.send(GetGraph(workflow_id=workflow_id(opened, named))))


def _print(name: str, analysis: WorkflowAnalysis, names: list[str], classes: list[str], here: Any) -> None:
    print(f"{rendering.bold(name)}: {analysis.num_jobs:,} jobs in {len(analysis.stages)} stages")
    if analysis.num_finished:
        print(f"  {analysis.num_finished:,} have finished")
    rows = [
        [
            str(stage.number + 1),
            f"{stage.num_jobs:,}",
            ", ".join(f"{count:,} {classes[number]}" for number, count in stage.classes[:3])
            + (" ..." if len(stage.classes) > 3 else ""),
            str(stage.use.num_cpus),
            human_bytes(stage.use.memory_bytes),
            str(stage.use.num_gpus),
            human_duration(stage.longest_seconds),
        ]
        for stage in analysis.stages
    ]
    rendering.table(["stage", "jobs", "classes", "CPUs at once", "memory at once", "GPUs", "longest"], rows)
    path = [names[job] for job in analysis.critical_path.jobs]
    shown = (
        path
        if len(path) <= _MOST_PATH
        else [*path[: _MOST_PATH - 1], f"... {len(path) - _MOST_PATH} more ...", path[-1]]
    )
    print(f"\ncritical path ({human_duration(int(analysis.critical_path.seconds))}): {' -> '.join(shown)}")
    peak = analysis.peak
    print(
        f"peak when all that is ready runs: {peak.num_jobs:,} jobs, {peak.num_cpus:,} CPUs, "
        f"{human_bytes(peak.memory_bytes)}, {peak.num_gpus} GPUs"
    )
    print(
        f"work: {analysis.cpu_seconds / 3600:,.1f} CPU hours"
        + (f", {analysis.gpu_seconds / 3600:,.1f} GPU hours" if analysis.gpu_seconds else "")
    )
    print(
        "makespan here ("
        + f"{here.num_cpus} CPUs, {human_bytes(here.memory_bytes)}, {here.num_gpus} GPUs): "
        + _makespan(analysis)
    )
    for misfit in analysis.misfits:
        print(f"cannot run here: {misfit.num_jobs:,} jobs of class {classes[misfit.request]}: {misfit.reason}")
    print("runtimes are the limits that the jobs ask for; real ones are often shorter")


def _makespan(analysis: WorkflowAnalysis) -> str:
    if analysis.makespan_seconds is not None:
        return f"at most about {human_duration(int(analysis.makespan_seconds))}"
    return f"at least {human_duration(int(analysis.lower_bound_seconds))}"


def _as_json(name: str, analysis: WorkflowAnalysis, names: list[str], classes: list[str]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "name": name,
        "num_jobs": analysis.num_jobs,
        "num_finished": analysis.num_finished,
        "stages": [
            {
                "number": stage.number + 1,
                "num_jobs": stage.num_jobs,
                "classes": {classes[number]: count for number, count in stage.classes},
                "at_once": asdict(stage.use),
                "longest_seconds": stage.longest_seconds,
            }
            for stage in analysis.stages
        ],
        "critical_path": {
            "seconds": analysis.critical_path.seconds,
            "jobs": [names[job] for job in analysis.critical_path.jobs],
        },
        "peak": asdict(analysis.peak),
        "cpu_seconds": analysis.cpu_seconds,
        "gpu_seconds": analysis.gpu_seconds,
        "lower_bound_seconds": analysis.lower_bound_seconds,
        "makespan_seconds": analysis.makespan_seconds,
        "misfits": [
            {"class": classes[misfit.request], "num_jobs": misfit.num_jobs, "reason": misfit.reason}
            for misfit in analysis.misfits
        ],
    }


__all__ = ["Path", "plan", "show_plan"]
