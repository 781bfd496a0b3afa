"""Starts, stops and looks at a sandbox: a private Slurm cluster on loopback (munge, MariaDB, slurmdbd, slurmctld, some slurmds).

The work is done by `cluster.sh` beside this file; here are its settings, which a sandbox keeps in its folder, and what
it answers. Not for talking to clusters: that is `torc.schedulers.slurm.commands`, to which a sandbox is like any other.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from torc.errors import Conflict, Invalid, NotFound, Unavailable

_SCRIPT = Path(__file__).with_name("cluster.sh")
_FILE = "sandbox.json"
#: of a Unix socket's path (unix(7): 108), less what Slurm appends: spool/NODE/NODE_JOBID.4294967295
_LONGEST_FOLDER = 107 - 45
#: below the ports that the kernel gives to clients
_PORTS = range(17_000, 30_000)
_NODE_PORTS_AT = 10
_SECONDS = 600
Say = Callable[[str], None]


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What a sandbox is made of. `port_base` 0: the first free one. Nodes are named by `prefix` and a number."""

    port_base: int = 0
    prefix: str = "n"
    nodes: int = 3
    cpus: int = 4
    memory_mb: int = 4000
    gpus: int = 2
    gpu_type: str = ""
    cgroup: Literal["auto", "on", "off"] = "auto"
    accounting: bool = True
    slurmd_timeout: int = 15
    kill_wait: int = 2
    cred_expire: int = 5
    message_timeout: int = 10
    extra_conf: str = ""

    def check(self) -> None:
        """Raise Invalid where a cluster cannot be made so."""
        if not self.prefix.isalpha() or not self.prefix.isascii() or not self.prefix.islower():
            raise Invalid(f"nodes cannot be named `{self.prefix}1`", hint="a prefix is of lower-case letters")
        for name, value, least, most in (
            ("nodes", self.nodes, 1, 64),
            ("cpus", self.cpus, 1, 1024),
            ("memory_mb", self.memory_mb, 100, 1 << 24),
            ("gpus", self.gpus, 0, 64),
        ):
            if not least <= value <= most:
                raise Invalid(f"{name} is {value}", hint=f"choose from {least} to {most}")


@dataclass(frozen=True, slots=True)
class Daemon:
    """One of the programs that a cluster consists of; `pid` is None where it does not run."""

    name: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """How a sandbox is: its daemons, and the states of nodes as Slurm tells them (empty while no controller answers)."""

    daemons: tuple[Daemon, ...]
    nodes: dict[str, str]

    @property
    def is_running(self) -> bool:
        """Return whether all of it runs."""
        return all(daemon.pid for daemon in self.daemons) and bool(self.nodes)

    @property
    def is_stopped(self) -> bool:
        """Return whether nothing of it runs."""
        return not any(daemon.pid for daemon in self.daemons)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A cluster in a folder of its own. Methods raise Unavailable, with the words of what failed."""

    folder: Path
    settings: SandboxSettings

    @property
    def conf(self) -> Path:
        """The configuration that clients of this cluster need."""
        return self.folder / "etc" / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What to set so that Slurm's commands mean this cluster."""
        return {"SLURM_CONF": str(self.conf)}

    def node(self, number: int) -> str:
        """Name a node; numbers begin with 1."""
        return f"{self.settings.prefix}{number}"

    @property
    def nodes(self) -> tuple[str, ...]:
        """Name all nodes."""
        return tuple(self.node(number) for number in range(1, self.settings.nodes + 1))

    def start(self, say: Say = _silent, *, install: bool = True) -> None:
        """Start what does not run yet, after installing packages that are missing where that is allowed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _FILE).write_text(json.dumps(asdict(self.settings), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise Unavailable(
                f"cannot write to {self.folder}: {error.strerror}", hint="name another --folder"
            ) from None
        self._do("start", say=say, install=install)

    def stop(self, say: Say = _silent) -> None:
        """Cancel all jobs and stop all daemons. What is on disk stays."""
        self._do("stop", say=say)

    def remove(self, say: Say = _silent) -> None:
        """Stop it, and delete all that it has on disk."""
        self._do("clean", say=say)
        (self.folder / _FILE).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def status(self) -> SandboxStatus:
        """Look how it is."""
        daemons, nodes = [], {}
        for line in self._do("status").splitlines():
            kind, _, rest = line.partition("\t")
            name, _, value = rest.partition("\t")
            if kind == "daemon":
                daemons.append(Daemon(name, int(value) if value else None))
            elif kind == "node":
                nodes[name] = value
        return SandboxStatus(tuple(daemons), nodes)

    def start_node(self, name: str) -> None:
        """Start the daemon of a node. Raises NotFound, as the next two do."""
        self._do("node-start", self._known(name))

    def stop_node(self, name: str) -> None:
        """End the daemon of a node as an administrator would; its tasks go on."""
        self._do("node-stop", self._known(name))

    def kill_node(self, name: str) -> None:
        """End the daemon of a node as a crash would; its tasks go on."""
        self._do("node-kill", self._known(name))

    def start_controller(self) -> None:
        """Start slurmctld."""
        self._do("controller-start")

    def stop_controller(self) -> None:
        """End slurmctld: commands hang and then fail, jobs run on."""
        self._do("controller-stop")

    def _known(self, name: str) -> str:
        if name not in self.nodes:
            raise NotFound(f"the sandbox has no node `{name}`", hint=f"it has {', '.join(self.nodes)}")
        return name

    def _do(self, *arguments: str, say: Say = _silent, install: bool = False) -> str:
        said: list[str] = []
        with subprocess.Popen(
            ["bash", str(_SCRIPT), *arguments],
            env={**os.environ, **_variables(self.folder, self.settings, install)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            for line in process.stderr:
                said.append(line.rstrip())
                if not line.startswith("ERROR: "):
                    say(line.rstrip())
            output = process.stdout.read()
        if process.returncode:
            words = next((line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")), "")
            raise Unavailable(
                f"the sandbox in {self.folder} cannot {arguments[0].replace('-', ' ')}: {words or said[-1:]}",
                hint=f"its logs are in {self.folder / 'log'}; `torc hpc sandbox stop` ends what of it runs",
            )
        return output


def create(folder: Path, settings: SandboxSettings) -> Sandbox:
    """Describe a sandbox that `start` will make; one that is there keeps its ports.

    Raises Invalid, or Conflict where one of other settings runs.
    """
    settings.check()
    folder = folder.absolute()
    if len(str(folder)) > _LONGEST_FOLDER:
        raise Invalid(
            f"{folder} is too long for the sockets of Slurm", hint=f"at most {_LONGEST_FOLDER} characters: use --folder"
        )
    if (folder / _FILE).exists():
        there = find(folder)
        settings = replace(settings, port_base=settings.port_base or there.settings.port_base)
        is_stopped = there.status().is_stopped
        if settings != there.settings and not is_stopped:
            raise Conflict(f"the sandbox in {folder} runs with other settings", hint="stop it first")
        if is_stopped and settings.port_base == there.settings.port_base and not _are_free(settings):
            settings = replace(settings, port_base=0)  # somebody else has taken them meanwhile
    if not settings.port_base:
        settings = replace(settings, port_base=_free_ports(settings.nodes))
    return Sandbox(folder, settings)


def find(folder: Path) -> Sandbox:
    """Return the sandbox of a folder, as it was started. Raises NotFound or Invalid."""
    path = folder.absolute() / _FILE
    try:
        return Sandbox(folder.absolute(), SandboxSettings(**json.loads(path.read_text(encoding="utf-8"))))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"there is no sandbox in {folder}", hint="`torc hpc sandbox start` makes one") from None
    except (ValueError, TypeError) as error:
        raise Invalid(f"{path} does not describe a sandbox: {error}", hint="delete it, and start anew") from None


def settings_of(folder: Path) -> SandboxSettings:
    """Return the settings that the sandbox of a folder was made with; the usual ones where there is none. Raises Invalid."""
    try:
        return find(folder).settings
    except NotFound:
        return SandboxSettings()


def default_folder() -> Path:
    """Return the folder of a user's own sandbox."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "torc" / "slurm-sandbox"


def usual_folder() -> Path:
    """Return the folder of the sandbox that Slurm's commands mean in this shell, else of the user's own."""
    conf = os.environ.get("SLURM_CONF")
    folder = Path(conf).parent.parent if conf else None
    return folder if folder is not None and (folder / _FILE).is_file() else default_folder()


def _free_ports(nodes: int) -> int:
    """Find a base whose ports are all free; by chance, so that two that look at once do not find the same."""
    span = _NODE_PORTS_AT + nodes + 1
    for _ in range(200):
        base = random.randrange(_PORTS.start, _PORTS.stop - span, 100)
        if _are_free(SandboxSettings(port_base=base, nodes=nodes)):
            return base
    raise Unavailable("no ports are free for a sandbox", hint="name some with --port-base")


def _are_free(settings: SandboxSettings) -> bool:
    base = settings.port_base
    first = base + _NODE_PORTS_AT + 1
    return all(map(_is_free, [base, base + 1, base + 2, *range(first, first + settings.nodes)]))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _variables(folder: Path, settings: SandboxSettings, install: bool) -> dict[str, str]:
    names = {"cred_expire", "message_timeout", "slurmd_timeout", "kill_wait", "gpu_type", "extra_conf", "port_base"}
    plain = {
        name: getattr(settings, name) for name in (*names, "prefix", "nodes", "cpus", "gpus", "cgroup", "memory_mb")
    }
    values = {**plain, "dir": folder, "accounting": int(settings.accounting), "install": int(install)}
    return {f"TORC_SANDBOX_{name.upper()}": str(value) for name, value in values.items()}
