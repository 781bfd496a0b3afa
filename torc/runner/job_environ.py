"""The environment variables that Torc sets for attempts. Those of the workflow and the runner are set by `local_run`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from torc.api.runs import Assignment
from torc.runner.state import StartAttempt

#: numbers of threads of numerical libraries, which otherwise start one thread for each CPU of the node
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "JULIA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def encoded(environ: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return variables as bytes, as the operating system passes them."""
    return {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}


def without_threads_of_job(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the thread counts that Torc itself set for the job in which this runs."""
    given = environ.get("TORC_NUM_CPUS") if "TORC_JOB_ID" in environ else None
    return {name: value for name, value in environ.items() if name not in THREADS or value != given}


def threads_not_set(environ: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Return the variables of THREADS that the user has not set for all jobs."""
    return tuple(encoded_name for name in THREADS if (encoded_name := name.encode()) not in environ)


def of_attempt(effect: StartAttempt, gpu_variables: Sequence[str], threads: Sequence[bytes] = ()) -> dict[bytes, bytes]:
    """Return what an attempt's environment adds to the base: its GPUs in `gpu_variables`, its number of CPUs in `threads`.

    The job's own `env` takes precedence.
    """
    assignment, request = effect.assignment, effect.assignment.request
    environ = dict.fromkeys(threads, b"%d" % request.num_cpus)
    environ.update(encoded(assignment.env))
    environ[b"TORC_JOB_ID"] = b"%d" % assignment.job_id
    environ[b"TORC_JOB_NAME"] = os.fsencode(assignment.name)
    environ[b"TORC_ATTEMPT_ID"] = b"%d" % assignment.attempt
    environ[b"TORC_NUM_CPUS"] = b"%d" % request.num_cpus
    environ[b"TORC_MEMORY_BYTES"] = b"%d" % request.memory_bytes
    for name in gpu_variables:
        environ[os.fsencode(name)] = os.fsencode(",".join(effect.gpus))
    if assignment.recovery_script and assignment.previous_return_code is not None:
        environ[b"TORC_RETURN_CODE"] = b"%d" % assignment.previous_return_code
    return environ


def shared_by_ranks(environ: Mapping[bytes, bytes], assignment: Assignment, ranks: int) -> dict[bytes, bytes]:
    """Return the environment of a job with several ranks on each node, which share the thread count that Torc set."""
    each = b"%d" % max(1, assignment.request.num_cpus // ranks)
    ours = {name.encode() for name in THREADS if name not in assignment.env}
    return {name: each if name in ours else value for name, value in environ.items()}
