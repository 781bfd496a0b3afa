"""`torc remote`: the machines of a workflow's workers, and what runs there."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.api.base import Torc
from torc.cli import rendering
from torc.cli.app import App
from torc.cli.commands.status import Which
from torc.cli.connection import database_of, server_of, torc, workflow_id
from torc.cli.options.amounts import memory_bytes, seconds
from torc.cli.session import SESSION
from torc.errors import Invalid, NotFound
from torc.units import human_bytes
from torc.workflow.access import level

app = App("Run workers on other machines over SSH, with your own ssh configuration, keys, agent and jump hosts.")

Workflow = Annotated[str, typer.Argument(metavar="WORKFLOW", help="Id or name of the workflow.")]
Hosts = Annotated[
    list[str] | None, typer.Option("--host", metavar="HOST", help="Only this machine of the list; repeatable.")
]
Parallel = Annotated[int, typer.Option("--parallel", min=1, max=1000, help="Contact this many machines at once.")]
Timeout = Annotated[str, typer.Option("--timeout", help="Time limit of each step on a machine, such as 90s or 2m.")]
SshConfig = Annotated[
    Path | None,
    typer.Option("--ssh-config", envvar="TORC_SSH_CONFIG", help="Use this file instead of ~/.ssh/config."),
]

#: a token of workers holds so long
_TOKEN_SECONDS = 30 * 86_400
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_WORKERS = [
    *rendering.columns("id", "host", "torc", "directory", "output_dir", "num_cpus"),
    ("memory", lambda w: rendering.memory(w.memory_bytes)),
    *rendering.columns("num_gpus"),
    ("labels", lambda w: " ".join(f"{name}={value}" for name, value in w.labels.items())),
]
_REPORTS = [
    *rendering.columns("host", "state"),
    ("runner", lambda r: r.runner_id),
    *rendering.columns("pid"),
    ("completed", lambda r: r.num_completed),
    ("failed", lambda r: r.num_failed),
    *rendering.columns("version"),
    ("message", lambda r: r.message if r.is_ok else r.kind),  # what failed is told in full below
]


@app.command("add-workers")
def add_workers(  # noqa: PLR0913, PLR0917 - options of a command
    workflow: Workflow,
    hosts: Annotated[
        list[str] | None,
        typer.Argument(metavar="HOST", help="[user@]host[:port]; options for a single host: 'HOST num_cpus=4'."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="File with one machine per line, with options; # begins a comment.")
    ] = None,
    program: Annotated[
        str | None, typer.Option("--torc", help="Path of torc on the machine; default: found in PATH.")
    ] = None,
    directory: Annotated[
        str | None, typer.Option("--directory", help="Directory on the machine; default: the workflow's directory.")
    ] = None,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", help="Folder for logs on the machine; default: torc_output.")
    ] = None,
    num_cpus: Annotated[
        int | None, typer.Option("--num-cpus", min=1, help="CPUs to use on the machine; default: all.")
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="Memory to use on the machine, such as 8g.")] = None,
    num_gpus: Annotated[
        int | None, typer.Option("--num-gpus", min=0, help="GPUs to use on the machine; default: all.")
    ] = None,
    max_parallel_jobs: Annotated[
        int | None, typer.Option("--max-parallel-jobs", "-j", min=1, help="Run this many jobs at once on the machine.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="Label of these runners; repeatable.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change machines that are already on the list.")] = False,
) -> None:
    """Add machines to the list of a workflow: all of them, or none if one is invalid.

    Example: torc remote add-workers 3 node1 me@node2:2222 --num-cpus 8
    """
    from torc.api.remote_workers import AddRemoteWorkers
    from torc.cli.commands.run import pairs

    given: dict[str, Any] = {
        "torc": program,
        "directory": directory,
        "output_dir": output_dir,
        "num_cpus": num_cpus,
        "memory_bytes": memory_bytes(memory, "--memory"),
        "num_gpus": num_gpus,
        "max_parallel_jobs": max_parallel_jobs,
        "labels": pairs(label or (), "--label"),
    }
    workers = _read(hosts or (), file, {name: value for name, value in given.items() if value is not None})
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        added = opened.send(AddRemoteWorkers(workflow_id=number, workers=workers, replace=replace))
    rendering.show_list(added, _WORKERS)


def _read(hosts: Sequence[str], file: Path | None, defaults: dict[str, Any]) -> list[Any]:
    from torc.remote.hosts_file import read_lines, read_worker

    found = []
    for host in hosts:
        try:
            words = shlex.split(host)
        except ValueError as error:
            raise Invalid(f"`{host}`: {str(error).lower()}", hint="write [user@]host[:port]") from None
        if not words:
            raise Invalid("a host is empty", hint="write [user@]host[:port]")
        found.append(read_worker(words, f"`{host}`", defaults))
    if file is not None:
        found += read_lines(_text(file), str(file), defaults)
    if not found:
        raise Invalid("no machine is named", hint="name hosts, or a file that lists them: --file FILE")
    names = [worker.host for worker in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Invalid(f"`{twice[0]}` is named twice", hint="name each machine once")
    return found


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Invalid(f"cannot read {file}: {why}", hint="name a file with a machine a line") from None


@app.command("list-workers")
def list_workers(workflow: Which = None) -> None:
    """List the machines of a workflow.

    Example: torc remote list-workers 3
    """
    from torc.remote import workers

    with torc(create=False) as opened:
        found = workers.list_workers(opened, workflow_id(opened, workflow))
    rendering.show_list(found, _WORKERS, empty="no machine: `torc remote add-workers` adds some")


@app.command("remove-worker")
def remove_worker(
    workflow: Workflow,
    hosts: Annotated[list[str], typer.Argument(metavar="HOST", help="The machine, as it is listed.")],
) -> None:
    """Take machines off the list. Workers that run there continue; end them first with `torc remote stop`.

    Example: torc remote remove-worker 3 node1
    """
    from torc.api.remote_workers import RemoveRemoteWorker
    from torc.remote import workers

    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        for worker in workers.list_workers(opened, number, hosts):
            opened.send(RemoveRemoteWorker(workflow_id=number, worker_id=worker.id))
    if SESSION.json:
        rendering.show_json({"removed": rendering.unique(hosts)})
    else:
        print(f"removed {', '.join(rendering.unique(hosts))}")


@app.command("run")
def run(  # noqa: PLR0913, PLR0917
    workflow: Which = None,
    host: Hosts = None,
    server_url: Annotated[
        str | None,
        typer.Option("--server-url", help="URL of the server for those machines; default: the one used here."),
    ] = None,
    time_limit: Annotated[str | None, typer.Option("--time-limit", help="Stop the workers after this time.")] = None,
    parallel: Parallel = 10,
    timeout: Timeout = "60s",
    ssh_config: SshConfig = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check whether workers could start.")] = False,
) -> None:
    """Start a worker on each machine of the list.

    Workers continue when the connection ends. Before anything starts, each machine is checked: it needs Torc in the
    same version and the directory, and must reach this workflow. Exit code 1 if some workers did not start.

    Example: torc remote run 3 --parallel 20
    """
    from torc.remote import workers

    _seconds(time_limit or "1s", "--time-limit")
    options = workers.WorkerOptions(words=("--time-limit", time_limit) if time_limit else ())
    with _asking(workflow, host, parallel, timeout, ssh_config) as (opened, number, found, reach):
        store = _store(opened, number, server_url)
        told = (
            workers.check(opened, number, found, store, reach)
            if dry_run
            else workers.start(opened, number, found, store, reach, options)
        )
    _show(told, _REPORTS)


@app.command("status")
def status(
    workflow: Which = None,
    host: Hosts = None,
    parallel: Parallel = 10,
    timeout: Timeout = "60s",
    ssh_config: SshConfig = None,
) -> None:
    """Show the state of each worker, from its machine and from the store. Exit code 1 if a machine cannot be reached.

    Example: torc remote status 3
    """
    from torc.remote import workers

    with _asking(workflow, host, parallel, timeout, ssh_config) as (opened, number, found, reach):
        told = workers.status(opened, number, found, reach)
    _show(told, _REPORTS)


@app.command("stop")
def stop(
    workflow: Which = None,
    host: Hosts = None,
    grace: Annotated[
        str, typer.Option("--grace", help="Grace period for jobs to end before workers are killed.")
    ] = "30s",
    parallel: Parallel = 10,
    timeout: Timeout = "60s",
    ssh_config: SshConfig = None,
) -> None:
    """End workers with SIGTERM, and with SIGKILL after a grace period. Interrupted jobs can run again.

    Example: torc remote stop 3 --grace 2m
    """
    from torc.remote import workers

    grace_seconds = _seconds(grace, "--grace")
    with _asking(workflow, host, parallel, timeout, ssh_config) as (opened, number, found, reach):
        told = workers.stop(opened, number, found, reach, grace_seconds)
    _show(told, _REPORTS)


@app.command("collect-logs")
def collect_logs(
    workflow: Which = None,
    output: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder for the logs, with one subfolder per machine.")
    ] = Path("remote_logs"),
    host: Hosts = None,
    parallel: Parallel = 10,
    timeout: Timeout = "60s",
    ssh_config: SshConfig = None,
) -> None:
    """Copy the logs of workers here. Files that are here already and have not changed are not copied again.

    Example: torc remote collect-logs 3 -o logs
    """
    from torc.remote.log_collection import collect

    with _asking(workflow, host, parallel, timeout, ssh_config) as (opened, number, found, reach):
        told = collect(opened, number, found, reach, output)
    shown = [
        *rendering.columns("host", "folder"),
        ("fetched", lambda c: c.num_files),
        ("bytes", lambda c: human_bytes(c.num_bytes)),
        ("kept", lambda c: c.num_kept),
        _REPORTS[-1],
    ]
    _show(told, shown)


@contextmanager
def _asking(
    workflow: str | None, hosts: list[str] | None, parallel: int, timeout: str, ssh_config: Path | None
) -> Iterator[tuple[Any, int, Any, Any]]:
    """Open the Torc and the connections; returns them, the id of the workflow and its machines."""
    from torc.remote.ssh import Options, Ssh
    from torc.remote.workers import RemoteAccess, list_workers

    patience = _seconds(timeout, "--timeout")
    if ssh_config is not None and not ssh_config.is_file():
        raise Invalid(f"there is no file {ssh_config}", hint="--ssh-config names a file as ssh -F does")
    with torc(create=False) as opened:
        number = workflow_id(opened, workflow)
        found = list_workers(opened, number, hosts or ())
        if not found:
            raise Invalid(f"workflow {number} has no machines", hint=f"torc remote add-workers {number} HOST adds one")
        ssh = Ssh(Options(config=ssh_config, connect_seconds=max(1, min(15, patience))))
        try:
            yield opened, number, found, RemoteAccess(ssh, parallel, patience)
        finally:
            ssh.close()


def _seconds(text: str, option: str) -> int:
    found = seconds(text, option)
    if found < 1:
        raise Invalid(f"{option}: at least a second is needed")
    return found


def _store(opened: Torc, number: int, server_url: str | None) -> Any:
    """Tell by what workers elsewhere find the store. Raises Invalid for a database that only this machine has."""
    from torc.remote.scripts import StoreAddress

    server, store = server_of(opened), database_of(opened)
    url = server_url or (server.url if server is not None else None)
    if url is not None:
        token = os.environ.get("TORC_WORKER_TOKEN") or token_for_workers(opened, number)
        variables = {"TORC_API_URL": url, **({"TORC_TOKEN": token} if token else {})}
        return StoreAddress(url, variables, _authority(server.ca_file if server is not None else None))
    if store.path is not None:
        raise Invalid(
            f"workers elsewhere cannot reach the database {store.path}",
            hint="begin a server for it: torc server start",
        )
    engine = store.engine.url
    return StoreAddress(
        engine.render_as_string(hide_password=True), {"TORC_DB": engine.render_as_string(hide_password=False)}
    )


def token_for_workers(opened: Torc, number: int) -> str | None:
    """Make a token that can run this workflow and nothing else; where none can be made, it is the one of this command."""
    from torc.api.users import CreateToken, GetMe

    server = server_of(opened)
    if server is None or server.token is None:
        return None
    if shares_token(opened):
        return server.token
    me = opened.send(GetMe())
    user = {} if me.user_id is not None else {"user": me.user}
    request = CreateToken(
        name=f"workers of workflow {number}", scope="run", workflow_id=number, expires_in_seconds=_TOKEN_SECONDS, **user
    )
    try:
        return str(opened.send(request).token)
    except NotFound:
        raise NotFound(
            f"the server has no account `{me.user}` that workers could act for",
            hint=f"make one (torc users create {me.user} --no-password), or set TORC_WORKER_TOKEN",
        ) from None


def shares_token(opened: Torc) -> bool:
    """Return whether workers must use this command's own token: it may not create another, or there is no account to create one for."""
    from torc.api.users import GetMe, ListUsers

    me = opened.send(GetMe())
    if me.user_id is None:
        return not opened.send(ListUsers(limit=1)).items
    return level(me.scope) < level("write") or me.workflow_id is not None


def _authority(ca_file: str | None) -> str | None:
    """Return the certificates of a file, and nothing else of it: a server's own file may hold its key too."""
    if ca_file is None:
        return None
    try:
        text = Path(ca_file).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Invalid(f"cannot read {ca_file}: {error.strerror}", hint="TORC_CA_FILE names a PEM file") from None
    return "\n".join([*_CERTIFICATE.findall(text), ""])


def _show(told: Sequence[Any], columns: Sequence[rendering.Column]) -> None:
    """Print what is told of each machine, what to do about those that failed, and exit accordingly."""
    rendering.show_list(told, columns)
    failed = [report for report in told if not report.is_ok]
    if not SESSION.json:
        for report in failed:
            rendering.note(f"error: {report.message}" + (f"\n  hint: {report.hint}" if report.hint else ""))
    if failed:
        raise typer.Exit(1)
