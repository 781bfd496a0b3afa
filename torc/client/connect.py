"""Finds the store for a command: a database near the working directory, a given one, or a server."""

from __future__ import annotations

import getpass
import importlib
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torc.api.base import Torc
from torc.client import credentials, server_file
from torc.errors import Forbidden, Invalid

DIRECTORY = ".torc"
DATABASE = "torc.db"
#: path of the `server.json` of the server in TORC_API_URL: where to look when it no longer answers there
SERVER_FILE = "TORC_SERVER_FILE"
#: the user who runs the server, if it is another user of this machine
SERVER_USER = "TORC_SERVER_USER"


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the state is, and notes for the user about the search."""

    database: str
    exists: bool
    notes: tuple[str, ...] = ()
    server: server_file.ServerAddress | None = None


@dataclass(frozen=True, slots=True)
class _Here:
    """The server of a directory, and the file that describes it."""

    server: server_file.ServerAddress
    file: Path


def connect(
    url: str | None = None,
    db: str | None = None,
    *,
    actor: str | None = None,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    create: bool = True,
    trusted: Collection[Path] = (),
) -> Torc:
    """Connect to the store selected by the options, the environment and the working directory.

    The order: `url`, `db`, TORC_API_URL, TORC_DB, the nearest `.torc/` at or above `cwd` that the caller owns or has `trusted`
    (its running server, or else its database), and finally a new `cwd/.torc/`. A server is sent TORC_TOKEN, or else the content
    of TORC_TOKEN_FILE, the token of `torc login`, or the token in the server's `server.json`.
    Raises Invalid, Forbidden or Unavailable.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    url = url or (None if db else environ.get("TORC_API_URL"))
    if url:
        return _remote(url, environ, cwd, trusted)
    db = db or environ.get("TORC_DB")
    found = Connection(db, "://" in db or Path(db).exists()) if db else find(cwd, trusted)
    if found.server is not None:
        return _remote(found.server.url, environ, cwd, trusted)
    if not found.exists and create and not db:
        make_directory(Path(found.database).parent)
    torc: Torc = open_database(found.database, actor, create=create, notes=found.notes)
    return torc


def open_database(where: str, actor: str | None = None, *, create: bool = True, notes: tuple[str, ...] = ()) -> Any:
    """Open a database, whether or not a server is running for it."""
    embedded: Any = importlib.import_module("torc.client.embedded")
    opener: Any = importlib.import_module("torc.store.engine")
    store = opener.open_store(where, create=create)
    torc = embedded.Embedded(store, actor or f"user:{user_name()}")
    torc.notes = (*notes, *store.notes)
    return torc


def _remote(url: str, environ: Mapping[str, str], cwd: Path, trusted: Collection[Path]) -> Torc:
    remote: Any = importlib.import_module("torc.client.remote")
    here = _server_here(url, cwd, trusted)
    ca_file = environ.get("TORC_CA_FILE") or (here.server.ca_file if here else None)
    named = environ.get("TORC_TOKEN_FILE")

    def look(url: str) -> tuple[str | None, str | None]:
        """Return the token and the file that contains it."""
        if (found := _token_in(named, url)) is not None:
            return found, named
        if (found := credentials.token_for(url, environ)) is not None:
            return found, None
        here = _server_here(url, cwd, trusted)
        if here is not None:
            return here.server.token, str(here.file)
        return None, named if _is_server_file(named) else None  # the next server writes it there

    def renew() -> str | None:
        try:
            return look(made.url)[0]
        except (Forbidden, Invalid):  # the file is gone, or now belongs to another user
            return None

    shown = environ.get("TORC_TOKEN")
    token, file = (shown, None) if shown else look(url)
    home = _home_of(url, environ, cwd, trusted)
    is_owner = _is_server_file(file)
    is_own = is_owner or home is not None

    def find_moved(url: str) -> Any:
        """Return where the next server of the same directory answers."""
        found = server_file.read(home) if home is not None else None
        if found is None or _is_same(found.url, url) or not found.is_alive():
            return None
        return remote.MovedServer(found.url, found.token if is_owner else None, found.ca_file)

    made: Any = remote.Remote(
        url,
        token=token,
        renew=None if shown else renew,
        find_moved=find_moved,
        ca_file=ca_file,
        token_file=file,
        is_own=is_own,
        server_users=() if is_own else _server_users(url, environ),
        server_file=None if home is None else str(home / server_file.FILE),
    )
    torc: Torc = made
    return torc


def _server_users(url: str, environ: Mapping[str, str]) -> set[int]:
    """Return the users, other than the caller and root, whose servers on this machine may be sent the token. Raises Invalid."""
    if (named := environ.get(SERVER_USER)) is not None:
        return {importlib.import_module("torc.client.port_owner").uid_of(named)}
    return credentials.server_users(url, environ)


def _home_of(url: str, environ: Mapping[str, str], cwd: Path, trusted: Collection[Path]) -> Path | None:
    """Return the `.torc/` that a server was started for: the given one, or that of this directory if it matches."""
    named = environ.get(SERVER_FILE)
    if named and _is_same(environ.get("TORC_API_URL") or url, url):  # it does not apply to any other server
        return Path(named).absolute().parent
    token_file = Path(environ.get("TORC_TOKEN_FILE") or "")
    if token_file.name == server_file.FILE:  # its server need not be the one in the URL
        folder = token_file.absolute().parent
    else:
        try:
            folder = Path(find(cwd, trusted).database).parent
        except Forbidden:
            return None
    here = server_file.read(folder)  # it may be down at the moment
    return folder if here is not None and _is_same(here.url, url) else None


def _token_in(path: str | None, url: str) -> str | None:
    """Return the token in a file; a `server.json` is only for its own server. Raises Forbidden or Invalid."""
    if path is not None and _is_server_file(path) and not os.path.lexists(path):
        return None  # the server was stopped
    text = credentials.read_token(path)
    if text is None or not text.startswith("{"):
        return text
    server = server_file.parse(text)
    is_meant = server is not None and server.is_alive() and _is_same(server.url, url)
    return server.token if server is not None and is_meant else None


def _is_server_file(path: str | None) -> bool:
    return path is not None and Path(path).name == server_file.FILE


def _is_same(url: str, other: str) -> bool:
    return credentials.server_of(url) == credentials.server_of(other)


def _server_here(url: str, cwd: Path, trusted: Collection[Path]) -> _Here | None:
    """Return the server of this directory if it has this URL: jobs are given only its URL."""
    try:
        found = find(cwd, trusted)
    except Forbidden:
        return None
    if found.server is None or not _is_same(found.server.url, url):
        return None
    return _Here(found.server, Path(found.database).parent / server_file.FILE)


def find(cwd: Path, trusted: Collection[Path] = ()) -> Connection:
    """Find the nearest `.torc/` at or above a directory that belongs to the caller or is trusted."""
    notes = []
    for directory in (cwd, *cwd.parents):
        candidate = directory / DIRECTORY
        try:
            info = candidate.lstat()
        except OSError:
            continue
        if stat.S_ISLNK(info.st_mode) or not stat.S_ISDIR(info.st_mode):
            notes.append(f"{candidate} is a symbolic link or not a directory: skipped")
        elif info.st_uid != os.geteuid() and candidate not in trusted:
            notes.append(f"{candidate} belongs to another user: skipped")
            if directory == cwd:
                raise Forbidden(
                    f"{candidate} belongs to another user",
                    hint="work in another directory, choose a database with --db, or add it to the setting `trusted`",
                )
        else:
            database = candidate / DATABASE
            server = server_file.read(candidate)
            if server is not None and not server.is_alive():
                notes.append(
                    f"the server of {candidate} is no longer running: using its database (`torc server start` starts a new one)"
                )
                server = None
            return Connection(str(database), database.exists(), tuple(notes), server)
    return Connection(str(cwd / DIRECTORY / DATABASE), False, tuple(notes))


def shared_file_system(path: Path) -> str | None:
    """Return the network file system that a path is or will be on; None if it is local or unknown."""
    network_file_system = importlib.import_module("torc.store.engine").network_file_system
    there = next(parent for parent in (path, *path.parents) if parent.is_dir())
    found: str | None = network_file_system(there)
    return found


def user_name() -> str:
    """Return the name of the user who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def make_directory(directory: Path) -> None:
    """Create a `.torc/` that only the caller can read. Raises Invalid."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        ignore = directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise Invalid(
            f"cannot create {directory}: {error.strerror}",
            hint="work in a directory of your own, or choose a database with --db",
        ) from None
