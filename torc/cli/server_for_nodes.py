"""Which server the runners on a cluster's nodes are to ask: the one that is named, one that runs, or one that is started."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from torc.cli import rendering
from torc.cli.session import SESSION, torc_folder
from torc.client import server_file
from torc.client.connect import shared_file_system, user_name
from torc.errors import Invalid, TorcError
from torc.schedulers.base import Capability, Scheduler
from torc.urls import LOOPBACK

_HOW = "--start-server starts one that they can reach; --server URL names one; --no-server where they share the database's folder"


def choose_server(named: str | None, start: bool, scheduler: Scheduler, *, without: bool = False) -> str:
    """Have this command use a server that the nodes can reach, and say which. Raises Invalid where there is none.

    Without one, the nodes open the database file themselves, where it is on a file system that they share.
    """
    url, db = SESSION.settings.place()
    if without:
        if named or start:
            raise Invalid(
                "--no-server cannot be combined with --server or --start-server", hint="leave one of them out"
            )
        return _database_alone(db, scheduler)
    url = named or url
    if url is not None:
        _check(url, "--server" if named else "as set", scheduler)
        _use(url)
        return f"server: {url}"
    if db is not None and "://" in db and "sqlite" not in db.partition("://")[0]:
        return "no server: the nodes use the database directly"
    found = server_file.read(torc_folder())
    if found is not None and found.is_alive():
        if start and not _reaches(found.url, scheduler):
            raise Invalid(
                f"the server that runs here, {found.url}, cannot be reached from the nodes",
                hint="end it first: torc server stop",
            )
        _check(found.url, "it runs here", scheduler)
        _use(found.url)
        return f"server: {found.url} (it runs on {found.host}, for this directory)"
    here = nodes_are_here(scheduler)
    if not (start or here):
        if shared_file_system(_database(db)) is not None:
            return _database_alone(db, scheduler)
        raise Invalid("the nodes need a server to ask for jobs, and none runs for this directory", hint=_HOW)
    return f"server: {_start(here)} (started now; `torc server stop` ends it when all is done)"


def _database_alone(db: str | None, scheduler: Scheduler) -> str:
    """Have the nodes open the database, and say so. Raises Invalid where they could not: SQLite's locks end with the machine."""
    if db is not None and "://" in db and "sqlite" not in db.partition("://")[0]:
        return "no server: the nodes use the database directly"
    path = _database(db)
    shared = shared_file_system(path)
    if shared is None and not nodes_are_here(scheduler):
        raise Invalid(
            f"{path} is on a file system that is not known to be shared with the nodes",
            hint=f"put the database on one (--db /shared/torc.db), or use a server: {_HOW}",
        )
    SESSION.options["db"] = str(path)
    SESSION.options.pop("url", None)
    SESSION.load()
    where = (
        ""
        if shared is None
        else f", on {shared}: suitable for a few dozen runners; for more, use a server (--start-server)"
    )
    return f"no server: the nodes open {path} themselves{where}"


def _database(db: str | None) -> Path:
    if db is None:
        return (torc_folder(make=False) / "torc.db").absolute()
    return Path(db.removeprefix("sqlite:///")).expanduser().absolute()


def foreseen_server(named: str | None) -> str:
    """Return the server URL to show for runners; a placeholder if the server is not started yet."""
    url, _ = SESSION.settings.place()
    found = server_file.read(torc_folder(make=False))
    return named or url or (found.url if found is not None and found.is_alive() else "http://SERVER:PORT")


def _use(url: str) -> None:
    SESSION.options["url"] = url
    SESSION.options.pop("db", None)
    SESSION.load()


def _check(url: str, whose: str, scheduler: Scheduler) -> None:
    if not _reaches(url, scheduler):
        raise Invalid(f"the nodes cannot reach {url} ({whose}): that is this machine alone", hint=_HOW)


def _reaches(url: str, scheduler: Scheduler) -> bool:
    return (urlsplit(url).hostname or "") not in LOOPBACK or nodes_are_here(scheduler)


def nodes_are_here(scheduler: Scheduler) -> bool:
    """Return whether all nodes of the cluster are this machine, as in a sandbox."""
    if Capability.DISCOVERY not in scheduler.capabilities:
        return False
    try:
        nodes = scheduler.node_addresses()
    except TorcError:
        return False
    mine = LOOPBACK | {socket.gethostname(), socket.getfqdn()}
    return bool(nodes) and all(names & mine for names in nodes)


def _start(here: bool) -> str:
    """Start a server: on loopback where that reaches the nodes, else on all addresses, where everybody shows a token."""
    from torc.cli.commands.server import begin

    if not here:
        _have_account()
    found, _ = begin("127.0.0.1" if here else "0.0.0.0")
    if not here:
        rendering.note(
            "note: tokens go over the cluster's network in the clear; `torc server start --tls-cert` avoids that"
        )
    _use(found.url)
    return found.url


def _have_account() -> None:
    """See that somebody can sign in to a server that others reach: you."""
    from torc.api.users import CreateUser, ListUsers
    from torc.cli.connection import torc

    with torc() as opened:
        opened_: Any = opened
        if not opened_.send(ListUsers(limit=1)).items:
            opened_.send(CreateUser(name=user_name(), is_admin=True))
            rendering.note(f"note: made the account {user_name()}, without a password, for whom the runners act")
