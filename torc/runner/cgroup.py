"""Control groups of attempts (cgroups(7)): the kernel's own sum over all that a job starts, and its limit on memory.

Used where the node lets this process make groups: version 2 where the group of the runner was delegated to it
(https://docs.kernel.org/admin-guide/cgroup-v2.html#delegation), version 1 where its memory group can be written. An attempt
enters its group itself, at the very beginning, by a shell: nothing else has to know of groups. Where none can be made, nothing
changes: trees are watched (`proc`). Not for finding out what this process may use (`hardware`).
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from torc.runner.hardware import start_ticks

_LOG = logging.getLogger(__name__)
_PROC = Path("/proc/self")
#: enters the group that $0 names, and becomes the program
_ENTER = 'echo 0 > "$0" 2>/dev/null; exec "$@"'
_RUNNER, _PREFIX = "torc-runner", "torc-"


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    """What the kernel counted in a group.

    `memory_bytes`: what is there now and cannot be given up: memory of processes, shared memory, and files in memory (tmpfs).
    The kernel keeps a peak only of that and the cache of files together.
    """

    memory_bytes: int = 0
    peak_with_cache_bytes: int = 0
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class _Names:
    """How the two versions call things."""

    peak: str
    limit: str
    events: str
    kept: tuple[str, ...]  # lines of memory.stat that are no cache of files on disk
    more_limits: tuple[tuple[str, str], ...]  # written beside the limit, where they are there; {}: the limit itself


_V2 = _Names(
    "memory.peak",
    "memory.max",
    "memory.events",
    ("anon", "shmem"),
    (("memory.swap.max", "0"), ("memory.oom.group", "1")),
)
_V1 = _Names(
    "memory.max_usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.oom_control",
    ("total_rss", "total_shmem"),
    (("memory.memsw.limit_in_bytes", "{}"),),
)


class Cgroup:
    """The group of one attempt."""

    def __init__(self, path: Path, names: _Names, limit_bytes: int | None) -> None:
        self.path, self.limit_bytes = path, limit_bytes
        self._names = names

    def entering(self, argv: list[str]) -> list[str]:
        """Return the program that enters the group and becomes the given one."""
        return ["/bin/sh", "-c", _ENTER, str(self.path / "cgroup.procs"), *argv]

    def account(self) -> CgroupUsage:
        """Read what was counted."""
        return CgroupUsage(self.memory_bytes(), _number(self.path / self._names.peak), self.num_kills())

    def memory_bytes(self) -> int:
        """Read what is in it now but for the cache of files; 0 where the kernel does not tell."""
        return kept_bytes(_text(self.path / "memory.stat"), self._names.kept)

    def num_kills(self) -> int:
        """Count the processes in it that the kernel killed for want of memory."""
        return _table(self.path / self._names.events).get("oom_kill", 0)

    def remove(self) -> bool:
        """Remove the group; False while something is in it still."""
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class Groups:
    """Makes groups below that of this process, and removes them."""

    def __init__(self, root: Path, names: _Names, mark: str, home: Path | None = None) -> None:
        self.root = root
        self._names, self._mark, self._home = names, mark, home
        self._ended: list[Cgroup] = []

    def make(self, key: int, limit_bytes: int | None) -> Cgroup | None:
        """Make a group; None where the system refuses (a limit on their number, for one)."""
        path = self.root / f"{_PREFIX}{self._mark}-{key}"
        try:
            path.mkdir()
            if limit_bytes is not None:
                _write(path / self._names.limit, str(limit_bytes))
                for name, value in self._names.more_limits:
                    if (path / name).exists():
                        _write(path / name, value.format(limit_bytes))
        except OSError as error:
            _LOG.warning("no control group for an attempt: %s: %s", path, error.strerror)
            with contextlib.suppress(OSError):
                path.rmdir()
            return None
        return Cgroup(path, self._names, limit_bytes)

    def drop(self, group: Cgroup) -> None:
        """Remove a group whose attempt has ended, now or later."""
        self._ended = [each for each in [*self._ended, group] if not each.remove()]

    def close(self) -> None:
        """Remove what is left, and leave this process where it was."""
        self._ended = [each for each in self._ended if not each.remove()]
        if self._home is not None:
            with contextlib.suppress(OSError):
                _write(self.root / "cgroup.subtree_control", "-memory")
                for pid in (self._home / "cgroup.procs").read_text(encoding="ascii").split():
                    _write(self.root / "cgroup.procs", pid)
                self._home.rmdir()


def kept_bytes(stat: str, kept: tuple[str, ...]) -> int:
    """Sum up lines of a memory.stat."""
    table = _numbers(stat)
    return sum(table.get(name, 0) for name in kept)


def delegated(mark: str, *, for_limits: bool = True) -> Groups | None:
    """Return where groups can be made with an account of memory; None: nowhere.

    Groups of version 1 are for limits alone: root may always make them, which nobody has meant as an invitation, and a move
    into one waits a millisecond for the kernel, as long as a short job takes.
    """
    mounts = _mounts()
    for controllers, path in _own_groups():
        if controllers == "" and "cgroup2" in mounts:
            found = _second(_at(mounts["cgroup2"], path), mark)
        elif for_limits and "memory" in controllers.split(",") and "memory" in mounts:
            found = _first(_at(mounts["memory"], path), mark)
        else:
            continue
        if found is not None:
            return found
    return None


def _second(group: Path, mark: str) -> Groups | None:
    """Look at a group of version 2: it has to hand out `memory`, and only a group without processes of its own may."""
    if "memory" not in _words(group / "cgroup.controllers"):
        return None
    if "memory" in _words(group / "cgroup.subtree_control"):
        return _tried(Groups(group, _V2, mark))
    own = str(os.getpid())
    if _words(group / "cgroup.procs") != [own]:
        return None  # others live in it: it is not ours to change
    home = group / f"{_RUNNER}-{mark}"
    try:
        home.mkdir()
        _write(home / "cgroup.procs", own)
        _write(group / "cgroup.subtree_control", "+memory")
    except OSError:
        with contextlib.suppress(OSError):
            _write(group / "cgroup.procs", own)
            home.rmdir()
        return None
    made = Groups(group, _V2, mark, home)
    found = _tried(made)
    if found is None:
        made.close()  # as it was: no runner is to be left in a group of its own
    return found


def _first(group: Path, mark: str) -> Groups | None:
    """Look at the memory group of version 1."""
    return _tried(Groups(group, _V1, mark))


def _tried(groups: Groups) -> Groups | None:
    """Make a group to see whether that can be done, and processes moved into it."""
    _remove_of_the_dead(groups.root)
    probe = groups.root / f"{_PREFIX}{groups._mark}"
    try:
        probe.mkdir()
        is_ours = os.access(probe / "cgroup.procs", os.W_OK) and os.access(groups.root / "cgroup.procs", os.W_OK)
        is_whole = (probe / groups._names.peak).exists() or groups._names is _V1
        probe.rmdir()
    except OSError:
        return None
    return groups if is_ours and is_whole else None


def _remove_of_the_dead(root: Path) -> None:
    """Remove groups of runners that were killed: their names begin with who they were (`hardware.mark`)."""
    for path in root.glob(f"{_PREFIX}*"):
        pid, _, rest = path.name.removeprefix(f"{_RUNNER}-").removeprefix(_PREFIX).partition(".")
        ticks = rest.partition("@")[0]
        if pid.isdigit() and ticks.isdigit() and start_ticks(int(pid)) != int(ticks):
            with contextlib.suppress(OSError):  # something is in it
                path.rmdir()


def _own_groups() -> list[tuple[str, str]]:
    """Return the groups of this process: (controllers, path); version 2 has no controllers here."""
    found = []
    for line in _text(_PROC / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        found.append((controllers, path))
    return sorted(found, key=lambda entry: entry[0] != "")


def _mounts() -> dict[str, tuple[str, Path]]:
    """Return where hierarchies are mounted (proc_pid_mountinfo(5)): by controller, or `cgroup2`; with the group that is shown."""
    found: dict[str, tuple[str, Path]] = {}
    for line in _text(_PROC / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        fields = before.split(" ")
        if kind == "cgroup2":
            found.setdefault("cgroup2", (fields[3], Path(fields[4])))
        elif kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, (fields[3], Path(fields[4])))
    return found


def _at(mount: tuple[str, Path], path: str) -> Path:
    shown, where = mount
    inside = path[len(shown) :] if shown != "/" and path.startswith(shown) else path
    return where / inside.lstrip("/")


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _table(path: Path) -> dict[str, int]:
    return _numbers(_text(path))


def _numbers(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(text)
