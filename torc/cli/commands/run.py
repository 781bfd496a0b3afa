"""`torc run` and `torc worker`: run workflows on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.connection import ServerTorc, database_of, server_of, torc, workflow_id
from torc.cli.options.amounts import memory_bytes, seconds
from torc.cli.session import SESSION
from torc.cli.spec_files import looks_like_spec
from torc.cli.store_wait import DEFAULT_SECONDS, ServerWait, torc_when_it_answers, wait_seconds
from torc.errors import Invalid
from torc.workflow.exit_codes import signal_name, signal_of
from torc.workflow.states import State

MaxJobs = Annotated[
    int | None,
    typer.Option("--max-parallel-jobs", "-j", min=1, help="Run this many jobs at once, whatever they request."),
]
NumCpus = Annotated[int | None, typer.Option("--num-cpus", min=1, help="CPUs to use; default: all.")]
Memory = Annotated[str | None, typer.Option("--memory", help="Memory to use, such as 8g; default: all.")]
NumGpus = Annotated[int | None, typer.Option("--num-gpus", min=0, help="GPUs to use; default: all.")]
OutputDir = Annotated[
    Path | None, typer.Option("--output-dir", "-o", help="Folder for logs; default: torc_output.", show_default=False)
]
TimeLimit = Annotated[str | None, typer.Option("--time-limit", help="Stop after this time, such as 30m or PT8H.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label of this runner; repeatable.")
]
Directory = Annotated[
    Path | None, typer.Option("--directory", help="Run jobs in this directory instead of the workflow's.")
]
_MOST_LEFT = 5
_MOST_BLOCKING = 3
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only the summary.")]


def run(  # noqa: PLR0913, PLR0917 - options of a command
    spec: Annotated[str, typer.Argument(metavar="SPEC_OR_ID", help="A spec, or the id or name of a stored workflow.")],
    max_parallel_jobs: MaxJobs = None,
    num_cpus: NumCpus = None,
    memory: Memory = None,
    num_gpus: NumGpus = None,
    output_dir: OutputDir = None,
    time_limit: TimeLimit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do not run it.")] = False,
    fail_fast: Annotated[
        bool | None,
        typer.Option(
            "--fail-fast/--keep-going", help="Stop at the first failed job, or run every job that can run (default)."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run a spec here, or resume a stored workflow. Exit code 1 if jobs failed.

    Example: torc run sweep.yaml --num-cpus 4 --memory 8g
    """
    if dry_run:
        from torc.cli.commands.plan import show_plan

        show_plan(spec, None)
        return
    options = _options(max_parallel_jobs, num_cpus, memory, num_gpus, output_dir, time_limit, fail_fast, "local")
    if looks_like_spec(spec):
        from torc.cli.commands.specs import checked_request

        request = checked_request(spec)
        with torc() as opened:
            number = opened.send(request).id
            raise typer.Exit(_run(opened, number, options, quiet))
    with torc(create=False) as opened:
        raise typer.Exit(_run(opened, workflow_id(opened, spec), options, quiet))


def worker(  # noqa: PLR0913, PLR0917
    workflow: Annotated[str, typer.Argument(help="Id or name of the workflow.")],
    max_parallel_jobs: MaxJobs = None,
    num_cpus: NumCpus = None,
    memory: Memory = None,
    num_gpus: NumGpus = None,
    output_dir: OutputDir = None,
    time_limit: TimeLimit = None,
    label: Labels = None,
    directory: Directory = None,
    over_ssh: Annotated[bool, typer.Option("--over-ssh", help="Set by `torc remote run`.")] = False,
    server_wait: ServerWait = None,
    quiet: Quiet = False,
) -> None:
    """Run an additional runner for a stored workflow.

    Example: torc worker 12 --num-cpus 2
    """
    from dataclasses import replace

    wait = wait_seconds(server_wait, default=DEFAULT_SECONDS if over_ssh else 0.0)
    options = replace(
        _options(max_parallel_jobs, num_cpus, memory, num_gpus, output_dir, time_limit, False, "worker"),
        kind="ssh" if over_ssh else "worker",
        labels=pairs(label or (), "--label"),
        directory=None if directory is None else str(directory.absolute()),
        server_wait_seconds=wait,
    )
    with torc_when_it_answers(workflow, wait) as (opened, number):
        raise typer.Exit(_run(opened, number, options, quiet))


def _options(  # noqa: PLR0913, PLR0917
    max_parallel_jobs: int | None,
    num_cpus: int | None,
    memory: str | None,
    num_gpus: int | None,
    output_dir: Path | None,
    time_limit: str | None,
    fail_fast: bool | None,
    kind: Any,
) -> Any:
    from torc.runner.local_run import RunOptions

    settings = SESSION.settings
    return RunOptions(
        output_dir=output_folder(output_dir),
        max_parallel_jobs=max_parallel_jobs or settings.number("run.max_parallel_jobs"),
        num_cpus=num_cpus or settings.number("run.num_cpus"),
        memory_bytes=memory_bytes(memory or settings.text("run.memory"), "--memory"),
        num_gpus=settings.number("run.num_gpus") if num_gpus is None else num_gpus,
        time_limit_seconds=seconds(time_limit or settings.text("run.time_limit"), "--time-limit"),
        fail_fast=settings.is_on("run.fail_fast") if fail_fast is None else fail_fast,
        kind=kind,
    )


def pairs(named: Iterable[str], option: str) -> dict[str, str]:
    """Read NAME=VALUE of an option that may be repeated. Raises Invalid."""
    found = [text.partition("=") for text in named]
    for name, equals, _ in found:
        if not name or not equals:
            raise Invalid(f"{option}: `{name}{equals}` is no NAME=VALUE", hint=f"write {option} rack=7")
    return {name: value for name, _, value in found}


def output_folder(named: Path | None = None) -> Path:
    """Return the folder for logs: as named, else as set."""
    return named or Path(SESSION.settings.text("run.output_dir") or "torc_output")


def run_stored(opened: Torc, number: int, output_dir: Path | None = None) -> int:
    """Run a stored workflow here, as the settings say; returns the exit code."""
    return _run(opened, number, _options(None, None, None, None, output_dir, None, None, "local"), False)


def options_for(opened: Torc, output_dir: Path | None = None) -> Any:
    """Return how to run here, as the settings say, for whoever runs without a command of its own."""
    from dataclasses import replace

    options = _options(None, None, None, None, output_dir, None, None, "local")
    return replace(options, store_variables=store_variables(opened))


def _run(opened: Torc, number: int, options: Any, quiet: bool) -> int:
    from dataclasses import replace

    from torc.api.workflows import GetWorkflow
    from torc.cli.live_display import display
    from torc.cli.periodic_backups import interval_of, kept
    from torc.runner import shell
    from torc.runner.local_run import run_here
    from torc.runner.store_wait import PatientTorc

    if not shell.is_bash():
        rendering.note(f"note: this machine has no bash; commands run under {shell.SH}")
    options = replace(options, store_variables=store_variables(opened))
    workflow = PatientTorc(opened, options.server_wait_seconds).send(GetWorkflow(workflow_id=number))
    path = getattr(database_of(opened), "path", None)  # a server makes its own copies
    every = interval_of() if path is not None and options.kind == "local" else None
    with (
        kept(str(path), every),
        display(opened, workflow, quiet=quiet or SESSION.json or SESSION.settings.is_on("run.quiet")) as on_update,
    ):
        outcome = run_here(opened, number, options, on_update)
    if outcome.dead_runners:
        rendering.note(f"{outcome.dead_runners} runner(s) of this machine had died; their jobs were taken up again")
    code = summarize(opened, number, options.output_dir, stopped=outcome.was_stopped)
    plot_where_wanted(opened, workflow, options.output_dir)
    if outcome.is_stuck and outcome.runner_id is not None and not SESSION.json:
        tell_what_is_left(opened, number, outcome.runner_id)
    return code


def plot_where_wanted(opened: Torc, workflow: Any, folder: Path) -> None:
    """Plot a run that has ended where its spec asks for it."""
    if ((workflow.settings or {}).get("resource_monitor") or {}).get("generate_plots"):
        from torc.cli.commands.plots import plot_at_the_end

        plot_at_the_end(opened, workflow.id, folder)


def store_variables(opened: Torc) -> dict[str, str]:
    """Return the variables by which another process of this user finds the same."""
    server, store = server_of(opened), database_of(opened)
    if server is not None:
        found = {**server_variables(server), "TORC_TOKEN_FILE": server.token_file, "TORC_CA_FILE": server.ca_file}
        return {
            name: str(Path(value).absolute()) if name.endswith("_FILE") else value
            for name, value in found.items()
            if value
        }
    place = str(store.path) if store.path is not None else store.engine.url.render_as_string(hide_password=False)
    return {"TORC_DB": place}


def server_variables(server: ServerTorc) -> dict[str, str]:
    """Return the variables with which processes elsewhere find the same server, even after it restarts at another address."""
    file = {"TORC_SERVER_FILE": server.server_file} if server.server_file else {}
    user = SESSION.settings.text("server_user")
    return {"TORC_API_URL": server.url, **file, **({"TORC_SERVER_USER": user} if user else {})}


def tell_what_is_left(opened: Torc, number: int, runner_id: int) -> None:
    """Say why ready jobs were left: no budget is left, this runner is too small, or not one of those that they are for."""
    from torc.api.data import GetRequirement
    from torc.api.jobs import GetJob, ListJobs
    from torc.api.runs import GetRunner
    from torc.runner.budget_messages import held_back

    over_budget = held_back(opened, number)
    runner = opened.send(GetRunner(runner_id=runner_id))
    has = f"{runner.capacity.num_cpus} CPUs, {rendering.memory(runner.capacity.memory_bytes)}, {runner.capacity.num_gpus} GPUs"
    for listed in opened.send(ListJobs(workflow_id=number, state=State.READY, limit=_MOST_LEFT)).items:
        job = opened.send(GetJob(job_id=listed.id))
        wanted = opened.send(GetRequirement(requirement_id=job.requirement_id))
        asks = f"{wanted.num_cpus} CPUs, {rendering.memory(wanted.memory_bytes)}, {wanted.num_gpus} GPUs"
        why = f"it asks for {asks}; here are {has}"
        if job.scheduler and runner.kind != "local" and runner.labels.get("scheduler") != job.scheduler:
            why = f"it is for the runners of {job.scheduler} (--label scheduler={job.scheduler})"
        elif runner.capacity.runtime_seconds is not None and wanted.runtime_seconds > runner.capacity.runtime_seconds:
            why = f"it asks for {rendering.duration(wanted.runtime_seconds)}; this runner ends before"
        elif over_budget and _fits(wanted, runner.capacity):
            why = "the budget of assistants holds it back"
        rendering.note(f"left: job {job.id} ({job.name}): {why}")
    if over_budget:
        rendering.note(f"jobs of this run were held back: {over_budget}")


def _fits(wanted: Any, capacity: Any) -> bool:
    return all(getattr(wanted, name) <= getattr(capacity, name) for name in ("num_cpus", "memory_bytes", "num_gpus"))


def summarize(opened: Torc, number: int, output_dir: Path, *, stopped: bool = False) -> int:
    """Print how a run went and give the exit code."""
    from torc.api.runs import SummarizeRun

    summary = opened.send(SummarizeRun(workflow_id=number))
    workflow = summary.workflow
    bad = workflow.state not in {"completed", "running"}  # running: others go on with it
    if SESSION.json:
        rendering.show_json(summary)
    else:
        _print_summary(summary, output_dir)
        if stopped:
            print(f"\nstopped; continue with: torc run {number}")
    if stopped and workflow.state == "interrupted":
        return 130
    return 1 if bad else 0


def _print_summary(summary: Any, output_dir: Path) -> None:
    workflow = summary.workflow
    counts = ", ".join(f"{count} {state}" for state, count in sorted(workflow.counts.by_state.items()))
    rate = ""
    done = workflow.counts[State.COMPLETED]
    if summary.wall_seconds and done > 1:
        rate = f", {done / summary.wall_seconds:,.1f} jobs/s"
    print(f"workflow {workflow.id} ({workflow.name}) {rendering.bold(workflow.state)}: {counts}")
    if summary.wall_seconds is None and workflow.state == "idle":
        print(f"  it has not run yet: torc run {workflow.id}")
        return
    print(
        f"  {rendering.duration(summary.wall_seconds)} of time{rate}, {rendering.duration(summary.cpu_seconds)} of CPU, "
        f"largest job {rendering.memory(summary.peak_memory_bytes) or 'unknown'}"
        + (
            f", {summary.num_retries:,} {'retry' if summary.num_retries == 1 else 'retries'}"
            if summary.num_retries
            else ""
        )
    )
    for result in summary.failed:
        _print_failure(result, output_dir)
    if summary.num_failed > len(summary.failed):
        print(
            f"\n... and {summary.num_failed - len(summary.failed)} more: torc results list {workflow.id} --failed-only"
        )
    for line in waits(summary):
        print(f"  {line}")


def waits(summary: Any) -> list[str]:
    """Say what blocked jobs wait for: the jobs with most behind them, and no line for each of many."""
    lines = [f"{count:,} job(s) wait for {name}" for name, count in summary.blocked_by.items()]
    if len(lines) <= _MOST_BLOCKING:
        return lines
    return [*lines[:_MOST_BLOCKING], f"others too: torc jobs list {summary.workflow.id} --state blocked"]


def _print_failure(result: Any, output_dir: Path) -> None:
    from torc.redaction import cleaned

    print(
        f"\n{rendering.colored(result.state.value, result.state.value)}: "
        f"{result.job_name} (job {result.job_id}, attempt {result.attempt})"
    )
    print(f"  why: {why(result)}")
    if result.stderr_tail:
        for line in cleaned(result.stderr_tail).splitlines()[-5:]:
            print(f"  | {line[:300]}")
    folder = "" if output_dir == output_folder() else f" --output-dir {output_dir}"
    print(f"  more: torc jobs logs {result.job_id}{folder}")


def why(result: Any) -> str:
    """Say in a line why an attempt did not succeed, as far as its end tells."""
    if result.detail:
        return str(result.detail)
    if result.reason == "runner_stopped":
        return "its runner was stopped before the job ended; it will be resumed"
    code = result.return_code
    if code == 127:
        return "command not found (exit code 127)"
    if code == 126:
        return "command cannot be executed (exit code 126)"
    number = signal_of(code)
    if number is not None:
        return f"exit code {code}: killed by signal {number} ({signal_name(number)})"
    return f"exit code {code}" if code is not None else str(result.reason)


def interactive() -> bool:
    """Return whether somebody looks at a terminal."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"
