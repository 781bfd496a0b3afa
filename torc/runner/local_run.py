"""Run a workflow on this machine: what `torc run` and `torc worker` call."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torc.api.base import Torc
from torc.api.runs import (
    EndRunner,
    GetRunnerSettings,
    ListRunners,
    NodeCapacity,
    RegisterRunner,
    Runner,
    RunnerKind,
    RunnerSettings,
    StartRun,
)
from torc.api.workflows import GetWorkflow, Workflow
from torc.errors import Conflict, NotFound, StoreLost, TorcError, Unavailable
from torc.files import LOG_FOLDER, make_folder, private_folder
from torc.runner import dead_runners, file_status, hardware, log_file
from torc.runner.context import AllocationContext, RunnerContext, RunnerView
from torc.runner.exchange_policy import node_capacity
from torc.runner.hardware import ProcessIdentity
from torc.runner.host_info import surroundings
from torc.runner.job_credentials import NOT_FOR_JOBS, JobCredentials
from torc.runner.job_environ import without_threads_of_job
from torc.runner.launcher import DirectLauncher, pinnable
from torc.runner.loop import Loop
from torc.runner.monitor import Monitoring
from torc.runner.state import ReactorSettings
from torc.runner.store_wait import PatientTorc
from torc.runner.time_series import path_of
from torc.units import human_bytes
from torc.workflow.resources import Capacity, Pool

_LOG = logging.getLogger(__name__)
#: variables of a job that must not leak into jobs of a runner inside it
_FOREIGN = frozenset({"TORC_JOB_ID", "TORC_JOB_NAME", "TORC_ATTEMPT_ID", "TORC_RETURN_CODE", *NOT_FOR_JOBS})


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run. None means detect it."""

    output_dir: Path = Path("torc_output")
    max_parallel_jobs: int | None = None
    num_cpus: int | None = None
    memory_bytes: int | None = None
    num_gpus: int | None = None
    time_limit_seconds: float | None = None
    fail_fast: bool = False
    kind: RunnerKind = "local"
    labels: Mapping[str, str] = field(default_factory=dict)
    directory: str | None = None  # working directory, where this machine has the workflow's directory elsewhere
    wait_seconds: float = 5.0
    grace_seconds: float = 10.0
    store_variables: Mapping[str, str] = field(default_factory=dict)  # select the store for this runner
    display_seconds: float = 0.25
    heartbeat_seconds: float = 15.0
    leave_at: float | None = None  # on the monotonic clock; overrides `time_limit_seconds`
    given: AllocationContext | None = None  # set inside an allocation
    server_wait_seconds: float = 0.0  # how long to wait for a store that goes away before it knows this runner


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The result of a run. `is_stuck`: ready jobs are left that request more than this runner has."""

    workflow: Workflow
    runner_id: int | None
    was_stopped: bool = False
    was_lost: bool = False
    is_stuck: bool = False
    dead_runners: int = 0


def run_here(
    torc: Torc, workflow_id: int, options: RunOptions, on_update: Callable[[RunnerView], None] | None = None
) -> RunOutcome:
    """Run or continue a workflow until nothing is left that can run here.

    Dead runners of this machine are found first and their jobs run again. Raises Invalid before anything has started when files
    are missing that no job writes, and Unavailable when this machine or the store makes it impossible to continue.
    """
    here = hardware.identity()
    leave_at = options.leave_at
    if leave_at is None and options.time_limit_seconds is not None:
        leave_at = time.monotonic() + options.time_limit_seconds
    options = replace(options, output_dir=options.output_dir.absolute())
    _make(options.output_dir)
    patient = PatientTorc(torc, options.server_wait_seconds)
    dead = dead_runners.give_up_dead_runners(patient, workflow_id, here, options.output_dir)
    settings = _settings(patient, workflow_id, options)
    seen = file_status.look_before(patient, workflow_id, settings.directory, time.time())
    workflow = _begin(patient, workflow_id, here, options)
    outcome = RunOutcome(workflow, None)
    while workflow.ended_at is None and workflow.run_id > 0:
        outcome = _run_once(torc, workflow, options, leave_at, on_update)
        workflow = outcome.workflow
        if not outcome.was_lost:
            break
        workflow = torc.send(StartRun(workflow_id=workflow_id))  # the lease expired meanwhile: start over
    file_status.look_after(torc, seen)
    return replace(outcome, dead_runners=len(dead))


def _begin(torc: Torc, workflow_id: int, here: ProcessIdentity, options: RunOptions) -> Workflow:
    """Start the run. Another workflow that locks the same outputs is ignored if its runners on this machine have died."""
    try:
        return torc.send(StartRun(workflow_id=workflow_id))
    except Conflict as error:
        other = error.details.get("running")
        if not isinstance(other, int) or not dead_runners.give_up_dead_runners(torc, other, here, options.output_dir):
            raise
        return torc.send(StartRun(workflow_id=workflow_id))


def _run_once(
    torc: Torc,
    workflow: Workflow,
    options: RunOptions,
    leave_at: float | None,
    on_update: Callable[[RunnerView], None] | None,
) -> RunOutcome:
    here = hardware.identity()
    total, gpus = _capacity(options)
    patient = PatientTorc(torc, options.server_wait_seconds)
    settings = _settings(patient, workflow.id, options)
    left = None if leave_at is None else max(0.0, leave_at - time.monotonic())
    credentials = JobCredentials(options.output_dir, options.store_variables)
    runner = _register(patient, workflow.id, options, here, node_capacity(total, left), credentials.token_hash)
    try:
        place = _place(settings, options, here, runner.id, credentials.open(workflow.id, runner.id))
        loop = _loop(torc, settings, options, place, (workflow, runner), total, gpus, leave_at)
    except BaseException:
        credentials.close()
        _end_unused(torc, runner, options.output_dir)
        raise
    reason = "failed"
    try:
        with (
            log_file.kept(
                options.output_dir, options.given.node if options.given else here.host, workflow.id, settings.run_id
            ),
            _in_directory(settings.directory),
            _updates(loop, on_update, options.display_seconds),
        ):
            _LOG.info(
                "runner %d uses %s",
                runner.id,
                ", ".join(
                    f"{at.num_cpus} CPUs, {human_bytes(at.memory_bytes)} of memory, {at.num_gpus} GPUs"
                    for at in (total.nodes if isinstance(total, Pool) else (total,))
                ),
            )
            state = loop.run()
            _LOG.info(
                "runner %d is leaving: %d jobs completed, %d failed", runner.id, state.num_completed, state.num_failed
            )
        reason = "finished" if state.is_done or state.is_stuck else "stopped"
    finally:
        try:
            _end(torc, runner, reason, loop, options.output_dir)
        finally:
            credentials.close()
    if state.trouble is not None:
        raise Unavailable(
            f"this machine cannot start more jobs: {state.trouble.why}",
            hint=f"{state.trouble.hint}, then continue with: torc run {workflow.id}",
        )
    was_stopped = state.is_stopping and not state.is_stuck
    return RunOutcome(
        torc.send(GetWorkflow(workflow_id=workflow.id)), runner.id, was_stopped, state.is_lost, state.is_stuck
    )


def _loop(  # noqa: PLR0913, PLR0917 - everything that makes up a runner
    torc: Torc,
    settings: RunnerSettings,
    options: RunOptions,
    place: RunnerContext,
    who: tuple[Workflow, Runner],
    total: Capacity | Pool,
    gpus: tuple[str, ...],
    leave_at: float | None,
) -> Loop:
    return Loop(
        torc,
        ReactorSettings(
            workflow_id=settings.workflow_id,
            runner_id=who[1].id,
            total=total,
            gpus=gpus,
            max_parallel_jobs=options.max_parallel_jobs,
            fail_fast=options.fail_fast,
            grace_seconds=options.given.grace_seconds if options.given else options.grace_seconds,
            lines_up=(options.given is None or options.given.lines_up) and not settings.settings.get("pin_cpus"),
            **_habits(settings, options, leave_at),
            wait_seconds=options.wait_seconds,
            heartbeat_seconds=options.heartbeat_seconds,
            workflow_created_at=who[0].created_at,
            runner_started_at=who[1].started_at,
            env=settings.env,
        ),
        place,
        options.given.launcher() if options.given else DirectLauncher(pinned=pinnable(settings.settings)),
    )


def _habits(settings: RunnerSettings, options: RunOptions, leave_at: float | None) -> dict[str, Any]:
    """Return the settings of runners that serve a workflow in the background; `torc run` leaves when nothing is left."""
    if options.kind == "local":
        return {"leave_at": leave_at}
    given = {
        name.removeprefix("compute_node_"): value for name, value in settings.settings.items() if value is not None
    }
    patience = given.get("wait_for_healthy_database_minutes")
    return {
        "leave_at": leave_at
        if leave_at is None or options.given
        else leave_at - given.get("expiration_buffer_seconds", 0),
        "idle_seconds": options.given.idle_seconds if options.given else math.inf,
        "linger_seconds": float(given.get("wait_for_new_jobs_seconds", 0)),
        "stays": bool(given.get("ignore_workflow_completion")),
        "min_seconds": float(given.get("min_time_for_new_jobs_seconds", 0)),
        "unreachable_seconds": math.inf if patience is None else 60.0 * patience,
    }


def _settings(torc: Torc, workflow_id: int, options: RunOptions) -> RunnerSettings:
    settings = torc.send(GetRunnerSettings(workflow_id=workflow_id))
    return settings if options.directory is None else settings.model_copy(update={"directory": options.directory})


def _register(
    torc: PatientTorc,
    workflow_id: int,
    options: RunOptions,
    here: ProcessIdentity,
    capacity: NodeCapacity,
    job_token_hash: str | None,
) -> Runner:
    runner = torc.send(
        RegisterRunner(
            workflow_id=workflow_id,
            kind=options.kind,
            labels=dict(options.labels),
            host=here.host,
            pid=here.pid,
            process_started=here.process_started,
            boot_id=here.boot_id,
            capacity=capacity,
            allocation_id=options.given.allocation_id if options.given else None,
            node=options.given.node if options.given else None,
            surroundings=surroundings(os.environ, options.output_dir),
            job_token_hash=job_token_hash,
        )
    )
    if torc.has_asked_again:  # the store may have entered it before, too, and its answer did not arrive
        for other in torc.send(ListRunners(workflow_id=workflow_id, active_only=True)).items:
            is_same = (other.host, other.pid, other.process_started) == (here.host, here.pid, here.process_started)
            if is_same and other.id != runner.id:
                torc.send(EndRunner(workflow_id=workflow_id, runner_id=other.id, reason="failed"))
    return runner


def _end_unused(torc: Torc, runner: Runner, output_dir: Path) -> None:
    with contextlib.suppress(TorcError):  # the caller reports why it could not start
        dead_runners.end_runner(torc, runner, "failed", output_dir)


def _end(torc: Torc, runner: Runner, reason: str, loop: Loop, output_dir: Path) -> None:
    """End the runner. If the store is unreachable, the next run here will find that this process is gone."""
    try:
        dead_runners.end_runner(torc, runner, reason, output_dir)
    except NotFound:
        return  # deleted meanwhile
    except StoreLost as error:
        kept = f"{error.hint}. Results since then are kept in {loop.journal.path} and delivered when you continue with"
        lost = f"{error.hint}. The last results could not be kept: their jobs run again with"
        is_something = loop.journal.is_kept or not loop.journal.is_whole
        hint = (kept if loop.journal.is_whole else lost) if is_something else f"{error.hint}. Then continue with"
        raise StoreLost(error.message, hint=f"{hint}: torc run {runner.workflow_id}", **error.details) from None
    except Unavailable as error:
        kept = f"what was finished is kept in {loop.journal.path} and will be delivered by the next run"
        lost = "the last results could not be written here either: their jobs will run again"
        raise Unavailable(
            f"the store does not answer: {error}",
            hint=f"{kept if loop.journal.is_whole else lost}; continue with: torc run {runner.workflow_id}",
        ) from None


def _place(
    settings: RunnerSettings, options: RunOptions, here: ProcessIdentity, runner_id: int, to_store: Mapping[str, str]
) -> RunnerContext:
    mark = f"{hardware.mark(here.pid, here.process_started, runner_id)}{uuid.uuid4().hex[:8]}"
    given = options.given
    inherited = without_threads_of_job(given.environ if given else os.environ)
    environ = {key: value for key, value in inherited.items() if key not in _FOREIGN}
    environ["PATH"] = _with_torc(environ.get("PATH", os.defpath))
    environ |= settings.env
    environ |= {
        "TORC_WORKFLOW_ID": str(settings.workflow_id),
        "TORC_WORKFLOW_NAME": settings.workflow_name,
        "TORC_RUN_ID": str(settings.run_id),
        "TORC_OUTPUT_DIR": str(options.output_dir),
        "TORC_RUNNER": f"{os.environ.get('TORC_RUNNER', '')} {mark}".strip(),
        **to_store,
    }
    series = path_of(options.output_dir, here.host, settings.workflow_id, settings.run_id, runner_id)
    meta = {"host": here.host, "workflow_id": settings.workflow_id, "run_id": settings.run_id, "runner_id": runner_id}
    monitoring = Monitoring.of(settings.settings, series, meta)
    return RunnerContext(
        run_id=settings.run_id,
        output_dir=str(options.output_dir),
        mark=mark,
        environ=environ,
        monitoring=monitoring if given is None or given.lines_up else monitoring.of_steps(),
        gpu_variables=given.gpu_variables if given else ("CUDA_VISIBLE_DEVICES",),
        visibility_delay_seconds=given.visibility_delay_seconds if given else 0.0,
        signal_seconds=given.signal_seconds if given else 0.0,
        warning_seconds=given.warning_seconds if given else 0.0,
    )


def _with_torc(path: str) -> str:
    """Append the directory of this `torc` to PATH, after everything that the user has there."""
    folder = os.path.dirname(sys.executable)
    known = path.split(os.pathsep)
    return (
        path if folder in known or not os.path.exists(os.path.join(folder, "torc")) else f"{path}{os.pathsep}{folder}"
    )


def _capacity(options: RunOptions) -> tuple[Capacity | Pool, tuple[str, ...]]:
    """Return the capacity for jobs. Which of them fit into the time left is decided by the store with each assignment."""
    if options.given:
        return options.given.capacity, options.given.gpus
    found, gpus = hardware.node()
    if options.num_gpus is not None:
        gpus = gpus[: options.num_gpus] if len(gpus) >= options.num_gpus else tuple(map(str, range(options.num_gpus)))
    return (
        Capacity(options.num_cpus or found.num_cpus, options.memory_bytes or found.memory_bytes, len(gpus)),
        gpus,
    )


def _make(output_dir: Path) -> None:
    logs = output_dir / LOG_FOLDER
    try:
        make_folder(output_dir)
        private_folder(logs)
        with tempfile.TemporaryFile(dir=logs) as probe:
            probe.write(b"torc")
    except OSError as error:
        raise Unavailable(
            f"cannot write to the output directory {output_dir}: {error.strerror}",
            hint="choose another one with --output-dir, or free some space",
        ) from None


@contextmanager
def _in_directory(directory: str) -> Iterator[None]:
    """Work in the workflow's directory: children inherit it, and posix_spawn cannot set one."""
    before = os.getcwd()
    try:
        os.chdir(directory)
    except OSError as error:
        raise Unavailable(
            f"cannot work in {directory}: {error.strerror}",
            hint="the workflow runs in this directory: create it or make it accessible",
        ) from None
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _updates(loop: Loop, on_update: Callable[[RunnerView], None] | None, seconds: float) -> Iterator[None]:
    """Call back at intervals on a separate thread, so that the display never delays the loop."""
    if on_update is None:
        yield
        return
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(seconds):
            on_update(loop.view())

    thread = threading.Thread(target=show, name="torc-display", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
