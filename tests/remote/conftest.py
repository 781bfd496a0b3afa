"""Fixtures of the machines that are reached over SSH: two sshds on loopback, one reached through the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.sshd import Sshd, far_program, make_key
from torc.remote.ssh import Options, Ssh


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
    """Give two sshds and the configuration of a user who may use them."""
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
    """Give connections by that configuration."""
    opened = Ssh(Options(config=net.config, connect_seconds=10))
    yield opened
    opened.close()
