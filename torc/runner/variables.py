"""The variables that attempts find in their environment. Not for those of the workflow and the runner: `local` gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from torc.runner.state import Start


def encoded(environ: Mapping[str, str]) -> dict[bytes, bytes]:
    """Give variables as the system has them."""
    return {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}


def of_attempt(effect: Start, gpu_variables: Sequence[str]) -> dict[bytes, bytes]:
    """Give what an attempt's environment has beside the base, with its GPUs in these variables."""
    assignment, request = effect.assignment, effect.assignment.request
    environ = encoded(assignment.env)
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
