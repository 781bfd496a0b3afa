"""Expand the jobs of a spec into planned jobs, and build the plan.

Each template is expanded into columns: one iterator per field, with the values for all its jobs. Values that are equal for all jobs
of a template are computed once; equal lists, inputs and prerequisites are shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, repeat
from typing import NamedTuple

from torc.planning.scheduler_types import SCHEDULER_NOUN, SCHEDULER_TYPES
from torc.spec.document import Path
from torc.spec.expansion.dependencies import Dependencies, connect
from torc.spec.expansion.names import Indexes, Names, NoReference, References, UnknownName, distinct, merged
from torc.spec.expansion.objects import Builder, ObjectTemplate
from torc.spec.expansion.templates import Combination, Template, gathered_items
from torc.spec.model import JobSpec
from torc.spec.plan import JOB_SETTINGS, InputSet, Plan, PlannedFile, PlannedJob, PlannedRequirement
from torc.workflow.resources import DEFAULT_CLASS, ResourceRequest


class _Relation(NamedTuple):
    """A relation of jobs to files, user data or other jobs: the fields with names, and those with regular expressions."""

    listed: str
    regexes: str
    noun: str


_RELATIONS = (
    _Relation("depends_on", "depends_on_regexes", "jobs"),
    _Relation("input_files", "input_file_regexes", "files"),
    _Relation("output_files", "output_file_regexes", "files"),
    _Relation("input_user_data", "input_user_data_regexes", "user_data"),
    _Relation("output_user_data", "output_user_data_regexes", "user_data"),
)
SETTINGS = (
    "use_pending_failed",
    "jobs_sort_method",
    "enforce_memory",
    "pin_cpus",
    "execution",
    *(each.defaults_field for each in SCHEDULER_TYPES.values()),
    "resource_monitor",
    "compute_node_expiration_buffer_seconds",
    "compute_node_wait_for_new_jobs_seconds",
    "compute_node_ignore_workflow_completion",
    "compute_node_wait_for_healthy_database_minutes",
    "compute_node_min_time_for_new_jobs_seconds",
)

_new_job = partial(tuple.__new__, PlannedJob)


@dataclass(slots=True)
class FilledTemplate:
    """The jobs of one template: their fields as columns. A constant column is a `repeat`."""

    shape: ObjectTemplate
    first: int
    count: int
    commands: Iterable[str]
    scripts: Iterable[str | None]
    envs: Iterable[Mapping[str, str]]
    relations: dict[str, Iterable[Indexes]]
    input_sets: Iterable[int | None] = field(default_factory=lambda: repeat(None))
    #: priority, requirement and so on, the same for all
    fixed: Mapping[str, object] = field(default_factory=dict)


def build_plan(builder: Builder) -> Plan | None:
    """Build the whole plan; None if there were errors, which are recorded in the document."""
    spec, document = builder.spec, builder.document
    builder.share_parameters()
    for key, text in spec.env.items():
        builder.refuse_references(text, ("env", key))
    for at, handler in enumerate(spec.failure_handlers):
        for number, rule in enumerate(handler.rules):
            path: Path = ("failure_handlers", at, "rules", number, "recovery_script")
            builder.refuse_references(rule.recovery_script or "", path)
    builder.plan_requirements()
    handlers, schedulers = Names("failure handler"), Names(SCHEDULER_NOUN)
    planned_handlers = builder.named(handlers, spec.failure_handlers, "failure_handlers", "failure_handler")
    planned_schedulers = builder.schedulers(schedulers)
    files = builder.plan_files()
    user_data = builder.plan_user_data()
    shapes = [builder.shape(job, job.name, ("jobs", at)) for at, job in enumerate(spec.jobs)]
    if not builder.fits(shapes, "jobs"):
        return None
    origin: dict[int, Path] = {}
    entered = [shape for shape in shapes if shape is not None and builder.enter(builder.jobs, shape, origin)]
    jobs = _Jobs(builder, files, handlers, schedulers)
    for shape in entered:
        jobs.add(shape, spec.jobs[int(shape.path[1])])
    actions = builder.plan_actions(schedulers)
    metadata = builder.metadata()
    if document.failed:
        return None
    connected = connect(builder, jobs.filled, jobs.input_sets, [file.path for file in files])
    if connected is None:
        return None
    return Plan(
        name=spec.name,
        jobs=jobs.planned(connected),
        requirements=builder.planned_requirements,
        gates=connected.gates,
        input_sets=jobs.input_sets,
        templates=[(int(one.shape.path[1]), one.first, one.count) for one in jobs.filled],
        files=[
            f._replace(producer=connected.file_producer[n]) if n in connected.file_producer else f
            for n, f in enumerate(files)
        ],
        user_data=[
            d._replace(producer=connected.data_producer[n]) if n in connected.data_producer else d
            for n, d in enumerate(user_data)
        ],
        failure_handlers=planned_handlers,
        schedulers=planned_schedulers,
        actions=actions,
        user=spec.user,
        description=spec.description,
        project=spec.project,
        metadata=metadata,
        env=spec.env,
        settings=spec.model_dump(mode="json", exclude_defaults=True, include=set(SETTINGS)),
        job_counts=[filled.count for filled in jobs.filled],
    )


class _Jobs:
    """Expands the templates of one plan."""

    def __init__(self, builder: Builder, files: Sequence[PlannedFile], handlers: Names, schedulers: Names) -> None:
        self.builder, self.handlers, self.schedulers = builder, handlers, schedulers
        self.names = {"jobs": builder.jobs, "files": builder.files, "user_data": builder.user_data}
        self.references = References(builder.files, builder.user_data, [file.path for file in files])
        self.filled: list[FilledTemplate] = []
        self.input_sets: list[InputSet] = []
        self._input_set_of: dict[InputSet, int] = {}
        self._inline: dict[ResourceRequest, int] = {}
        self._envs: dict[tuple[str, ...], Mapping[str, str]] = {}
        self._characters_left = builder.limits.max_expanded_characters
        self._num_jobs = 0

    def add(self, shape: ObjectTemplate, item: JobSpec) -> None:
        """Expand a template. Problems are reported once, with an example."""
        builder, path = self.builder, shape.path
        count, first = shape.size, self._num_jobs
        self._num_jobs += count
        command = builder.compiled(shape, item.command, (*path, "command"))
        script = item.invocation_script and builder.compiled(
            shape, item.invocation_script, (*path, "invocation_script")
        )
        envs = self._env_column(shape, item)
        relations = {one.listed: self._relation(shape, item, one) for one in _RELATIONS}
        fixed = {
            "requirement": self._requirement(item, path),
            "failure_handler": self._named(self.handlers, item.failure_handler, (*path, "failure_handler")),
            "scheduler": self._named(self.schedulers, item.scheduler, (*path, "scheduler")),
            **{setting.name: getattr(item, setting.name) for setting in JOB_SETTINGS},
        }
        if command is None or (item.invocation_script and not script) or not self._fits(shape, command, script or None):
            return
        commands = shape.filled(command)
        scripts: Iterable[str | None] = shape.filled(script) if script else repeat(None)
        filled = FilledTemplate(shape, first, count, commands, scripts, envs, relations, fixed=fixed)
        may_refer = [self._check_references(shape, command, "command")]
        if script:
            may_refer.append(self._check_references(shape, script, "invocation_script"))
        if any(may_refer):
            self._replace_references(filled)
        filled.input_sets = self._input_set_column(filled)
        self.filled.append(filled)

    def planned(self, connected: Dependencies) -> list[PlannedJob]:
        jobs: list[PlannedJob] = []
        names = iter(self.builder.jobs.index)  # in order of index: dictionaries keep their order
        gates = iter(connected.gate_of)
        for filled in self.filled:
            columns = {
                "name": islice(names, filled.count),
                "gate": gates,
                "command": filled.commands,
                "env": filled.envs,
                "invocation_script": filled.scripts,
                "input_set": filled.input_sets,
                "output_files": filled.relations["output_files"],
                "output_user_data": filled.relations["output_user_data"],
                **{key: repeat(value) for key, value in filled.fixed.items()},
            }
            # the names are exhausted first, before a value is taken from the gates, which the next template continues
            jobs.extend(map(_new_job, zip(*(columns[key] for key in PlannedJob._fields), strict=False)))
        return jobs

    def _fits(self, shape: ObjectTemplate, command: Template, script: Template | None) -> bool:
        longest = command.longest + (script.longest if script else 0)
        if command.slots or (script and script.slots):
            self._characters_left -= longest * shape.size
        if self._characters_left < 0:
            most = self.builder.limits.max_expanded_characters
            message = f"the commands expand to more than {most:,} characters"
            self.builder.report("too_many", message, (*shape.path, "command"), suggestion="put the script into a file")
        return self._characters_left >= 0

    # -- columns ------------------------------------------------------------------------------------------------

    def _env_column(self, shape: ObjectTemplate, item: JobSpec) -> Iterable[Mapping[str, str]]:
        for key, text in item.env.items():
            self.builder.refuse_references(text, (*shape.path, "env", key))
        templates = [self.builder.compiled(shape, text, (*shape.path, "env", key)) for key, text in item.env.items()]
        columns = [shape.filled(template) for template in templates if template is not None]
        keys = tuple(item.env)
        if not any(template is not None and template.slots for template in templates):
            known = self._envs.setdefault((*keys, *item.env.values()), item.env)
            return repeat(known)
        return (
            self._envs.setdefault((*keys, *row), dict(zip(keys, row, strict=True)))
            for row in zip(*columns, strict=True)
        )

    def _relation(self, shape: ObjectTemplate, item: JobSpec, relation: _Relation) -> Iterable[Indexes]:
        parts: list[Iterable[Indexes]] = []
        for key, by_regex in ((relation.listed, False), (relation.regexes, True)):
            texts: list[str] = getattr(item, key)
            if texts:
                parts.append(self._column(shape, texts, (*shape.path, key), self.names[relation.noun], by_regex))
        if not parts:
            return repeat(())
        if len(parts) == 1:
            return parts[0]
        if all(isinstance(part, repeat) for part in parts):
            return repeat(merged(*(next(iter(part)) for part in parts)))
        return list(map(merged, *parts))

    def _column(
        self, shape: ObjectTemplate, texts: Sequence[str], path: Path, names: Names, by_regex: bool
    ) -> Iterable[Indexes]:
        """Resolve a list of names or regular expressions for all jobs of a template."""
        templates = [
            self.builder.compiled(shape, text, (*path, at), gathers=not by_regex, in_regex=by_regex)
            for at, text in enumerate(texts)
        ]
        whole = [template for template in templates if template is not None]
        mentioned = frozenset[int]().union(*(template.parameters for template in whole))
        varying = tuple(sorted(mentioned.intersection(shape.multiplied)))
        if not self.builder.spend(_num_items(shape, whole, varying), path):
            return repeat(())
        try:
            if not varying:
                return repeat(_resolved(shape, whole, (0,) * len(shape.space.names), names, by_regex))
            if varying == shape.multiplied and not by_regex and not mentioned.intersection(shape.gathered):
                rows = zip(*(map(names.index.__getitem__, shape.filled(t)) for t in whole), strict=True)
                return list(map(distinct, rows) if len(whole) > 1 else rows)
            return _by_part(shape, whole, varying, names, by_regex)
        except UnknownName:
            self._explain(shape, templates, path, names, by_regex)
            return repeat(())

    def _explain(
        self, shape: ObjectTemplate, templates: Sequence[Template | None], path: Path, names: Names, by_regex: bool
    ) -> None:
        """Report each unresolvable item of a list, with the first combination for which it fails."""
        nowhere = (0,) * len(shape.space.names)
        for at, template in enumerate(templates):
            if template is None:
                continue
            for combination in shape.space.within(nowhere, template.parameters):
                name = template.fill(combination)
                try:
                    names.match(name) if by_regex else names.find(name)
                except UnknownName as error:
                    self.builder.unknown(error, (*path, at), shape.example("job", combination))
                    break

    # -- shared values ----------------------------------------------------------------------------------------------

    def _named(self, names: Names, name: str | None, path: Path) -> int | None:
        return None if name is None else self.builder.lookup(names, name, path)

    def _requirement(self, item: JobSpec, path: Path) -> int:
        builder, wanted = self.builder, item.resource_requirements
        if isinstance(wanted, str):
            return builder.lookup(builder.requirements, wanted, (*path, "resource_requirements")) or 0
        request = ResourceRequest() if wanted is None else builder.request(wanted, (*path, "resource_requirements"))
        if request not in self._inline:
            self._inline[request] = len(builder.planned_requirements)
            name = DEFAULT_CLASS if wanted is None else f"inline_{len(self._inline)}"
            while name in builder.requirements.index:
                name += "_"
            builder.requirements.index[name] = len(builder.planned_requirements)
            builder.planned_requirements.append(PlannedRequirement(name, request))
        return self._inline[request]

    # -- references and inputs ----------------------------------------------------------------------------------

    def _check_references(self, shape: ObjectTemplate, template: Template, field_: str) -> bool:
        """Report malformed references, using the first job; return whether the texts may contain references."""
        text = template.fill(next(iter(shape.combinations())))
        for found in self.references.astray(text) if "{" in text or "$" in text else ():
            self.builder.astray(found, (*shape.path, field_))
        if "${files." in text or "${user_data." in text:
            return True
        values = (value for _, texts in template.slots for value in texts)
        return bool(template.slots) and ("${%s" in template.pattern or any("${" in value for value in values))

    def _replace_references(self, filled: FilledTemplate) -> None:
        shape = filled.shape
        commands: list[str] = []
        scripts: list[str | None] = []
        columns = {one.listed: list(_sized(filled.relations[one.listed], filled.count)) for one in _RELATIONS}
        rows = zip(range(filled.count), filled.commands, filled.scripts, shape.combinations(), strict=False)
        for number, command, script, combination in rows:
            declared: dict[str, list[int]] = {}
            key = "command"
            try:
                commands.append(self.references.replace(command, declared))
                key = "invocation_script"
                scripts.append(None if script is None else self.references.replace(script, declared))
            except UnknownName as error:
                self.builder.unknown(error, (*shape.path, key), shape.example("job", combination))
                return
            except NoReference as error:
                self.builder.astray(error.astray, (*shape.path, key), shape.example("job", combination))
                return
            for field_, indexes in declared.items():
                columns[field_][number] = merged(columns[field_][number], distinct(indexes))
        filled.commands, filled.scripts = commands, scripts
        filled.relations.update(columns)

    def _input_set_column(self, filled: FilledTemplate) -> Iterable[int | None]:
        files, data = filled.relations["input_files"], filled.relations["input_user_data"]
        if isinstance(files, repeat) and isinstance(data, repeat):
            return repeat(self._input_set(next(iter(files)), next(iter(data))))
        return list(map(self._input_set, _sized(files, filled.count), _sized(data, filled.count)))

    def _input_set(self, files: Indexes, user_data: Indexes) -> int | None:
        if not files and not user_data:
            return None
        inputs = InputSet(files, user_data)
        known = self._input_set_of.setdefault(inputs, len(self.input_sets))
        if known == len(self.input_sets):
            self.input_sets.append(inputs)
        return known


def _sized(column: Iterable[Indexes], count: int) -> Iterator[Indexes]:
    """Yield `count` values of a column, which may be infinite."""
    return (value for _, value in zip(range(count), column, strict=False))


def _num_items(shape: ObjectTemplate, templates: Sequence[Template], varying: tuple[int, ...]) -> int:
    """Return the number of items that a list expands to, over all jobs."""
    each = sum(shape.space.size(template.parameters.intersection(shape.gathered)) for template in templates)
    return each * shape.space.size(varying)


def _resolved(
    shape: ObjectTemplate, templates: Sequence[Template], base: Combination, names: Names, by_regex: bool
) -> Indexes:
    items = gathered_items(templates, shape.space, base, shape.gathered)
    if by_regex:
        return merged(*map(names.match, items))
    return distinct(map(names.index.__getitem__, items))


def _by_part(
    shape: ObjectTemplate, templates: Sequence[Template], varying: tuple[int, ...], names: Names, by_regex: bool
) -> list[Indexes]:
    """Resolve a list once for each combination of the parameters in it; jobs with the same combination share the result."""
    known: dict[Combination, Indexes] = {}
    column: list[Indexes] = []
    for combination in shape.combinations():
        part = tuple([combination[at] for at in varying])
        found = known.get(part)
        if found is None:
            found = known[part] = _resolved(shape, templates, combination, names, by_regex)
        column.append(found)
    return column
