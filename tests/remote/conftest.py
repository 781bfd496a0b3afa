"""Fixtures of the machines that are reached over SSH: two sshds on loopback, one reached through the other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import is_alive, store, wait_until
from tests.support.serving import start
from tests.support.sshd import Sshd, far_program, make_key
from tests.support.stores import check_all, open_sqlite
from torc.api.remote_workers import AddRemoteWorkers, NewRemoteWorker, RemoteWorker
from torc.api.workflows import GetWorkflow
from torc.client.embedded import Embedded
from torc.client.remote import Remote
from torc.remote import workers
from torc.remote.scripts import StoreAddress
from torc.remote.ssh import Options, Ssh
from torc.remote.worker_status import WorkerStatus
from torc.remote.workers import RemoteAccess, WorkerOptions
from torc.server.authentication import Authentication


@dataclass
class Net:
    """`far` is reached at once, `behind` through `far` only by its own alias; `config` is an ssh_config."""

    folder: Path
    far: Sshd
    other: Sshd
    config: Path
    known_hosts: Path
    state: Path
    home: Path

    def add(self, entry: str) -> None:
        """Add to the ssh_config."""
        with self.config.open("a") as file:
            file.write(entry)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    """Yield two sshds and the configuration of a user who may use them."""
    folder = tmp_path / "net"
    folder.mkdir()
    key = make_key(folder / "id_test")
    home, state = folder / "home", folder / "state"
    home.mkdir()
    programs = far_program(folder / "bin").parent
    environ = {"HOME": str(home), "XDG_STATE_HOME": str(state), "PATH": f"{programs}:/usr/bin:/bin"}
    far = Sshd(folder / "far", key, environ)
    other = Sshd(folder / "other", key, environ)
    known_hosts, config = folder / "known_hosts", folder / "ssh_config"
    config.write_text(
        far.as_host("far", known_hosts)
        + other.as_host("other", known_hosts)
        + other.as_host("behind", known_hosts, "ProxyJump far")
    )
    yield Net(folder, far, other, config, known_hosts, state, home)
    far.stop()
    other.stop()


@pytest.fixture
def ssh(net: Net) -> Iterator[Ssh]:
    """Yield connections by that configuration."""
    opened = Ssh(Options(config=net.config, connect_seconds=10))
    yield opened
    opened.close()


@dataclass
class Far:
    """A server, and machines that are to work for it."""

    net: Net
    torc: Remote
    reach: RemoteAccess
    store: StoreAddress
    database: Embedded
    folder: Path

    def workflow(self, *jobs: dict[str, Any], **fields: Any) -> int:
        """Store a workflow whose directory is there on the machines too."""
        return store(self.torc, self.folder, jobs, **fields)

    def add(self, workflow_id: int, *hosts: str, **fields: Any) -> list[RemoteWorker]:
        """Add machines to a workflow."""
        new = [NewRemoteWorker(host=host, **fields) for host in hosts]
        return self.torc.send(AddRemoteWorkers(workflow_id=workflow_id, workers=new))

    def start(self, workflow_id: int, *hosts: str, **options: Any) -> dict[str, WorkerStatus]:
        """Start workers; returns what is told of each."""
        found = workers.list_workers(self.torc, workflow_id, hosts)
        told = workers.start(self.torc, workflow_id, found, self.store, self.reach, WorkerOptions(**options))
        return {report.host: report for report in told}

    def status(self, workflow_id: int, *hosts: str) -> dict[str, WorkerStatus]:
        """Look how workers are."""
        found = workers.list_workers(self.torc, workflow_id, hosts)
        return {report.host: report for report in workers.status(self.torc, workflow_id, found, self.reach)}

    def stop(self, workflow_id: int, *hosts: str, grace_seconds: int = 30) -> dict[str, WorkerStatus]:
        """End workers."""
        found = workers.list_workers(self.torc, workflow_id, hosts)
        told = workers.stop(self.torc, workflow_id, found, self.reach, grace_seconds)
        return {report.host: report for report in told}

    def wait_for(self, workflow_id: int, state: str) -> None:
        """Wait until a workflow has a state."""
        ask = GetWorkflow(workflow_id=workflow_id)
        wait_until(lambda: self.torc.send(ask).state == state, f"workflow {workflow_id} is {state}")


@pytest.fixture
def far(net: Net, ssh: Ssh, sqlite_file: Path, tmp_path: Path) -> Iterator[Far]:
    """Yield a server on loopback and the machines of `net`; afterwards no worker is left, and every invariant holds."""
    database = open_sqlite(sqlite_file, tmp_path)
    serving = start(database.store, Authentication("the-owners-token").identity(database.store))
    torc = Remote(serving.url, token="the-owners-token")
    folder = tmp_path / "work"
    folder.mkdir()
    reach = RemoteAccess(ssh, parallel=4, seconds=60)
    yield Far(
        net,
        torc,
        reach,
        StoreAddress(serving.url, {"TORC_API_URL": serving.url, "TORC_TOKEN": "the-owners-token"}),
        database,
        folder,
    )
    _end_workers(net)
    torc.close()
    serving.stop()
    check_all(database)
    database.close()


def _end_workers(net: Net) -> None:
    """End what a test has left: workers outlive the connections over which they were begun."""
    for found in net.state.glob("torc/workers/*/process"):
        pid = int(found.read_text().split()[1])
        while is_alive(pid):
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
