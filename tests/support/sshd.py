"""Real sshds on loopback with keys of the test's own, and the configuration by which ssh finds them."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.running import is_alive
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]


def program(name: str) -> str:
    """Return the path of a program of OpenSSH. Raises RuntimeError, which says what to install."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError(f"these tests need {name}: apt-get install openssh-server openssh-client")
    return found


def make_key(path: Path) -> Path:
    """Make a key without a passphrase."""
    words = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return path


@dataclass
class Sshd:
    """An sshd that this user may log in to with `key`, and whose sessions have `environ`."""

    folder: Path
    key: Path
    environ: dict[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.host_key = make_key(self.folder / "host_key")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        allowed = self.folder / "authorized_keys"
        shutil.copyfile(self.key.with_suffix(".pub"), allowed)
        # an sshd that root runs keeps its unprivileged part here; Debian's service makes it when it starts
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            "PidFile none",
            "UsePAM no",
            f"AuthorizedKeysFile {allowed}",
            "StrictModes no",
            "PasswordAuthentication no",
            "PermitRootLogin yes",
            "KbdInteractiveAuthentication no",
            "LogLevel VERBOSE",
            "UseDNS no",
            "MaxStartups 100",
            "MaxSessions 100",
            "SetEnv " + " ".join(f'"{name}={value}"' for name, value in self.environ.items()) if self.environ else "",
            *self.settings,
        ]
        self.config = self.folder / "sshd_config"
        self.config.write_text("\n".join(lines) + "\n")
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Begin, and wait until it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [program("sshd"), "-D", "-e", "-f", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._listens, what=f"sshd listens: {self.log.read_text()}")

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End it, with the sessions that it holds."""
        if self._process is not None:
            self.cut()
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def cut(self) -> None:
        """End the sessions that it holds at once, as when a network breaks; new ones are taken."""
        sessions = self.sessions()
        for pid in sessions:
            subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)
        wait_until(lambda: not any(map(is_alive, sessions)), what="the sessions have ended")

    def sessions(self) -> list[int]:
        """Return the processes that serve connections, those that run as a user too."""
        assert self._process is not None
        found, waiting = [], [self._process.pid]
        while waiting:
            pid = waiting.pop()
            try:
                children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            except OSError:
                continue
            daemons = [child for child in children if _name(child) == "sshd" or _name(child).startswith("sshd-")]
            found += daemons
            waiting += daemons
        return found

    def as_host(self, name: str, known_hosts: Path, *settings: str) -> str:
        """Return the entry of ssh_config by which it is called `name`; its key is entered in `known_hosts`."""
        public = self.host_key.with_suffix(".pub").read_text().split()[:2]
        with known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{self.port} {' '.join(public)}\n")
        lines = [
            f"Host {name}",
            "HostName 127.0.0.1",
            f"Port {self.port}",
            f"User {getpass.getuser()}",
            f"IdentityFile {self.key}",
            "IdentitiesOnly yes",
            "IdentityAgent none",
            f"UserKnownHostsFile {known_hosts}",
            "GlobalKnownHostsFile /dev/null",
            *settings,
        ]
        return "\n  ".join(lines) + "\n"


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def far_program(folder: Path, version: str | None = None) -> Path:
    """Make the `torc` of a far side: this one, or one that says it has another version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "torc"
    other = f'[ "$1" = --version ] && {{ echo "torc {version}"; exit; }}\n' if version else ""
    path.write_text(f'#!/bin/sh\n{other}PYTHONPATH={ROOT} exec {sys.executable} -m torc.cli.main "$@"\n')
    path.chmod(0o755)
    return path
