"""The batch script of an allocation, as text. Pure.

What users wrote is data: it is checked and quoted, never read by a shell. Their own sbatch options stand before ours, so that ours
hold; which of them Torc cannot have is in `torc.planning.sbatch_options`.

The script starts one runner a node (or one for all) in step 0 and waits. Slurm warns the script alone (`--signal=B:TERM@N`); it hands
the warning on to step 0 as SIGURG, which jobs ignore unless they ask for it: a signal to a step reaches all processes in it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from torc.errors import Invalid
from torc.planning import sbatch_options
from torc.planning.scheduler_types import SCHEDULER_TYPES
from torc.schedulers.slurm.fields import memory, walltime_text
from torc.schedulers.slurm.request import SlurmRequest

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"^[A-Za-z0-9_@%+=:,./\-\[\]&|()*]+\Z")
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_OPTION = re.compile(r"^[A-Za-z][A-Za-z0-9-]*\Z")
#: Slurm takes one of these, or the memory of nodes
_PER_PART = frozenset({"mem-per-cpu", "mem-per-gpu"})
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*\Z")
_LONGEST_NAME = 48
#: sent so long before the end; Slurm is up to 60 s early with it (sbatch(1), --signal)
WARNING_SECONDS = 120
_SHORTEST_WARNED = 2 * WARNING_SECONDS
#: of the user's environment, not for jobs: they read the file
_SECRETS = ("TORC_TOKEN", "TORC_WORKER_TOKEN")


@dataclass(frozen=True, slots=True)
class ScriptFacts:
    """What the runners of an allocation need to know."""

    workflow_id: int
    allocation_id: int
    mark: str
    program: tuple[str, ...]  # torc, as it is called on the nodes
    directory: str  # in which it begins
    output_dir: str
    variables: Mapping[str, str] = field(default_factory=dict)  # TORC_API_URL, TORC_TOKEN_FILE ...


_NOBODY = ScriptFacts(0, 0, "", (), "", "")


def job_name(request: SlurmRequest, mark: str) -> str:
    """Return what squeue shows: what people called it, then the mark by which it is found."""
    return f"{_NAME.sub('-', request.name)[:_LONGEST_NAME].strip('-')}.{mark}"


def mark_of(name: str) -> str:
    """Return the mark in the name of a cluster's job."""
    return name.rpartition(".")[2]


def render(request: SlurmRequest, facts: ScriptFacts) -> str:
    """Write the script. Raises Invalid for what no line of a script can hold."""
    check(request)
    ours = list(_ours(request, facts))
    users = _users(request, {name for name, _ in ours})
    options = [f"#SBATCH {_option(name, value)}" for name, value in [*users, *ours]]
    exports = [f"export {_variable(name)}={shlex.quote(_line(value, name))}" for name, value in facts.variables.items()]
    return "\n".join(
        [
            "#!/bin/bash",
            f"# allocation {facts.allocation_id} of workflow {facts.workflow_id}, written by torc",
            *options,
            "",
            f"unset {' '.join(_SECRETS)}",
            *exports,
            "",
            "# before its end, Slurm warns this script: the runners take no more jobs then, and end theirs in time",
            """trap 'scancel --signal=URG "$SLURM_JOB_ID.0"' TERM""",
            f"{_srun(request, facts)} &",
            "runners=$!",
            'wait "$runners"; code=$?',
            'while kill -0 "$runners" 2>/dev/null; do wait "$runners"; code=$?; done',
            'exit "$code"',
            "",
        ]
    )


def check(request: SlurmRequest) -> None:
    """Raise Invalid for options of the user that Torc cannot have, or that no line can hold."""
    _line(request.extra or "", "extra")
    for name, value in request.by_user:
        if not _OPTION.match(name):
            raise Invalid(f"`{name}` is no sbatch option", hint="write long options without `--`, as in slurm_defaults")
        problem = sbatch_options.problem_of(name)
        if problem is not None:
            raise Invalid(
                f"Slurm scheduler {request.scheduler or request.name}: {problem}",
                hint="take it out of slurm_defaults or `extra`",
            )
        if name in _PER_PART and request.memory_bytes_per_node is None and request.cpus_per_node is not None:
            continue
        if name in _PER_PART:
            raise Invalid(
                f"`{name}={value}`: Torc asks for the memory of whole nodes", hint="use `mem` of the scheduler"
            )
    _excluded(request)


def left_out(request: SlurmRequest) -> list[str]:
    """Say which options of the user do not hold, and why; empty: all do."""
    ours = dict(_ours(request, _NOBODY))
    said = []
    for name, value in request.by_user:
        written = f"--{name}" if value is None else f"--{name}={value}"
        if name in sbatch_options.LEFT_OUT:
            said.append(f"`{written}` is left out: {sbatch_options.LEFT_OUT[name]}")
        elif name in ours and name != "exclude" and not _same(name, ours[name], value):
            said.append(f"`{written}` is left out: the scheduler says {_option(name, ours[name])}")
    return said


def _same(option: str, one: str | None, other: str | None) -> bool:
    if option == "mem" and one is not None and other is not None:  # 2g and 2048M
        return memory(one) == memory(other)
    return one == other


def _users(request: SlurmRequest, ours: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """Return the options that the user wrote and those that apply."""
    for name, value in request.by_user:
        if name not in sbatch_options.LEFT_OUT and name not in ours:
            yield name, value


def _excluded(request: SlurmRequest) -> tuple[str, ...]:
    """Name the nodes that are excluded: those of the user, wherever that was written, and those that failed."""
    try:
        return tuple(dict.fromkeys([*sbatch_options.excluded(request.by_user), *request.exclude]))
    except ValueError as error:
        raise Invalid(
            f"Slurm scheduler {request.scheduler or request.name}: {error}", hint="write --exclude=n1,n[3-5]"
        ) from None


def _ours(request: SlurmRequest, facts: ScriptFacts) -> Iterator[tuple[str, str | None]]:
    """Return the options that Torc writes. A comment is the user's: sites charge by it."""
    yield "job-name", job_name(request, facts.mark)
    yield "chdir", facts.directory
    stem = f"{facts.output_dir.rstrip('/')}/{SCHEDULER_TYPES[request.type].log_prefix}wf{facts.workflow_id}_sl".replace(
        "%", "%%"
    )
    yield "output", f"{stem}%j.o"
    yield "error", f"{stem}%j.e"
    yield "open-mode", "append"
    yield "time", walltime_text(request.walltime_seconds)
    yield "nodes", str(request.num_nodes)
    plain = {
        "account": request.account,
        "partition": request.partition,
        "qos": request.qos,
        "constraint": request.constraint,
        "exclude": ",".join(_excluded(request)) or None,
        "tmp": request.tmp,
        "gres": _gres(request),
    }
    yield from ((name, value) for name, value in plain.items() if value is not None)
    if request.ntasks_per_node is not None:
        yield "ntasks-per-node", str(request.ntasks_per_node)
    elif request.cpus_per_node is not None:
        yield "ntasks-per-node", "1"
        yield "cpus-per-task", str(request.cpus_per_node)
    else:
        yield "exclusive", None
    if request.memory_bytes_per_node is not None:
        yield "mem", f"{-(-request.memory_bytes_per_node // (1 << 20))}M" if request.memory_bytes_per_node else "0"
    elif request.cpus_per_node is None:
        yield "mem", "0"
    if request.gpus_per_node and request.gpu_option != "gres" and request.gres is None:
        yield "gpus-per-node", _gpus(request)
    if request.walltime_seconds >= _SHORTEST_WARNED:
        yield "signal", f"B:TERM@{WARNING_SECONDS}"
    yield "no-requeue", None


def _gres(request: SlurmRequest) -> str | None:
    if request.gres is not None or not request.gpus_per_node or request.gpu_option != "gres":
        return request.gres
    return f"gpu:{_gpus(request)}"


def _gpus(request: SlurmRequest) -> str:
    return f"{request.gpu_type}:{request.gpus_per_node}" if request.gpu_type else str(request.gpus_per_node)


def _srun(request: SlurmRequest, facts: ScriptFacts) -> str:
    """Write the start of the runners. One that ends must not end the others, whatever the site has set."""
    number = request.num_nodes if request.start_one_worker_per_node else 1
    words = [
        "srun",
        "--export=ALL",
        f"--nodes={number}",
        f"--ntasks={number}",
        "--ntasks-per-node=1",
        "--wait=0",
        "--kill-on-bad-exit=0",
        "--overlap",
        "--mem=0",
        "--cpu-bind=none",
        "--job-name=torc-runners",
        *facts.program,
        "slurm",
        "run-node",
        str(facts.workflow_id),
        f"--allocation={facts.allocation_id}",
    ]
    if request.scheduler is not None:
        words.append(f"--scheduler={request.scheduler}")
    if request.ntasks_per_node is not None:
        words.append(f"--ntasks-per-node={request.ntasks_per_node}")
    if request.max_parallel_jobs is not None:
        words.append(f"--max-parallel-jobs={request.max_parallel_jobs}")
    words.append(f"--output-dir={facts.output_dir}")
    return " ".join(shlex.quote(_line(word, "command")) for word in words)


def _option(name: str, value: str | None) -> str:
    return f"--{name}" if value is None else f"--{name}={_quoted(_line(value, name))}"


def _quoted(value: str) -> str:
    """Quote a value as sbatch reads its lines: double quotes, with backslashes before what means something in them."""
    if _PLAIN.match(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _line(value: str, what: str) -> str:
    if _CONTROL.search(value):
        raise Invalid(
            f"{what}: {value[:60]!r} has a line break or another control character", hint="write it on one line"
        )
    return value


def _variable(name: str) -> str:
    if not _VARIABLE.match(name):
        raise Invalid(f"`{name}` is no name of a variable", hint="letters, digits and _")
    return name
