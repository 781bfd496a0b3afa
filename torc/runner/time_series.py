"""Time series of attempts' resource use in a SQLite database in the output directory, written live and read for plots.

The schema is documented in docs/measuring.md and stable. A separate thread commits every two seconds, so that a slow file
system never delays the runner; a runner that is killed loses at most two seconds.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torc.errors import Unavailable
from torc.files import open_new
from torc.workflow.resources import ResourceRequest

_LOG = logging.getLogger(__name__)
VERSION = "1"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempt (
    id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL, attempt INTEGER NOT NULL, job_name TEXT NOT NULL,
    started_at REAL NOT NULL, ended_at REAL, return_code INTEGER,
    num_cpus INTEGER NOT NULL, num_gpus INTEGER NOT NULL, memory_bytes INTEGER NOT NULL, runtime_seconds INTEGER NOT NULL,
    UNIQUE (job_id, attempt));
CREATE TABLE IF NOT EXISTS sample (
    attempt_id INTEGER NOT NULL REFERENCES attempt (id), seconds REAL NOT NULL, cpu_seconds REAL NOT NULL,
    memory_bytes INTEGER NOT NULL, num_processes INTEGER NOT NULL, read_bytes INTEGER NOT NULL, written_bytes INTEGER NOT NULL,
    gpus_busy REAL, gpu_memory_bytes INTEGER, PRIMARY KEY (attempt_id, seconds)) WITHOUT ROWID;
"""
_ATTEMPT = (
    "INSERT OR REPLACE INTO attempt (id, job_id, attempt, job_name, started_at, num_cpus, num_gpus, memory_bytes, runtime_seconds) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SAMPLE = "INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_END = "UPDATE attempt SET ended_at = ?, return_code = ? WHERE id = ?"
_BATCH_SECONDS = 2.0
_BUSY_SECONDS = 10.0
#: more than this accumulates only if the file system hangs; the rest is dropped
_MOST_WAITING = 200_000


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """One sample of an attempt, `seconds` after its start; CPU time and I/O are totals so far."""

    seconds: float
    cpu_seconds: float
    memory_bytes: int
    num_processes: int
    read_bytes: int
    written_bytes: int
    gpus_busy: float | None = None
    gpu_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RecordedSeries:
    job_id: int
    attempt: int
    job_name: str
    host: str
    started_at: float  # seconds since the epoch
    request: ResourceRequest
    points: tuple[SeriesPoint, ...]


class SeriesWriter:
    """Writes the series of one runner. After the first error it logs a warning and writes nothing more."""

    def __init__(self, path: Path, meta: Mapping[str, object]) -> None:
        self.path = path
        self._meta = {"version": VERSION, **{key: str(value) for key, value in meta.items()}}
        self._waiting: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._closing = threading.Event()
        self._next_id = 0
        self._thread = threading.Thread(target=self._work, name="torc-series", daemon=True)
        self._thread.start()

    def begin(self, name: tuple[int, int, str], started_at: float, request: ResourceRequest) -> int:
        """Add an attempt (job id, attempt, job name); return its id in the database."""
        self._next_id += 1
        asked = (request.num_cpus, request.num_gpus, request.memory_bytes, request.runtime_seconds)
        self._put(_ATTEMPT, (self._next_id, *name, started_at, *asked))
        return self._next_id

    def add(self, number: int, point: SeriesPoint) -> None:
        self._put(
            _SAMPLE,
            (
                number,
                round(point.seconds, 3),
                round(point.cpu_seconds, 3),
                point.memory_bytes,
                point.num_processes,
                point.read_bytes,
                point.written_bytes,
                point.gpus_busy,
                point.gpu_memory_bytes,
            ),
        )

    def end(self, number: int, ended_at: float, return_code: int) -> None:
        """Record the end of an attempt."""
        self._put(_END, (ended_at, return_code, number))

    def close(self) -> None:
        """Write what is queued and wait for that, up to a time limit."""
        self._closing.set()
        self._thread.join(_BUSY_SECONDS)

    def _put(self, statement: str, values: tuple[Any, ...]) -> None:
        if self._thread.is_alive() and len(self._waiting) < _MOST_WAITING:
            self._waiting.append((statement, values))

    def _work(self) -> None:
        try:
            with closing(_made(self.path)) as db:
                # data held by the operating system survives the death of this process; only a power failure could lose more
                db.execute("PRAGMA synchronous = OFF")
                db.execute("PRAGMA journal_mode = TRUNCATE")
                db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", self._meta.items())
                is_last = False
                while not is_last:
                    is_last = self._closing.wait(_BATCH_SECONDS)
                    self._write(db)
                db.execute("PRAGMA journal_mode = DELETE")  # leaves a single file
        except (sqlite3.Error, OSError) as error:
            _LOG.warning("time series are no longer recorded: %s: %s", self.path, error)

    def _write(self, db: sqlite3.Connection) -> None:
        if not self._waiting:
            return
        db.execute("BEGIN IMMEDIATE")
        while self._waiting:
            db.execute(*self._waiting.popleft())
        db.execute("COMMIT")


def _made(path: Path) -> sqlite3.Connection:
    """Create a database: SQLite itself would follow a link. Raises OSError or sqlite3.Error."""
    fd = open_new(path)
    try:
        db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        if not os.path.samestat(os.fstat(fd), os.lstat(path)):
            db.close()
            raise FileExistsError(errno.EEXIST, "another file has taken its place")
        return db
    finally:
        os.close(fd)  # before SQLite locks it: closing later would release the lock (fcntl(2))


def path_of(folder: Path, host: str, workflow_id: int, run_id: int, runner_id: int) -> Path:
    """Return the path of a runner's database."""
    return folder / f"resource_metrics_{host}_wf{workflow_id}_r{run_id}_{runner_id}.db"


def recorded(folder: Path, workflow_id: int, run_id: int | None = None) -> Iterator[RecordedSeries]:
    """Yield what a workflow's runners have recorded in a directory, attempt by attempt. Raises Unavailable for other files."""
    run = "*" if run_id is None else str(run_id)
    for path in sorted(folder.glob(f"resource_metrics_*_wf{workflow_id}_r{run}_*.db")):
        if path.is_symlink():
            continue
        # writable if possible: an interrupted transaction of a killed runner must be rolled back
        mode = "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=_BUSY_SECONDS)) as db:
                db.execute("PRAGMA trusted_schema = OFF")
                yield from _attempts(db)
        except sqlite3.Error as error:
            raise Unavailable(
                f"cannot read {path}: {error}", hint="move it out of the way to continue without it"
            ) from None


def _attempts(db: sqlite3.Connection) -> Iterator[RecordedSeries]:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sample'").fetchone():
        return  # its runner was killed before it wrote anything
    host = db.execute("SELECT value FROM meta WHERE key = 'host'").fetchone()
    query = (
        "SELECT id, job_id, attempt, job_name, started_at, num_cpus, num_gpus, memory_bytes, runtime_seconds "
        "FROM attempt ORDER BY id"
    )
    samples = (
        "SELECT seconds, cpu_seconds, memory_bytes, num_processes, read_bytes, written_bytes, gpus_busy, gpu_memory_bytes "
        "FROM sample WHERE attempt_id = ? ORDER BY seconds"
    )
    for number, job_id, attempt, name, started_at, cpus, gpus, memory, runtime in db.execute(query):
        points = tuple(SeriesPoint(*row) for row in db.execute(samples, (number,)))
        request = ResourceRequest(cpus, gpus, 1, memory, runtime)
        yield RecordedSeries(job_id, attempt, name, host[0] if host else "", started_at, request, points)
