"""`torc hpc sandbox`: a real Slurm cluster of virtual nodes on this machine, to try workflows before they cost node-hours."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.cli import rendering
from torc.cli.app import App
from torc.cli.options.amounts import memory_bytes
from torc.cli.session import SESSION
from torc.errors import Invalid
from torc.schedulers.slurm.sandbox import cluster

sandbox = App("Run a real Slurm cluster of virtual nodes on this machine (Debian, Ubuntu), to try workflows.")
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        help="Folder of the sandbox; default: that of the shell's SLURM_CONF, or ~/.local/share/torc/slurm-sandbox.",
        show_default=False,
    ),
]


@sandbox.command()
def start(  # noqa: PLR0913, PLR0917 - options of a command
    folder: Folder = None,
    nodes: Annotated[int | None, typer.Option("--nodes", help="Number of virtual nodes; default: 3.")] = None,
    cpus: Annotated[
        int | None, typer.Option("--cpus", help="CPUs per node in Slurm's configuration; default: 4.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Memory per node in Slurm's configuration; default: 4000m.")
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="Simulated GPUs per node; default: 2.")] = None,
    gpu_type: Annotated[str | None, typer.Option("--gpu-type", help="Type of the GPUs, such as a100.")] = None,
    node_prefix: Annotated[
        str | None,
        typer.Option(
            "--node-prefix",
            help="Prefix of the nodes' names, before a number; default: n. A second sandbox needs a different one.",
        ),
    ] = None,
    port_base: Annotated[int | None, typer.Option("--port-base", help="First port; default: any free ports.")] = None,
    cgroup: Annotated[
        str | None,
        typer.Option(
            "--cgroup",
            metavar="auto|on|off",
            help="Whether to limit memory with cgroups, as clusters do; default: auto.",
        ),
    ] = None,
    accounting: Annotated[
        bool | None,
        typer.Option("--accounting/--no-accounting", help="With or without an accounting database (for sacct)."),
    ] = None,
    no_install: Annotated[bool, typer.Option("--no-install", help="Do not install missing packages.")] = False,
) -> None:
    """Start a sandbox; installs Slurm with apt-get if it is missing.

    All its files are in its folder, none in /etc or /var. An existing sandbox keeps its settings, except for the
    options that are given.

    Example: torc hpc sandbox start && eval "$(torc hpc sandbox env)" && sinfo
    """
    if cgroup not in (None, "auto", "on", "off"):
        raise Invalid(f"--cgroup {cgroup} is unknown", hint="choose auto, on or off")
    memory_mb = None if memory is None else memory_bytes(memory, "--memory") >> 20
    given = {
        "port_base": port_base,
        "prefix": node_prefix,
        "nodes": nodes,
        "cpus": cpus,
        "memory_mb": memory_mb,
        "gpus": gpus,
        "gpu_type": gpu_type,
        "cgroup": cgroup,
        "accounting": accounting,
    }
    where = folder or cluster.usual_folder()
    known = cluster.settings_of(where)
    settings = replace(known, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    made = cluster.create(where, settings)
    made.start(rendering.note, install=not no_install)
    if SESSION.json:
        rendering.show_json(_described(made))
        return
    rendering.note(f"the sandbox runs in {made.folder}")
    option = f" --folder {shlex.quote(str(folder))}" if folder else ""
    rendering.note(f'for this shell:  eval "$(torc hpc sandbox env{option})"')


@sandbox.command()
def stop(
    folder: Folder = None,
    remove: Annotated[bool, typer.Option("--remove", help="Also delete all its files.")] = False,
) -> None:
    """Cancel all jobs of the sandbox and stop it.

    Example: torc hpc sandbox stop
    """
    found = cluster.find(folder or cluster.usual_folder())
    if remove:
        found.remove(rendering.note)
    else:
        found.stop(rendering.note)
    rendering.note(f"the sandbox in {found.folder} is {'gone' if remove else 'stopped'}")


@sandbox.command()
def status(folder: Folder = None) -> None:
    """Show the daemons and nodes of the sandbox. Exit code 1 if some of them do not run.

    Example: torc hpc sandbox status
    """
    found = cluster.find(folder or cluster.usual_folder())
    now = found.status()
    if SESSION.json:
        rendering.show_json(_described(found))
    else:
        states = {f"slurmd {node}": state for node, state in now.nodes.items()}
        rendering.table(
            ["daemon", "state", "pid"],
            [
                [daemon.name, states.get(daemon.name, "running") if daemon.pid else "stopped", str(daemon.pid or "")]
                for daemon in now.daemons
            ],
        )
    if not now.is_running:
        if not SESSION.json:
            print("not all of it runs: `torc hpc sandbox start` starts what is missing", file=sys.stderr)
        raise typer.Exit(1)


@sandbox.command()
def env(folder: Folder = None) -> None:
    """Print the variables that make Slurm's commands in a shell use the sandbox.

    Example: eval "$(torc hpc sandbox env)"
    """
    found = cluster.find(folder or cluster.usual_folder())
    if SESSION.json:
        rendering.show_json(found.environment)
        return
    for name, value in found.environment.items():
        print(f"export {name}={shlex.quote(value)}")


@sandbox.command()
def node(
    name: Annotated[str, typer.Argument(metavar="NODE", help="A node, such as n2.")],
    what: Annotated[str, typer.Argument(metavar="start|stop|kill", help="What to do with its daemon.")],
    folder: Folder = None,
) -> None:
    """Crash a node of the sandbox, or bring it back, to see how a workflow handles that.

    Example: torc hpc sandbox node n2 kill
    """
    found = cluster.find(folder or cluster.usual_folder())
    actions = {"start": found.start_node, "stop": found.stop_node, "kill": found.kill_node}
    if what not in actions:
        raise Invalid(f"a node cannot be told to `{what}`", hint="choose start, stop or kill")
    actions[what](name)


def _described(found: cluster.Sandbox) -> dict[str, Any]:
    now = found.status()
    return {
        "folder": str(found.folder),
        "running": now.is_running,
        "environment": found.environment,
        "port_base": found.settings.port_base,
        "daemons": {daemon.name: daemon.pid for daemon in now.daemons},
        "nodes": now.nodes,
    }
