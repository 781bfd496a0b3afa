"""The schema of a spec: one pydantic model, from which the JSON Schema and the documentation are generated.

It checks the shapes and values of single objects, only with rules that JSON Schema can express, so that an editor accepts what
Torc accepts. Rules about several objects (names, dependencies, parameters) are checked by `expansion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from torc.failures.categories import Category
from torc.planning.sbatch_options import REFUSED, problem_in, problem_of
from torc.planning.scheduler_types import SchedulerName
from torc.units import format_duration, format_memory
from torc.workflow.resources import DEFAULT_MEMORY_BYTES, DEFAULT_RUNTIME_SECONDS

_NUMBER = r"[0-9]{1,19}(\.[0-9]{1,9})?"
_ISO = (
    rf"[Pp]({_NUMBER}[Yy])?({_NUMBER}[Mm])?({_NUMBER}[Ww])?({_NUMBER}[Dd])?"
    rf"([Tt]({_NUMBER}[Hh])?({_NUMBER}[Mm])?({_NUMBER}[Ss])?)?"
)
_CLOCK = r"[0-9]{1,9}-[0-9]{1,9}(:[0-9]{1,9}){0,2}|[0-9]{1,9}(:[0-9]{1,9}){1,2}"
_UNITS = (
    "s(ec(ond)?s?)?|m(in(ute)?s?)?|h((ou)?rs?)?|d(ays?)?|w(eeks?)?"
    "|S(EC(OND)?S?)?|M(IN(UTE)?S?)?|H((OU)?RS?)?|D(AYS?)?|W(EEKS?)?"
)
MEMORY = rf"^[ \t]*{_NUMBER}[ \t]*[kKmMgGtTpPeE]?([iI]?[bB])?[ \t]*$"
DURATION = rf"^[ \t]*({_ISO}|{_CLOCK}|({_NUMBER}[ \t]*({_UNITS})[ \t]*)+)[ \t]*$"
#: sbatch --time also accepts plain minutes and "no limit"
WALLTIME = rf"^[ \t]*({_ISO}|{_CLOCK}|({_NUMBER}[ \t]*({_UNITS})[ \t]*)+|[0-9]{{1,9}}|UNLIMITED|INFINITE)[ \t]*$"
#: sbatch options that cannot be defaults: they belong to a scheduler, or Torc does not support them
_OF_SCHEDULERS = ("partition", "nodes", "walltime", "time", "mem", "gres", "name", "job-name", "job_name")
MANAGED = (*_OF_SCHEDULERS, *dict.fromkeys(name for option in REFUSED for name in (option, option.replace("-", "_"))))


def _integral(value: Any) -> Any:
    """JSON Schema calls 1.0 an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_managed(option: str) -> str:
    if (problem := problem_of(option)) is not None:
        raise PydanticCustomError("refused_option", "{problem}", {"problem": problem})
    if option in MANAGED:
        raise PydanticCustomError(
            "managed_option", "Torc sets `{option}` itself: set it in a scheduler, or leave it out", {"option": option}
        )
    return option


def _granularity(value: str) -> str:
    return "summary" if value.lower() == "summary" else "time_series"


Name = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=4096)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
Command = Annotated[str, StringConstraints(pattern=r"^[^\x00]*[^\x00 \t\r\n][^\x00]*$")]
Integer = Annotated[int, BeforeValidator(_integral)]
Count = Annotated[int, BeforeValidator(_integral), Field(ge=0, le=2**31 - 1)]
Positive = Annotated[int, BeforeValidator(_integral), Field(ge=1, le=2**31 - 1)]
ExitCode = Annotated[int, BeforeValidator(_integral), Field(ge=-255, le=255)]
Memory = Annotated[str, StringConstraints(pattern=MEMORY)]
Duration = Annotated[str, StringConstraints(pattern=DURATION)]
Walltime = Annotated[str, StringConstraints(pattern=WALLTIME)]
Granularity = Annotated[
    str,
    StringConstraints(pattern=r"^([sS][uU][mM][mM][aA][rR][yY]|[tT][iI][mM][eE]_?[sS][eE][rR][iI][eE][sS])$"),
    AfterValidator(_granularity),
]
CategoryName = Annotated[
    Category, Field(strict=False), WithJsonSchema({"enum": [str(item) for item in Category], "type": "string"})
]
Names = Annotated[list[Name], Field()]
Scalar = Text | Integer | float | bool
ParameterValue = Scalar | Annotated[list[Scalar], Field(min_length=1)]
_Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Parameters = dict[_Identifier, ParameterValue]
Env = dict[_Identifier, Text]
SbatchOption = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$"), AfterValidator(_not_managed)]


# Parts that may occur a hundred thousand times use default factories: pydantic would deep-copy a default for each of them.
_NONE: dict[str, Any] = {"default": []}
_EMPTY: dict[str, Any] = {"default": {}}


class SpecPart(BaseModel):
    """What the parts of a spec have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """Treat `field: null`, which YAML writes as `field:`, as an absent field, as Torc 0.12 did."""
        if type(data) is dict and None in data.values():
            needed = {name for name, field in cls.model_fields.items() if field.is_required()}
            return {
                key: value
                for key, value in data.items()
                if value is not None or key in needed or key not in cls.model_fields
            }
        return data


class Parameterized(SpecPart):
    """A part that parameters can multiply or gather."""

    parameters: Parameters = Field(
        default_factory=dict,
        json_schema_extra=_EMPTY,
        description="Parameters of this object; they take precedence over `use_parameters`.",
    )
    parameter_mode: Literal["product", "zip"] = Field(
        "product",
        description="`product`: all combinations; `zip`: the first values together, then the second, and so on.",
    )
    use_parameters: Names = Field(
        default_factory=list, json_schema_extra=_NONE, description="Workflow parameters that this object uses, by name."
    )


class ResourceRequirements(SpecPart):
    """The resources that a job needs."""

    name: Name | None = Field(None, description="Name by which jobs refer to it.")
    num_cpus: Positive = Field(1, description="CPUs (hardware threads) on each node.")
    num_gpus: Count = Field(0, description="GPUs on each node.")
    num_nodes: Positive = Field(1, description="Number of nodes; more than one makes it a multi-node job (MPI).")
    memory: Memory = Field(
        format_memory(DEFAULT_MEMORY_BYTES),
        description="Memory on each node: `512k`, `512m`, `2g`, `1t`, `2GiB`; units are powers of 1024.",
        examples=["2g"],
    )
    runtime: Duration = Field(
        format_duration(DEFAULT_RUNTIME_SECONDS),
        description="Time limit: ISO 8601 (`PT30M`), `30m`, or `1-02:00:00`.",
        examples=["PT1H", "30m"],
    )


class NamedResourceRequirements(ResourceRequirements):
    """A class of resource requirements that jobs refer to by name."""

    name: Name = Field(description="Name by which jobs refer to it.")


class JobSpec(Parameterized):
    """A command to run, with its resources and dependencies."""

    name: Name = Field(description="Unique name; a parameter in it multiplies the job.", examples=["train_{lr}"])
    command: Command = Field(
        description="Shell command, run by bash, or by sh if there is no bash.",
        examples=["python3 train.py --lr {lr}"],
    )
    invocation_script: Command | None = Field(
        None, description='Script that receives the command as its arguments and runs it with `exec "$@"`.'
    )
    env: Env = Field(
        default_factory=dict,
        json_schema_extra=_EMPTY,
        description="Environment variables of this job; they take precedence over the workflow's.",
    )
    priority: Count = Field(0, description="Jobs with a higher priority start first.")
    resource_requirements: Name | ResourceRequirements | None = Field(
        None, description="Name of one of the workflow's `resource_requirements`, or an object."
    )
    failure_handler: Name | None = Field(None, description="Name of one of the workflow's `failure_handlers`.")
    scheduler: Name | None = Field(None, description="Name of the Slurm scheduler whose allocations may run it.")
    cancel_on_blocking_job_failure: bool = Field(
        True, description="Cancel this job when one of its prerequisites fails."
    )
    supports_termination: bool = Field(
        False, description="The job handles SIGTERM: it gets time to save its work before it is killed."
    )
    keep_background_processes: bool = Field(
        False, description="Let background processes outlive the job; otherwise they end with it."
    )
    depends_on: Names = Field(
        default_factory=list, json_schema_extra=_NONE, description="Names of the jobs that it waits for."
    )
    depends_on_regexes: list[Command] = Field(
        default_factory=list,
        json_schema_extra=_NONE,
        description="Regular expressions that match the whole names of such jobs.",
    )
    input_files: Names = Field(
        default_factory=list, json_schema_extra=_NONE, description="Names of the files that it reads."
    )
    input_file_regexes: list[Command] = Field(
        default_factory=list,
        json_schema_extra=_NONE,
        description="Regular expressions that match the whole names of such files.",
    )
    output_files: Names = Field(
        default_factory=list, json_schema_extra=_NONE, description="Names of the files that it writes."
    )
    output_file_regexes: list[Command] = Field(
        default_factory=list,
        json_schema_extra=_NONE,
        description="Regular expressions that match the whole names of such files.",
    )
    input_user_data: Names = Field(
        default_factory=list, json_schema_extra=_NONE, description="Names of the user data that it reads."
    )
    input_user_data_regexes: list[Command] = Field(
        default_factory=list,
        json_schema_extra=_NONE,
        description="Regular expressions that match the whole names of such user data.",
    )
    output_user_data: Names = Field(
        default_factory=list, json_schema_extra=_NONE, description="Names of the user data that it writes."
    )
    output_user_data_regexes: list[Command] = Field(
        default_factory=list,
        json_schema_extra=_NONE,
        description="Regular expressions that match the whole names of such user data.",
    )


class FileSpec(Parameterized):
    """A file that jobs read or write."""

    name: Name = Field(description="Unique name.")
    path: Command = Field(description="Path, relative to the directory of submission.")
    st_mtime: float | None = Field(
        None, description="Ignored: times are read from the file itself.", json_schema_extra={"deprecated": True}
    )


class UserDataSpec(Parameterized):
    """A named piece of JSON that jobs exchange."""

    name: Name = Field(description="Unique name.")
    data: Any = Field(None, description="Any JSON value.")
    is_ephemeral: bool = Field(False, description="Clear it when the workflow is reset.")


class Rule(SpecPart):
    """What to do about certain failures."""

    exit_codes: list[ExitCode] = Field(
        [],
        description="Exit codes to match: 128 + N for signal N, 152 for a timeout, 137 for out of memory.",
        examples=[[10, 11]],
    )
    match_all_exit_codes: bool = Field(False, description="Match every exit code.")
    match_categories: list[CategoryName] = Field([], description="Diagnosed categories to match.")
    recovery_script: Command | None = Field(None, description="Command to run before the next attempt.")
    max_retries: Count = Field(3, description="How often this rule may retry a job in one run.")
    memory_multiplier: float | None = Field(None, gt=0, description="Factor applied to the memory of the next attempt.")
    runtime_multiplier: float | None = Field(
        None, gt=0, description="Factor applied to the runtime of the next attempt."
    )
    delay_seconds: float | None = Field(None, ge=0, description="Delay before the next attempt.")
    backoff: float | None = Field(None, ge=1, description="Factor by which the delay grows with each retry.")


class FailureHandlerSpec(SpecPart):
    """Rules for failed attempts; the first that matches and has retries left is applied."""

    name: Name = Field(description="Name by which jobs refer to it.")
    rules: list[Rule] = Field(min_length=1, description="The rules, in the order in which they are tried.")


class PlanOptions(SpecPart):
    """The options of a plan of allocations, besides account, QOS and constraint."""

    partitions: list[Text] = Field([], description="Partitions to use.")
    gpu_type: Text | None = Field(None, description="Type of GPU to use.")
    group_by: Literal["resource-requirements", "partition"] = Field(
        "resource-requirements", description="Which jobs share allocations."
    )
    walltime_strategy: Literal["max-job-runtime", "max-partition-time"] = Field(
        "max-job-runtime", description="How the walltime of allocations is chosen."
    )
    walltime_multiplier: float = Field(1.5, ge=1, description="Factor on the time that the jobs need.")
    single_allocation: bool = Field(False, description="Request all nodes in one allocation.")
    num_allocations: Positive | None = Field(None, description="Number of allocations of each kind.")
    max_nodes: Positive | None = Field(None, description="Most nodes at once.")


class SchedulerPart(SpecPart):
    """An allocation to request, whatever the batch scheduler."""

    def problems(self) -> list[tuple[str, str]]:
        """Return what the scheduler would not accept: the field, and what is wrong with it."""
        return []


class SlurmSchedulerSpec(SchedulerPart):
    """A Slurm allocation to request."""

    name: Name = Field(description="Name by which jobs and actions refer to it.")
    account: Text | None = Field(None, description="Account to charge.")
    partition: Text | None = Field(None, description="Partition.")
    nodes: Positive = Field(1, description="Number of nodes.")
    walltime: Walltime = Field("01:00:00", description="Time limit, as for sbatch --time.")
    mem: Text | None = Field(None, description="Memory per node, as for sbatch --mem.")
    gres: Text | None = Field(None, description="Generic resources, as for sbatch --gres.")
    qos: Text | None = Field(None, description="Quality of service.")
    cpus_per_node: Positive | None = Field(None, description="CPUs on each node; default: whole nodes.")
    gpus_per_node: Positive | None = Field(
        None, description="GPUs on each node, requested with --gres or --gpus-per-node, whichever the cluster expects."
    )
    constraint: Text | None = Field(None, description="Required node features, as for sbatch --constraint.")
    ntasks_per_node: Positive | None = Field(None, description="Number of tasks per node.")
    tmp: Text | None = Field(None, description="Local disk space per node, as for sbatch --tmp.")
    extra: Text | None = Field(None, description="Further sbatch options, as one string.")
    planned: bool = Field(
        False,
        description="Created by `torc submit`, which may replan this scheduler; without it, the scheduler is used as it is.",
    )
    plan_options: PlanOptions | None = Field(
        None, description="The options of `torc submit` for this plan; replanning keeps them."
    )

    def problems(self) -> list[tuple[str, str]]:
        """Read `extra` as sbatch does."""
        problem = problem_in(self.extra or "")
        return [] if problem is None else [("extra", problem)]


#: by the type of scheduler; specs list them in `{type}_schedulers`
SCHEDULER_MODELS: Mapping[str, type[SchedulerPart]] = {"slurm": SlurmSchedulerSpec}


class Action(SpecPart):
    """Something to do when an event occurs."""

    trigger_type: Literal[
        "on_workflow_start",
        "on_workflow_complete",
        "on_jobs_ready",
        "on_jobs_complete",
        "on_worker_start",
        "on_worker_complete",
    ] = Field(description="The event that triggers the action.")
    action_type: Literal["run_commands", "schedule_nodes"] = Field(description="What the action does.")
    jobs: Names = Field([], description="Jobs that `on_jobs_*` refers to.")
    job_name_regexes: list[Command] = Field(
        [], description="Regular expressions that match the whole names of such jobs."
    )
    commands: list[Command] = Field([], description="Shell commands for `run_commands`.")
    scheduler: Name | None = Field(None, description="Name of the Slurm scheduler for `schedule_nodes`.")
    scheduler_type: Literal[SchedulerName, "local"] | None = Field(None, description="Kind of the scheduler.")
    num_allocations: Positive = Field(1, description="Number of allocations to submit.")
    start_one_worker_per_node: bool = Field(False, description="Start one runner on each node of an allocation.")
    max_parallel_jobs: Positive | None = Field(
        None, description="Most jobs at once on each runner, which then ignores resources."
    )
    at_most_once: bool = Field(
        False,
        description="Do not repeat `run_commands` if its runner is lost after it has started, even though it may not have finished; "
        "otherwise it runs again, with the same `TORC_ACTION_KEY`.",
    )
    persistent: bool = Field(
        False,
        description="Every runner runs `run_commands` once, including runners that join later; otherwise only one runner does.",
    )


class ResourceMonitor(SpecPart):
    """How the use of resources is measured."""

    enabled: bool = Field(True, description="Whether to measure at all.")
    granularity: Granularity = Field(
        "summary", description="`summary` or `time_series`.", examples=["summary", "time_series"]
    )
    sample_interval_seconds: float = Field(5, gt=0, description="Time between samples.")
    generate_plots: bool = Field(False, description="Draw plots at the end.")
    metrics: list[Text] = Field(
        [], description="Ignored: everything is measured.", json_schema_extra={"deprecated": True}
    )


class WorkflowSpec(SpecPart):
    """A whole workflow."""

    name: Name = Field(description="Name of the workflow.")
    jobs: list[JobSpec] = Field(min_length=1, description="What to run.")
    user: Text | None = Field(None, description="Owner; default: the user who creates the workflow.")
    description: Text | None = Field(None, description="What it is for.")
    project: Text | None = Field(None, description="Project it belongs to.")
    metadata: dict[str, Any] | Text | None = Field(
        None, description="Any further information: an object, or its JSON text."
    )
    env: Env = Field({}, description="Environment variables of all jobs.")
    parameters: Parameters = Field({}, description="Parameters that objects use through `use_parameters`.")
    files: list[FileSpec] = Field([], description="Files that jobs read and write.")
    user_data: list[UserDataSpec] = Field([], description="JSON that jobs exchange.")
    resource_requirements: list[NamedResourceRequirements] = Field([], description="Classes of resources.")
    failure_handlers: list[FailureHandlerSpec] = Field([], description="What to do about failed attempts.")
    slurm_schedulers: list[SlurmSchedulerSpec] = Field([], description="Slurm allocations.")
    slurm_defaults: dict[SbatchOption, Scalar | None] = Field(
        {},
        description="Long sbatch options for all allocations, except those that Torc sets.",
        examples=[{"qos": "high"}],
    )
    actions: list[Action] = Field([], description="What to do when events occur.")
    resource_monitor: ResourceMonitor | None = Field(None, description="How the use of resources is measured.")
    use_pending_failed: bool = Field(False, description="Failed jobs wait for a decision.")
    jobs_sort_method: Literal["none", "gpus_runtime_memory", "gpus_memory_runtime"] = Field(
        "none", description="Order of jobs of equal priority: largest first, by these resources."
    )
    compute_node_expiration_buffer_seconds: Count | None = Field(
        None, description="End a worker this long before its time limit."
    )
    compute_node_wait_for_new_jobs_seconds: Count | None = Field(
        None, description="Let an idle worker wait this long for more jobs."
    )
    compute_node_ignore_workflow_completion: bool | None = Field(
        None, description="Keep workers running when the workflow is done, until their time limit."
    )
    compute_node_wait_for_healthy_database_minutes: Count | None = Field(
        None, description="How long to keep running while the server is unreachable."
    )
    compute_node_min_time_for_new_jobs_seconds: Count | None = Field(
        None, description="Start no new job when a worker has less time left than this."
    )
    enforce_memory: bool = Field(False, description="Kill jobs that use more memory than they requested.")
    pin_cpus: bool = Field(False, description="Bind each job to its own CPUs, as many as it requests.")
    execution: Literal["direct", "step"] = Field("direct", description="How jobs start inside Slurm allocations.")
