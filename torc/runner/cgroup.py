"""Control groups of attempts (cgroups(7)): kernel accounting for everything that a job starts, and its memory limit.

Used where this process may create groups: in version 2, where the runner's group was delegated to it
(https://docs.kernel.org/admin-guide/cgroup-v2.html#delegation); in version 1, where its memory group is writable. An attempt
enters its group itself through a shell before anything else, so nothing else has to know about groups. Where no group can be
created, process trees are sampled instead (`proc`). What this process itself may use is in `hardware`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from torc.processes import start_ticks

_LOG = logging.getLogger(__name__)
_PROC = Path("/proc/self")
#: enters the group named by $0, then execs the program
_ENTER = 'echo 0 > "$0" 2>/dev/null; exec "$@"'
_RUNNER, _PREFIX = "torc-runner", "torc-"


@dataclass(frozen=True, slots=True)
class CgroupUsage:
    """The kernel's accounting for a group.

    `memory_bytes`: current memory that cannot be reclaimed: process memory, shared memory and tmpfs files. The kernel keeps a
    peak only for the sum of that and the page cache.
    """

    memory_bytes: int = 0
    peak_with_cache_bytes: int = 0
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class _VersionNames:
    """The file names and keys of one cgroup version."""

    peak: str
    limit: str
    events: str
    kept: tuple[str, ...]  # keys of memory.stat that do not count as page cache
    more_limits: tuple[tuple[str, str], ...]  # also written where they exist; {} stands for the limit itself


_V2 = _VersionNames(
    "memory.peak",
    "memory.max",
    "memory.events",
    ("anon", "shmem"),
    (("memory.swap.max", "0"), ("memory.oom.group", "1")),
)
_V1 = _VersionNames(
    "memory.max_usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.oom_control",
    ("total_rss", "total_shmem"),
    (("memory.memsw.limit_in_bytes", "{}"),),
)


class Cgroup:
    """The group of one attempt."""

    def __init__(self, path: Path, names: _VersionNames, limit_bytes: int | None) -> None:
        self.path, self.limit_bytes = path, limit_bytes
        self._names = names

    def entering(self, argv: list[str]) -> list[str]:
        """Return a command that enters the group and then execs `argv`."""
        return ["/bin/sh", "-c", _ENTER, str(self.path / "cgroup.procs"), *argv]

    def account(self) -> CgroupUsage:
        return CgroupUsage(self.memory_bytes(), _number(self.path / self._names.peak), self.num_kills())

    def memory_bytes(self) -> int:
        """Return the memory in use without the page cache; 0 where the kernel does not report it."""
        return kept_bytes(_text(self.path / "memory.stat"), self._names.kept)

    def num_kills(self) -> int:
        """Return how many processes in the group were killed by the OOM killer."""
        return _table(self.path / self._names.events).get("oom_kill", 0)

    def remove(self) -> bool:
        """Remove the group; return False while it still has processes."""
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class Groups:
    """Creates and removes groups below the group of this process."""

    def __init__(self, root: Path, names: _VersionNames, mark: str, home: Path | None = None) -> None:
        self.root = root
        self._names, self._mark, self._home = names, mark, home
        self._ended: list[Cgroup] = []

    def make(self, key: int, limit_bytes: int | None) -> Cgroup | None:
        """Create a group; None when the system refuses (for example, a limit on the number of groups)."""
        path = self.root / f"{_PREFIX}{self._mark}-{key}"
        try:
            path.mkdir()
            if limit_bytes is not None:
                _write(path / self._names.limit, str(limit_bytes))
                for name, value in self._names.more_limits:
                    if (path / name).exists():
                        _write(path / name, value.format(limit_bytes))
        except OSError as error:
            _LOG.warning("cannot create a control group for an attempt: %s: %s", path, error.strerror)
            with contextlib.suppress(OSError):
                path.rmdir()
            return None
        return Cgroup(path, self._names, limit_bytes)

    def drop(self, group: Cgroup) -> None:
        """Remove the group of an attempt that has ended, now or when it becomes empty."""
        self._ended = [each for each in [*self._ended, group] if not each.remove()]

    def close(self) -> None:
        """Remove the remaining groups and move this process back to its original group."""
        self._ended = [each for each in self._ended if not each.remove()]
        if self._home is not None:
            with contextlib.suppress(OSError):
                _write(self.root / "cgroup.subtree_control", "-memory")
                for pid in (self._home / "cgroup.procs").read_text(encoding="ascii").split():
                    _write(self.root / "cgroup.procs", pid)
                self._home.rmdir()


def kept_bytes(stat: str, kept: tuple[str, ...]) -> int:
    """Sum the `kept` lines of a memory.stat."""
    table = _numbers(stat)
    return sum(table.get(name, 0) for name in kept)


def delegated(mark: str, *, for_limits: bool = True) -> Groups | None:
    """Return where groups with memory accounting can be created, or None.

    Version 1 groups are used only to enforce limits: root can always create them, which does not mean that anyone wanted it,
    and moving into one waits about a millisecond for the kernel, as long as a short job takes.
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
    """Try a version 2 group: it must delegate `memory`, which only a group without processes of its own can do."""
    if "memory" not in _words(group / "cgroup.controllers"):
        return None
    if "memory" in _words(group / "cgroup.subtree_control"):
        return _tried(Groups(group, _V2, mark))
    own = str(os.getpid())
    if _words(group / "cgroup.procs") != [own]:
        return None  # it has other members, so it is not ours to change
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
        made.close()  # restore: a runner must not end up in a group of its own
    return found


def _first(group: Path, mark: str) -> Groups | None:
    """Try the memory group of version 1."""
    return _tried(Groups(group, _V1, mark))


def _tried(groups: Groups) -> Groups | None:
    """Return `groups` if creating a group and moving a process into it works."""
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
    """Remove the groups of runners that were killed; group names start with the runner's `hardware.mark`."""
    for path in root.glob(f"{_PREFIX}*"):
        pid, _, rest = path.name.removeprefix(f"{_RUNNER}-").removeprefix(_PREFIX).partition(".")
        ticks = rest.partition("@")[0]
        if pid.isdigit() and ticks.isdigit() and start_ticks(int(pid)) != int(ticks):
            with contextlib.suppress(OSError):  # still in use
                path.rmdir()


def _own_groups() -> list[tuple[str, str]]:
    """Return the groups of this process as (controllers, path); version 2 has empty controllers."""
    found = []
    for line in _text(_PROC / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        found.append((controllers, path))
    return sorted(found, key=lambda entry: entry[0] != "")


def _mounts() -> dict[str, tuple[str, Path]]:
    """Return the mount points of the hierarchies by controller, or `cgroup2`, with the group at each root (proc_pid_mountinfo(5))."""
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
