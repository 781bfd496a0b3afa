"""`torc server`: a server for the database of this directory, in the foreground or in the background."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from torc import __version__
from torc.api.base import Torc
from torc.cli import periodic_backups, rendering
from torc.cli.app import App
from torc.cli.commands.mcp import mounted
from torc.cli.options.groups import grouped
from torc.cli.session import SESSION, torc_folder
from torc.client import server_file
from torc.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from torc.files import open_to_append
from torc.urls import LOOPBACK

app = App("Start, stop and inspect a server for this directory.")
_LOG = "server.log"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.02

Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        "-p",
        min=0,
        max=65535,
        show_default=False,
        help="Port to listen on; 0: any free port. Default: the port of the last server here, if free.",
    ),
]
Certificate = Annotated[Path | None, typer.Option("--tls-cert", help="Certificate, as a PEM file: HTTPS.")]
Key = Annotated[Path | None, typer.Option("--tls-key", help="Key of the certificate, if it is not in the same file.")]
AllowedHost = Annotated[
    list[str] | None, typer.Option("--allowed-host", help="An additional host name for the server; repeatable.")
]
Workers = Annotated[
    int,
    typer.Option("--workers", min=1, max=64, help="Number of server processes; more than one only with PostgreSQL."),
]
Auth = Annotated[
    bool | None,
    typer.Option(
        "--auth/--no-auth",
        help="Require everybody to sign in, or answer only you. Default: --auth, except on loopback.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="File with the token that gives the owner access to the server; created if it does not exist.",
    ),
]
MaxJobs = Annotated[
    int | None,
    typer.Option(
        "--max-jobs",
        min=0,
        help="Most jobs that an account may store; 0: no limit. Default: the setting server.max_jobs.",
    ),
]
MaxCreations = Annotated[
    int | None,
    typer.Option(
        "--max-creations",
        min=0,
        help="Most large workflows that an account may create at once; 0: no limit. Default: the setting server.max_creations.",
    ),
]
RateLimit = Annotated[
    float,
    typer.Option(
        "--rate-limit", min=0, help="Requests per second for each user and address, with --auth; 0: no limit."
    ),
]
BackupEvery = Annotated[
    str | None,
    typer.Option(
        "--backup-every",
        help="Interval between copies of the SQLite database, such as 1h; default: the setting `backup.interval`.",
    ),
]
BackupKeep = Annotated[
    int | None,
    typer.Option("--backup-keep", min=1, help="How many copies to keep; default: the setting `backup.keep`, 5."),
]
AccessLog = Annotated[
    bool, typer.Option("--access-log/--no-access-log", help="Log each request, as one JSON object per line.")
]


@dataclass(frozen=True)
class ServerOptions:
    """How a server is to run: the same for `run`, and for `start`, which has `run` do it in the background."""

    host: Host = "127.0.0.1"
    port: Port = None
    tls_cert: Certificate = None
    tls_key: Key = None
    allowed_host: AllowedHost = None
    auth: Auth = None
    token_file: TokenFile = None
    rate_limit: RateLimit = 2000.0
    max_jobs: MaxJobs = None
    max_creations: MaxCreations = None
    access_log: AccessLog = True
    workers: Workers = 1
    backup_every: BackupEvery = None
    backup_keep: BackupKeep = None

    def words(self) -> list[str]:
        """Write what `start` hands on to `run`, beside host, port and authentication, which it checks itself."""
        given: list[tuple[str, object]] = [
            ("--tls-cert", self.tls_cert),
            ("--tls-key", self.tls_key),
            *(("--allowed-host", name) for name in self.allowed_host or ()),
            ("--token-file", self.token_file and self.token_file.absolute()),
            ("--rate-limit", self.rate_limit),
            ("--max-jobs", self.max_jobs),
            ("--max-creations", self.max_creations),
            ("--workers", self.workers),
            ("--backup-every", self.backup_every),
            ("--backup-keep", self.backup_keep),
        ]
        words = [word for option, value in given if value is not None for word in (option, str(value))]
        return words if self.access_log else [*words, "--no-access-log"]


@app.command()
@grouped
def run(options: ServerOptions = ServerOptions()) -> None:
    """Run a server in the foreground until Ctrl-C. Commands in this directory and below then use it.

    Example: torc server run --port 8080
    """
    from torc.client.connect import open_database
    from torc.server import app as server_app
    from torc.server import authentication as accounts
    from torc.server import multiprocess, serve
    from torc.server.concurrency import AccountLimits

    folder = torc_folder()
    database = _database(folder)
    every = _interval(database, options.backup_every)
    auth = _check_beginning(folder, database, options.host, options.auth, options.workers)
    listen = serve.Listen(options.host, options.port or 0, _text(options.tls_cert), _text(options.tls_key))
    authentication = accounts.Authentication(_token(folder, options.token_file), auth, options.rate_limit)
    account_limits = AccountLimits(
        _most(options.max_jobs, "server.max_jobs"), _most(options.max_creations, "server.max_creations")
    )
    opened = open_database(database)
    if auth:
        _check_accounts(opened)
    bound = _bind(listen, server_file.last_port(folder) if options.port is None else None)
    here = server_file.this_process(
        serve.url_of(listen, bound),
        __version__,
        _shown(database),
        time.time(),
        ca_file=_text(options.tls_cert),
        token=authentication.owner_token,
    )
    try:
        hosts = {*_names(options.host), *(options.allowed_host or ())}
        if options.workers > 1:
            work = multiprocess.ProcessWork(
                database, listen, tuple(hosts), options.access_log, authentication, account_limits
            )
            multiprocess.serve_with(
                work, options.workers, bound, on_ready=lambda: _tell(folder, here, options.token_file)
            )
        else:
            identity = authentication.identity(opened.store)
            kept = options.token_file.absolute() if options.token_file else folder / server_file.FILE
            mounts = {"/mcp": mounted(identity, {"TORC_API_URL": here.url, "TORC_TOKEN_FILE": str(kept)})}
            application = server_app.app(
                opened.store, identity, hosts=hosts, account_limits=account_limits, mounts=mounts
            )
            serve.log_access(wanted=options.access_log)
            with periodic_backups.kept(database, every, options.backup_keep):
                serve.serve(application, bound, listen, on_ready=lambda: _tell(folder, here, options.token_file))
    finally:
        bound.close()
        server_file.remove(folder, here)
        opened.close()


def _most(option: int | None, setting: str) -> int | None:
    """A limit of the option or the setting; None: there is none."""
    return (SESSION.settings.number(setting) if option is None else option) or None


def _interval(database: str, every: str | None) -> int | None:
    """Return how often the database is to be copied. Raises Invalid where Torc cannot."""
    found = periodic_backups.interval_of(every)
    if found is not None and "://" in database and not database.startswith("sqlite:///"):
        if every is not None:
            raise Invalid("Torc copies only SQLite databases", hint="for PostgreSQL, run pg_dump from cron")
        return None
    return found


def _bind(listen: Any, last_port: int | None) -> socket.socket:
    """Take the port that the last server here had, so that its runners find this one; else the one asked for."""
    from dataclasses import replace

    from torc.server import serve

    if last_port is not None:
        try:
            return serve.bind(replace(listen, port=last_port))
        except Unavailable:
            _tell_moved(last_port)
    return serve.bind(listen)


def _tell_moved(last_port: int) -> None:
    rendering.note(
        f"note: another program has port {last_port}, which the last server here used; this one uses another. Runners that "
        f"can read {server_file.FILE} here find it; for others, free that port and restart the server with --port {last_port}"
    )


def _token(folder: Path, file: Path | None) -> str:
    """Return what opens the server: what a file holds, which is made where there is none, else as `place` says."""
    from torc.client import credentials

    if file is None:
        return server_file.secret(folder)
    if not file.exists():
        credentials.write_token(file, server_file.secret(folder))
    token = credentials.read_token(str(file))
    if token is None or token.startswith("{"):
        raise Invalid(f"{file} contains no token", hint="delete it, and Torc creates a new one")
    return token


def _tell(folder: Path, here: server_file.ServerAddress, token_file: Path | None) -> None:
    try:
        server_file.write(folder, here)
    except Unavailable as error:
        if token_file is None:
            raise
        rendering.note(
            f"note: {error.message}; name the server by --url, and its token by TORC_TOKEN_FILE={token_file}"
        )
    rendering.note(f"torc server {__version__} at {here.url} (Ctrl-C ends it)")


def _check_beginning(folder: Path, database: str, host: str, auth: bool | None, workers: int) -> bool:
    """Refuse what cannot be, or would let others in; tell whether everybody is to sign in."""
    if auth is False and host not in LOOPBACK:
        raise Forbidden(
            f"a server on {host} could be reached by everybody",
            hint="leave out --no-auth, or listen on 127.0.0.1 and reach it through ssh -L",
        )
    auth = host not in LOOPBACK if auth is None else auth
    if not auth and "://" not in database and Path(database).exists() and Path(database).stat().st_uid != os.geteuid():
        raise Forbidden(f"{database} belongs to another user", hint="begin the server with --auth, or as its owner")
    _check_none_runs(folder)
    _check_workers(workers, database)
    return auth


def _check_accounts(opened: Torc) -> None:
    from torc.api.users import ListUsers

    if not opened.send(ListUsers(limit=1)).items:
        raise Conflict(
            "nobody could sign in: there are no users", hint="add yourself first: torc users create NAME --admin"
        )


def _tell_if_open(host: str, certificate: Path | None) -> None:
    if host not in LOOPBACK and certificate is None:
        rendering.note("note: without --tls-cert, tokens and passwords go over the network in the clear")


def _check_none_runs(folder: Path) -> None:
    found = server_file.read(folder)
    if found is not None and found.is_alive():
        raise Conflict(f"a server runs here already: {found.url} (pid {found.pid})", hint="`torc server stop` ends it")


def _check_workers(workers: int, database: str) -> None:
    if workers > 1 and "postgres" not in database.partition("://")[0]:
        raise Invalid(
            "SQLite has one writer: several processes would only wait for each other",
            hint="leave out --workers, or use PostgreSQL",
        )


def _database(folder: Path) -> str:
    from torc.client.connect import DATABASE

    _, db = SESSION.settings.place()
    return db or str(folder / DATABASE)


def _shown(database: str) -> str:
    """Return a database without its password."""
    if "://" not in database:
        return str(Path(database).absolute())
    from torc.redaction import redact
    from torc.urls import split_url

    parts = split_url(database)
    if parts is None:
        return "a database whose URL is not valid"
    return redact(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


def _names(host: str) -> set[str]:
    found = {"127.0.0.1", "localhost", "::1", host}
    if host not in LOOPBACK:
        found |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    if host in {"0.0.0.0", "::"}:
        addresses = [address.address for each in psutil.net_if_addrs().values() for address in each]
        found |= {address.partition("%")[0] for address in addresses if "." in address or "::" in address}
    return {f"[{name}]" if ":" in name else name for name in found}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


@app.command()
@grouped
def start(options: ServerOptions = ServerOptions()) -> None:
    """Start a server in the background; its log is `.torc/server.log`.

    Example: torc server start
    """
    _interval(_database(torc_folder()), options.backup_every)
    found, log = begin(options.host, options.port, options.auth, workers=options.workers, words=options.words())
    _tell_if_open(options.host, options.tls_cert)
    if SESSION.json:
        rendering.show_json(_described(found))
    else:
        print(f"the server runs: {found.url} (pid {found.pid}, log {log})")


def begin(
    host: str, port: int | None = None, auth: bool | None = None, *, workers: int = 1, words: Sequence[str] = ()
) -> tuple[server_file.ServerAddress, Path]:
    """Begin a server in the background and wait until it answers; returns where it is, and its log. Raises TorcError."""
    from torc.client.connect import open_database
    from torc.program import own_program

    folder = torc_folder()
    auth = _check_beginning(folder, _database(folder), host, auth, workers)
    if auth:
        opened = open_database(_database(folder))
        _check_accounts(opened)
        opened.close()
    argv = [*own_program(), "server", "run", "--host", host]
    argv += [] if port is None else ["--port", str(port)]
    argv += ["--auth" if auth else "--no-auth", *words]
    _, db = SESSION.settings.place()
    environ = {**os.environ, **({"TORC_DB": db} if db else {})}  # it may hold a password: not for argv
    last_port = server_file.last_port(folder) if port is None else None
    log = folder / _LOG
    began = log.stat().st_size if log.exists() else 0
    with open(open_to_append(log), "ab") as output:
        process = subprocess.Popen(
            argv, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    found = _await_ready(process, folder, log, began)
    if last_port is not None and server_file.port_of(found) != last_port:
        _tell_moved(last_port)
    return found, log


def _await_ready(process: subprocess.Popen[bytes], folder: Path, log: Path, began: int) -> server_file.ServerAddress:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        found = server_file.read(folder)
        if found is not None and found.pid == process.pid:
            return found
        if process.poll() is not None:
            with open(log, "rb") as file:
                file.seek(began)
                said = file.read(4000).decode(errors="replace").strip()
            raise Unavailable(
                f"the server ended at once: {said or f'exit code {process.returncode}'}", hint=f"its log is {log}"
            )
        time.sleep(_LOOK_SECONDS)
    process.terminate()
    raise Unavailable(f"the server was not ready within {_START_SECONDS:.0f} s", hint=f"its log is {log}")


@app.command()
def stop() -> None:
    """Stop the server of this directory, after it has finished the current requests.

    Example: torc server stop
    """
    found = _running()
    if not found.is_here():
        raise Conflict(f"the server runs on {found.host}", hint="stop it there")
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while found.is_alive():
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the server (pid {found.pid}) does not end", hint=f"kill -9 {found.pid} ends it; nothing is lost"
            )
        time.sleep(_LOOK_SECONDS)
    if SESSION.json:
        rendering.show_json({"stopped": found.url})
    else:
        print(f"the server at {found.url} has ended")


@app.command()
def status() -> None:
    """Show whether a server runs for this directory, and where. Exit code 3 if none does.

    Example: torc server status
    """
    found = _running()
    described = _described(found)
    if SESSION.json:
        rendering.show_json(described)
        return
    print(f"{found.url}: {described['answers']}")
    print(f"  pid {found.pid} on {found.host}, since {rendering.when(found.started_at)}, version {found.version}")
    print(f"  database {found.database}")
    print(f"  token in {described['token_file']}, which you alone can read")


@app.command()
def backup(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="New file or folder for the copy; default: `.torc/backups`.", show_default=False
        ),
    ] = None,
) -> None:
    """Copy the database of this directory, or of --db, while it is in use, and check the copy.

    Example: torc server backup -o /backups/torc-monday.db
    """
    from torc.client.backup import back_up

    database = _database(torc_folder())
    made = back_up(database, _target(database, output))
    if SESSION.json:
        rendering.show_json({"path": made.path, "size_bytes": made.size_bytes, "workflows": made.workflows})
    else:
        print(f"copied {made.workflows} workflow(s), {rendering.memory(made.size_bytes)}, to {made.path}")


def _target(database: str, output: Path | None) -> Path:
    from torc.client.backup import fresh_name, path_of

    if output is not None and not output.is_dir():
        return output
    target = fresh_name(path_of(database), output)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return target


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="A copy made by `torc server backup` or saved by Torc.")],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Restore the copy even if the checks find problems, or others could have written it."
        ),
    ] = False,
) -> None:
    """Replace the database of this directory, or of --db, with a copy; the old database is kept.

    Nobody may use the database meanwhile: stop its server, and let its runners end. Results that runners could not
    store are stored when the workflow continues. Changes after the copy was made are lost: those jobs and actions run
    again, even actions with at_most_once.

    Example: torc server restore .torc/backups/torc.db.backup-20261201-120000
    """
    from torc.client.backup import restore as put_back

    folder = torc_folder()
    database = _database(folder)
    found = server_file.read(folder)
    if found is not None and found.database == _shown(database):
        _check_none_runs(folder)
    restored = put_back(database, file, force=force)
    if SESSION.json:
        from dataclasses import asdict

        rendering.show_json(asdict(restored))
        return
    print(f"restored {restored.workflows} workflow(s) from {file} to {restored.path}")
    if restored.kept:
        print(f"  the previous database is kept as {restored.kept}")
    for problem in restored.problems:
        print(f"  wrong: {problem}")
    print("  continue with: torc run ID (or torc submit ID); results that runners kept meanwhile are stored first")


def _running() -> server_file.ServerAddress:
    folder = torc_folder()
    found = server_file.read(folder)
    if found is None or not found.is_alive():
        raise NotFound(f"no server runs for {folder.parent}", hint="`torc server start` begins one")
    return found


def _described(found: server_file.ServerAddress) -> dict[str, Any]:
    from dataclasses import asdict

    shown = {
        name: value for name, value in asdict(found).items() if name not in {"token", "process_started", "boot_id"}
    }
    return {**shown, "token_file": str(torc_folder() / server_file.FILE), "answers": _answers(found)}


def _answers(found: server_file.ServerAddress) -> str:
    """Ask the server itself how it is."""
    import urllib3

    pool = urllib3.PoolManager(ca_certs=found.ca_file, retries=False, timeout=5.0)
    try:
        answer = pool.request("GET", f"{found.url}/readyz")
        return str(answer.json().get("status"))
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        return f"does not answer: {type(error).__name__}"
    finally:
        pool.clear()
