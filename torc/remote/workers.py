"""Start, inspect and stop runners on other machines over SSH. Functions over a Torc, like `run_here`."""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from torc.api.base import Torc
from torc.api.pagination import items_of
from torc.api.remote_workers import ListRemoteWorkers, RemoteWorker
from torc.api.runs import EndRunner, GetRunner, ListRunners, Runner
from torc.api.workflows import GetWorkflow, Workflow
from torc.errors import NotFound, TorcError
from torc.remote import scripts, worker_status
from torc.remote.scripts import StoreAddress
from torc.remote.ssh import Ssh
from torc.remote.worker_status import WorkerStatus
from torc.ssh_destination import parse_destination

T = TypeVar("T")
START_LABEL, HOST_LABEL = "remote_start", "remote_host"
_OUTPUT = "torc_output"
_LOOK_SECONDS = 0.1
_LOOK_THERE_SECONDS = 2.0
_PAGE = 1000
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class RemoteAccess:
    """How to reach machines: `parallel` at once, with a limit of `seconds` per script."""

    ssh: Ssh
    parallel: int = 10
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options that all workers of a start share. `words`: further options of `torc worker`."""

    words: Sequence[str] = field(default_factory=tuple)
    register_seconds: float = 60.0


def list_workers(torc: Torc, workflow_id: int, hosts: Sequence[str] = ()) -> list[RemoteWorker]:
    """Return the machines stored with a workflow, or the given ones among them. Raises NotFound."""
    found = list(items_of(torc, ListRemoteWorkers(workflow_id=workflow_id, limit=_PAGE)))
    if not hosts:
        return found
    known = {worker.host: worker for worker in found}
    for host in hosts:
        if host not in known:
            raise NotFound(
                f"workflow {workflow_id} has no remote worker `{host}`",
                hint="`torc remote list-workers` lists them; `torc remote add-workers` adds one",
            )
    return [known[host] for host in dict.fromkeys(hosts)]


def check(
    torc: Torc, workflow_id: int, workers: Sequence[RemoteWorker], store: StoreAddress, reach: RemoteAccess
) -> list[WorkerStatus]:
    """Check on each machine whether a worker could start: program, version, directory, connection to the store."""
    workflow = torc.send(GetWorkflow(workflow_id=workflow_id))
    return each(reach, workers, lambda worker: _checked(worker, workflow, store, reach))


def start(
    torc: Torc,
    workflow_id: int,
    workers: Sequence[RemoteWorker],
    store: StoreAddress,
    reach: RemoteAccess,
    options: WorkerOptions,
) -> list[WorkerStatus]:
    """Start a worker on each machine that passes `check`, and wait until the store knows its runner.

    A worker that is already running is left alone. A failure on one machine does not affect the others.
    """
    workflow = torc.send(GetWorkflow(workflow_id=workflow_id))
    began = each(reach, workers, lambda worker: _started(worker, workflow, store, reach, options))
    end = time.monotonic() + options.register_seconds
    look_there_at = time.monotonic() + _LOOK_THERE_SECONDS
    by_host = {worker.host: worker for worker in workers}
    while True:
        known = _runners(torc, workflow_id, {report.start for report in began if _awaits_runner(report)})
        began = [_with_runner(report, known) for report in began]
        awaited = [report for report in began if _awaits_runner(report)]
        if not awaited or time.monotonic() > end:
            break
        if time.monotonic() > look_there_at:
            now = {r.host: r for r in status(torc, workflow_id, [by_host[r.host] for r in awaited], reach)}
            began = [_as_it_is_now(report, now.get(report.host)) for report in began]
            look_there_at = time.monotonic() + _LOOK_THERE_SECONDS
        time.sleep(_LOOK_SECONDS)
    return [_given_up(report) if _awaits_runner(report) else report for report in began]


def status(torc: Torc, workflow_id: int, workers: Sequence[RemoteWorker], reach: RemoteAccess) -> list[WorkerStatus]:
    """Return the status of each worker, according to its machine and to the store."""
    workflow = torc.send(GetWorkflow(workflow_id=workflow_id))
    found = each(reach, workers, lambda worker: _status(worker, workflow, reach))
    known = _runners(torc, workflow_id, {report.start for report in found if report.start})
    return [_with_runner(report, known) for report in found]


def stop(
    torc: Torc, workflow_id: int, workers: Sequence[RemoteWorker], reach: RemoteAccess, grace_seconds: int = 30
) -> list[WorkerStatus]:
    """Stop workers with SIGTERM, then SIGKILL after a grace period. Dead runners are ended, so that their jobs can run elsewhere."""
    workflow = torc.send(GetWorkflow(workflow_id=workflow_id))

    def end(worker: RemoteWorker) -> WorkerStatus:
        script = scripts.stop(key_of(workflow, worker), grace_seconds)
        report = worker_status.of_answer(worker, ask(reach, worker, script, more_seconds=grace_seconds + 15))
        if report.state != "running":
            return report
        return report.model_copy(
            update={
                "is_ok": False,
                "message": "it does not stop",
                "hint": "it may be waiting for a file system",
                "kind": "alive",
            }
        )

    ended = each(reach, workers, end)
    known = _runners(torc, workflow_id, {report.start for report in ended if report.start})
    for report in ended:
        runner = known.get(report.start or "")
        if runner is not None and runner.is_active and report.state in {"ended", "died"}:
            torc.send(EndRunner(workflow_id=workflow_id, runner_id=runner.id, reason="died"))
            known[report.start or ""] = torc.send(GetRunner(runner_id=runner.id))
    return [_with_runner(report, known) for report in ended]


def each(
    reach: RemoteAccess, workers: Sequence[RemoteWorker], work: Callable[[RemoteWorker], WorkerStatus]
) -> list[WorkerStatus]:
    """Do something on each machine, several at once; failures become part of the results."""
    return on_each(reach, workers, work, worker_status.of_error)


def on_each(
    reach: RemoteAccess,
    workers: Sequence[RemoteWorker],
    work: Callable[[RemoteWorker], T],
    failed: Callable[[RemoteWorker, TorcError], T],
) -> list[T]:
    """Do something on each machine, several at once; `failed` turns an error into that machine's result."""

    def one(worker: RemoteWorker) -> T:
        try:
            return work(worker)
        except TorcError as error:
            return failed(worker, error)

    with ThreadPoolExecutor(max_workers=max(1, reach.parallel), thread_name_prefix="remote") as pool:
        try:
            return list(pool.map(one, workers))
        except BaseException:  # Ctrl-C: the threads are waiting for ssh
            pool.shutdown(wait=False, cancel_futures=True)
            reach.ssh.close()
            raise


def key_of(workflow: Workflow, worker: RemoteWorker) -> str:
    """Return the key of a worker's remote state: the same for the same workflow, store and host."""
    host = hashlib.sha256(worker.host.encode()).hexdigest()[:16]
    return f"wf{workflow.id}-{int(workflow.created_at * 1e6):x}-{host}"


def safe_name(host: str) -> str:
    """Return a file name for a host, unique for each host."""
    safe = _UNSAFE.sub("_", host)
    return safe if safe == host else f"{safe}-{hashlib.sha256(host.encode()).hexdigest()[:6]}"


def ask(reach: RemoteAccess, worker: RemoteWorker, script: str, *, more_seconds: float = 0.0) -> scripts.ScriptReply:
    """Run a script on a worker's machine and return its output. Raises TorcError."""
    ran = reach.ssh.run(parse_destination(worker.host), script, seconds=reach.seconds + more_seconds)
    return worker_status.checked(worker, ran, scripts.read(ran.output))


def _checked(worker: RemoteWorker, workflow: Workflow, store: StoreAddress, reach: RemoteAccess) -> WorkerStatus:
    return worker_status.of_check(worker, _looked(worker, workflow, store, reach))


def _looked(worker: RemoteWorker, workflow: Workflow, store: StoreAddress, reach: RemoteAccess) -> scripts.ScriptReply:
    """Return the facts about a worker's machine. Raises TorcError if a worker could not start."""
    directory = worker.directory or workflow.directory
    script = scripts.check(key_of(workflow, worker), worker.torc, directory, workflow.id, store)
    ran = reach.ssh.run(parse_destination(worker.host), script, seconds=reach.seconds)
    answer = scripts.read(ran.output)
    if answer.get("version") is None:
        worker_status.checked(worker, ran, answer)
    worker_status.check_version(worker, answer)
    worker_status.check_same_workflow(worker, answer, workflow, store)
    return answer


def _started(
    worker: RemoteWorker, workflow: Workflow, store: StoreAddress, reach: RemoteAccess, options: WorkerOptions
) -> WorkerStatus:
    found = _looked(worker, workflow, store, reach)
    new = uuid.uuid4().hex
    begin = scripts.WorkerStart(
        key=key_of(workflow, worker),
        start=new,
        program=found.get("program") or "torc",
        directory=found.get("directory") or workflow.directory,
        output_dir=worker.output_dir or _OUTPUT,
        log_name=f"torc_worker_wf{workflow.id}_{safe_name(worker.host)}.log",
        words=_words(worker, workflow, new, options),
    )
    answer = ask(reach, worker, scripts.start(begin, store))
    report, ready = worker_status.of_answer(worker, answer), worker_status.of_check(worker, found)
    return report.model_copy(
        update={
            "program": ready.program,
            "version": ready.version,
            "directory": ready.directory,
            "message": "it is already running" if answer.get("again") else report.message,
        }
    )


def _words(worker: RemoteWorker, workflow: Workflow, new: str, options: WorkerOptions) -> list[str]:
    labels = {**worker.labels, START_LABEL: new, HOST_LABEL: worker.host}
    words = ["worker", str(workflow.id), "--quiet", "--over-ssh", *options.words]
    for option, value in (
        ("--num-cpus", worker.num_cpus),
        ("--memory", worker.memory_bytes),
        ("--num-gpus", worker.num_gpus),
        ("--max-parallel-jobs", worker.max_parallel_jobs),
    ):
        words += [] if value is None else [option, str(value)]
    return words + [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]


def _status(worker: RemoteWorker, workflow: Workflow, reach: RemoteAccess) -> WorkerStatus:
    return worker_status.of_answer(worker, ask(reach, worker, scripts.status(key_of(workflow, worker))))


def _awaits_runner(report: WorkerStatus) -> bool:
    return report.is_ok and report.state == "running" and report.runner_id is None


def _runners(torc: Torc, workflow_id: int, starts: set[str | None]) -> dict[str, Runner]:
    """Return the runners of these starts. Newest come first, so the search ends when all are found."""
    found: dict[str, Runner] = {}
    runners = items_of(torc, ListRunners(workflow_id=workflow_id, limit=_PAGE))
    while len(found) < len(starts) and (runner := next(runners, None)) is not None:
        name = runner.labels.get(START_LABEL)
        if name is not None and name in starts:
            found.setdefault(name, runner)
    return found


def _with_runner(report: WorkerStatus, known: Mapping[str, Runner]) -> WorkerStatus:
    runner = known.get(report.start or "")
    if runner is None:
        return report
    return report.model_copy(
        update={
            "runner_id": runner.id,
            "runner_is_active": runner.is_active,
            "num_completed": runner.num_completed,
            "num_failed": runner.num_failed,
        }
    )


def _as_it_is_now(report: WorkerStatus, now: WorkerStatus | None) -> WorkerStatus:
    """Check again a worker whose runner the store does not know yet."""
    if now is None or not _awaits_runner(report):
        return report
    if not now.is_ok:
        return report  # the machine may respond the next time
    fresh = now.model_copy(update={name: getattr(report, name) for name in ("program", "version", "directory")})
    if fresh.state != "died":
        return fresh
    log = f"its log there: {report.output_dir}"
    return fresh.model_copy(update={"is_ok": False, "kind": "did_not_begin", "hint": log})


def _given_up(report: WorkerStatus) -> WorkerStatus:
    return report.model_copy(
        update={
            "is_ok": False,
            "kind": "not_registered",
            "message": "it is running, but the store does not know its runner yet",
            "hint": f"see `torc remote status`; its log is in {report.output_dir} there",
        }
    )
