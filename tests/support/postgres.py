"""A private PostgreSQL for tests: a cluster in a temporary folder that listens on a Unix socket only.

It is started by the first test that needs it and stopped when the test process ends. PostgreSQL refuses to run as
root: then it runs as the user `postgres`, whom Debian's package makes.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: durability is of no use to a test
_SETTINGS = "fsync=off synchronous_commit=off full_page_writes=off max_connections=60 shared_buffers=32MB"


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL."""

    directory: Path
    programs: Path

    def url(self, database: str = "postgres") -> str:
        """Return the URL of one of its databases."""
        return f"postgresql+psycopg://torc@/{database}?host={self.directory}"

    def restart(self) -> None:
        """Kill it as a crash would, and begin it again."""
        self.kill()
        self.begin()

    def kill(self) -> None:
        """Kill it as a crash would."""
        _run(self.programs / "pg_ctl", "-D", str(self.directory / "data"), "-m", "immediate", "-w", "stop")

    def begin(self) -> None:
        """Begin it again."""
        data, log = str(self.directory / "data"), str(self.directory / "log")
        _run(self.programs / "pg_ctl", "-D", data, "-o", _options(self.directory), "-l", log, "-w", "start")

    def stop(self) -> None:
        """Stop it and remove its folder."""
        _run(self.programs / "pg_ctl", "-D", str(self.directory / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.directory)


def start_postgres() -> Cluster:
    """Make and start a cluster. Raises RuntimeError, which says what to install, where there is no PostgreSQL."""
    programs = _programs()
    directory = Path(tempfile.mkdtemp(prefix="torc-pg-", dir="/tmp"))  # a socket's path must be short
    user = _user()
    if user is not None:
        os.chown(directory, user.pw_uid, user.pw_gid)
    data = str(directory / "data")
    _run(programs / "initdb", "-D", data, "-U", "torc", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
    _run(programs / "pg_ctl", "-D", data, "-o", _options(directory), "-l", str(directory / "log"), "-w", "start")
    return Cluster(directory, programs)


def _options(directory: Path) -> str:
    settings = " ".join(f"-c {setting}" for setting in _SETTINGS.split())
    return f"-c listen_addresses= -k {directory} {settings}"


def _programs() -> Path:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None:
        raise RuntimeError("these tests need PostgreSQL: apt-get install postgresql")
    return Path(initdb).resolve().parent


def _user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise RuntimeError("PostgreSQL refuses to run as root: make a user `postgres`, or be another user") from None


def _run(program: Path, *arguments: str) -> None:
    user = _user()
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    done = subprocess.run(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if program.name == "initdb" else subprocess.DEVNULL,  # the server keeps pg_ctl's open
        stderr=subprocess.STDOUT,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        check=False,
        **identity,
    )
    if done.returncode:
        raise RuntimeError(f"{program.name} failed ({done.returncode}): {(done.stdout or b'').decode()}")
