"""End a process at its n-th SQL statement, fsync, rename, deletion or start of a process, for every n, and see what is left.

A point is counted before its effect, so that dying at point n + 1 is dying right after the effect of point n. Each point runs in
a fork of one process that has imported everything: an empty store is copied, a scenario is driven until the process ends itself
with `os._exit` (nothing is flushed, rolled back or said good-bye to), the store is checked, the scenario is driven again to
its end, and the store and what the jobs wrote are checked once more.

`python -m tests.faults.crash_points` explores all points; see --help.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, text

from tests.faults.crash_scenarios import SCENARIOS, Actions, Scenario, journaled
from tests.support.postgres import Cluster, start_postgres
from torc.api.jobs import ListJobs
from torc.api.runs import ListResults
from torc.api.workflows import CheckWorkflow, GetWorkflow, ResetWorkflow
from torc.client.embedded import Embedded
from torc.runner import spawner_client
from torc.store.engine import open_store

CRASHED = 99
_FAILED = 98
_RESUMES = 4
_SECONDS = 120.0
#: files of a runner that whoever comes after it reads
_KEPT = re.compile(r"/(undelivered|sessions)_wf\d+_n\d+\.(json|txt)$")
_SPAWNER = Path(__file__).with_name("crash_spawner.py")


class Points:
    """Counts the points that this process passes, and ends it at one of them."""

    def __init__(self, at: int | None) -> None:
        self.passed: Counter[str] = Counter()
        self._at, self._lock = at, threading.Lock()

    def hit(self, kind: str) -> None:
        with self._lock:
            self.passed[kind] += 1
            if self._at is not None and self.passed.total() >= self._at:
                os._exit(CRASHED)

    def install(self) -> None:
        """Count in this process from now on."""

        @event.listens_for(Engine, "connect")
        def connected(connection: Any, _record: Any) -> None:
            if isinstance(connection, sqlite3.Connection):
                connection.set_trace_callback(lambda _statement: self.hit("sql"))

        for owner, names in ((psycopg.Cursor, ("execute", "executemany", "copy")), (psycopg.Connection, ("commit",))):
            for name in names:
                self._count(owner, name, "sql")
        for name in ("fsync", "fdatasync"):
            self._count(os, name, "fsync")
        for name in ("rename", "replace", "link"):
            self._count(os, name, "rename")
        for name in ("unlink", "remove", "rmdir"):
            self._count(os, name, "unlink")
        self._split_writes()
        self._count(spawner_client.SpawnerClient, "start", "spawn")
        self._count(subprocess.Popen, "__init__", "spawn")

    def _count(self, owner: Any, name: str, kind: str) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self.hit(kind)
            return original(*arguments, **named)

        setattr(owner, name, counted)

    def _split_writes(self) -> None:
        """Write what a runner keeps in its output folder in two parts, with a point before each."""
        original = os.write

        def write(fd: int, data: Any) -> int:
            if not _KEPT.search(os.readlink(f"/proc/self/fd/{fd}")):
                return original(fd, data)
            self.hit("write")
            half = original(fd, data[: len(data) // 2])
            self.hit("write")
            return half + original(fd, data[half:])

        os.write = write


# -- stores -----------------------------------------------------------------------------------------------------------


class Stores:
    """Makes copies of a store in which one workflow is stored and has not begun."""

    def __init__(self, folder: Path, cluster: Cluster | None) -> None:
        self.folder, self._cluster = folder, cluster
        self._template = folder / "template.db"

    def prepare(self, scenario: Scenario) -> int:
        """Store the workflow of a scenario in the template and return its id."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        if self._cluster is not None:
            self._admin("DROP DATABASE IF EXISTS template_torc", "CREATE DATABASE template_torc")
        url = str(self._template) if self._cluster is None else self._cluster.url("template_torc")
        self._template.unlink(missing_ok=True)
        return int(in_fork(lambda: _create(url, scenario, work), self.folder / "prepare.err"))

    def fresh(self) -> str:
        """Return where a new copy of the template is; the folder of the workflow is emptied."""
        shutil.rmtree(self.folder / "work")
        (self.folder / "work").mkdir()
        if self._cluster is None:
            path = self.folder / "work" / "torc.db"
            shutil.copyfile(self._template, path)
            return str(path)
        self._admin(
            "DROP DATABASE IF EXISTS torc_copy WITH (FORCE)", "CREATE DATABASE torc_copy TEMPLATE template_torc"
        )
        return self._cluster.url("torc_copy")

    def _admin(self, *statements: str) -> None:
        assert self._cluster is not None
        engine = create_engine(self._cluster.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as db:
            for statement in statements:
                db.execute(text(statement))
        engine.dispose()


def _create(url: str, scenario: Scenario, work: Path) -> int:
    torc = Embedded(open_store(url), "user:tester")
    number = scenario.create(torc, work)
    torc.close()
    return number


# -- forks ------------------------------------------------------------------------------------------------------------


def in_fork(work: Callable[[], Any], errors: Path, *, points: Points | None = None) -> Any:
    """Do something in a fork of this process and return its value, which JSON can hold; None when it crashed as planned."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        code = _FAILED
        try:
            null = os.open(os.devnull, os.O_RDONLY)
            log = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(null, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if points is not None:
                points.install()
            value = work()
            os.write(write, json.dumps(value).encode())
            code = 0
        except BaseException:  # noqa: BLE001 - the parent reads it
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(code)
    os.close(write)
    try:
        return _result(pid, read, errors)
    finally:
        os.close(read)


def _result(pid: int, read: int, errors: Path) -> Any:
    pidfd = os.pidfd_open(pid)
    try:
        if not select.select([pidfd], [], [], _SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"stood still for {_SECONDS:.0f} s: {_tail(errors)}")
    finally:
        os.close(pidfd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == CRASHED:
        return None
    if code:
        raise AssertionError(f"ended with {code}: {_tail(errors)}")
    return json.loads(os.read(read, 1 << 20))


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-3000:] if path.exists() else ""


# -- one point --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Explorer:
    """Drives one scenario on one kind of database."""

    scenario: Scenario
    stores: Stores
    workflow_id: int

    @property
    def work(self) -> Path:
        return self.stores.folder / "work"

    def count(self) -> Counter[str]:
        """Drive the scenario to its end without a crash, check it, and return how many points it passed."""
        url = self.stores.fresh()
        points = Points(None)

        def drive() -> dict[str, int]:
            self._drive(url)
            return dict(points.passed)

        passed = Counter(in_fork(drive, self._errors, points=points))
        self._check_end(url, {})
        return passed

    def crash_at(self, point: int) -> bool:
        """Crash at a point, check, resume and check; return False when the scenario ended before that point."""
        url = self.stores.fresh()
        return self._after(url, in_fork(lambda: self._drive(url), self._errors, points=Points(point)) is None)

    def crash_spawner_at(self, start: int) -> bool:
        """End the process that starts jobs at its n-th start, before or after it: odd and even numbers."""
        url = self.stores.fresh()
        mark = self.work / "spawner_crashes"
        mark.write_text(str(start))

        def drive() -> str:
            spawner_client.spawner.__file__ = str(_SPAWNER)
            os.environ["TORC_TEST_CRASH_SPAWNER"] = str(self.work)
            with contextlib.suppress(Exception):  # the run ends with a reason; that is looked at below
                self._drive(url)
            return "driven"

        in_fork(drive, self._errors)
        return self._after(url, (self.work / "spawner_crashed").exists(), resets=True)

    def _after(self, url: str, is_crashed: bool, *, resets: bool = False) -> bool:
        before: dict[str, int] = {}
        if is_crashed:
            before = in_fork(lambda: self._look(url), self._errors)
            if resets:
                in_fork(lambda: self._reset_killed(url), self._errors)
            for _ in range(_RESUMES):
                if in_fork(lambda: self._resume(url), self._errors) == "completed":
                    break
        self._check_end(url, before)
        return is_crashed

    @property
    def _errors(self) -> Path:
        return self.stores.folder / "errors"

    def _drive(self, url: str) -> str:
        with self._opened(url) as torc:
            self.scenario.drive(torc, self.workflow_id, self.work, url)
        return "driven"

    def _resume(self, url: str) -> str:
        with self._opened(url) as torc:
            self.scenario.resume(torc, self.workflow_id, self.work, url)
            return torc.send(GetWorkflow(workflow_id=self.workflow_id)).state

    def _reset_killed(self, url: str) -> None:
        """Have what ended with its spawner run again, as a user would; nothing else has failed."""
        with self._opened(url) as torc:
            results = torc.send(ListResults(workflow_id=self.workflow_id, limit=1000)).items
            last = {item.job_name: item for item in results if item.is_current}
            failed = [job.name for job in self._jobs(torc) if job.state == "failed"]
            others = [name for name in failed if last[name].reason != "parent_killed"]
            assert not others, f"failed, and not with their spawner: {others}"
            if failed:
                torc.send(ResetWorkflow(workflow_id=self.workflow_id, failed_only=True))

    def _look(self, url: str) -> dict[str, int]:
        """Check the invariants, and return how often each job has succeeded whose success is recorded, if only in a journal."""
        with self._opened(url) as torc:
            self._check_store(torc)
            kept, _ = journaled(self.work)
            done = [job.name for job in self._jobs(torc) if job.state == "completed" or job.id in kept]
            actions = self.scenario.recorded(torc, self.workflow_id, self.work)
        count = self._successes()
        lost = [name for name in done if not count[name]]
        assert not lost, f"successes were recorded that never were: {lost}"
        return {name: count[name] for name in done} | actions

    def _check_end(self, url: str, before: dict[str, int]) -> None:
        in_fork(lambda: self._look_at_end(url, before), self._errors)

    def _look_at_end(self, url: str, before: dict[str, int]) -> None:
        with self._opened(url) as torc:
            self._check_store(torc)
            open_jobs = {job.name: job.state for job in self._jobs(torc) if job.state != "completed"}
            assert not open_jobs, f"not completed: {open_jobs}"
            self._check_attempts(torc)
            actions = self.scenario.recorded(torc, self.workflow_id, self.work)
        count = self._successes()
        again = {name: n for name, n in before.items() if (actions if name in actions else count)[name] != n}
        assert not again, f"ran again after their end was recorded: {again}, now {count}, {actions}"
        assert set(count) == set(self.scenario.jobs), f"ran: {sorted(count)}"
        most = 1 + self.scenario.num_kills
        assert max(count.values()) <= most, f"something ran more often again than runners were killed: {count}"
        assert not (self.work / "overlaps").exists(), f"two copies ran at once: {(self.work / 'overlaps').read_text()}"
        self.scenario.check(self.work)
        self._check_processes()

    def _check_store(self, torc: Embedded) -> None:
        problems = torc.send(CheckWorkflow(workflow_id=self.workflow_id))
        assert problems == [], problems
        if torc.store.path is not None:
            with torc.store.engine.connect() as db:
                assert db.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        torc.send(GetWorkflow(workflow_id=self.workflow_id))

    def _check_attempts(self, torc: Embedded) -> None:
        """Check that each job has one success that counts."""
        results = torc.send(ListResults(workflow_id=self.workflow_id, limit=1000)).items
        successes = Counter(item.job_name for item in results if item.state == "completed" and item.is_current)
        assert successes == dict.fromkeys(self.scenario.jobs, 1), f"successes were not recorded once each: {successes}"

    def _check_processes(self) -> None:
        """Check that nothing of the workflow runs any more, daemons without environment and session included."""
        mark = f"TORC_OUTPUT_DIR={self.work}/".encode()
        end = time.monotonic() + 20
        while left := [pid for pid in _pids() if mark in _environ(pid) or _works_in(pid, self.work)]:
            assert time.monotonic() < end, f"processes are left: {left}"
            time.sleep(0.02)

    def _jobs(self, torc: Embedded) -> list[Any]:
        return list(torc.send(ListJobs(workflow_id=self.workflow_id, limit=1000)).items)

    def _successes(self) -> Counter[str]:
        path = self.work / "successes"
        return Counter(path.read_text().split() if path.exists() else [])

    @contextlib.contextmanager
    def _opened(self, url: str) -> Iterator[Embedded]:
        torc = Embedded(open_store(url), "user:tester")
        yield torc
        torc.close()


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(folder)
    except OSError:
        return False


# -- all points -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Failure:
    """A point after which something was wrong."""

    scenario: str
    database: str
    point: str
    what: str


def sample(total: int, most: int | None) -> list[int]:
    """Choose points, evenly spread: the first and the last are among them."""
    if most is None or total <= most:
        return list(range(1, total + 1))
    return sorted({1 + round(at * (total - 1) / max(1, most - 1)) for at in range(most)})


def explore(
    name: str, database: str, most: int | None, part: tuple[int, int] = (0, 1)
) -> Iterator[Failure | Counter[str]]:
    """Yield the number of points by kind, then each failure. Of `part` (k, n), every n-th point from the k-th on is taken."""
    folder = Path(tempfile.mkdtemp(prefix="torc-crash-"))
    cluster = start_postgres() if database == "postgresql" else None
    try:
        stores = Stores(folder, cluster)
        explorer = Explorer(SCENARIOS[name], stores, stores.prepare(SCENARIOS[name]))
        total = explorer.count()
        yield total
        points = [(at, explorer.crash_at, "point") for at in sample(total.total(), most)]
        points += [
            (at, explorer.crash_spawner_at, "start")
            for at in sample(2 * len(explorer.scenario.jobs), None if most is None else max(2, most // 4))
            if at % 2 or not isinstance(explorer.scenario, Actions)  # an action that was killed has failed
        ]
        for at, crash, what in points[part[0] :: part[1]]:
            try:
                crash(at)
            except AssertionError as error:
                kept = folder.with_name(f"{folder.name}-{what}{at}")
                shutil.copytree(folder / "work", kept, dirs_exist_ok=True)
                yield Failure(name, database, f"{what} {at}", f"{error} (kept in {kept})")
    finally:
        if cluster is not None:
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    """Explore, print what was found, and return 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="scripts/crash-points", description="Crash at every point and resume.")
    parser.add_argument("--workflow", choices=list(SCENARIOS), action="append")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--most", type=int, help="at most this many points of each, evenly spread; default: all")
    parser.add_argument("--point", type=int, help="this point alone")
    parser.add_argument("--part", default="0/1", metavar="K/N", help="every N-th point, from the K-th on")
    options = parser.parse_args(arguments)
    k, n = map(int, options.part.split("/"))
    num_failures = num_points = 0
    for name in options.workflow or SCENARIOS:
        for database in options.database or ("sqlite", "postgresql"):
            begun = time.monotonic()
            failures: list[Failure] = []
            for found in explore(name, database, options.most, (k, n)):
                if isinstance(found, Failure):
                    failures.append(found)
                    print(json.dumps(dataclasses.asdict(found)), flush=True)
                else:
                    num = len(sample(found.total(), options.most))
                    num_points += num
                    print(f"{name} on {database}: {num} of {dict(found)}", flush=True)
            num_failures += len(failures)
            print(f"{name} on {database}: {len(failures)} failures, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{num_points} points explored, {num_failures} failures", flush=True)
    return 1 if num_failures else 0


if __name__ == "__main__":
    sys.exit(main())
