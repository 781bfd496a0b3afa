"""The jobs of a spec into planned jobs, and the plan as a whole.

Each template is compiled once; lists that are the same for all jobs of a template are resolved once; equal lists, inputs
and prerequisites are shared, so that a barrier of M jobs before N jobs costs M + N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torc.core.gates import build_gates
from torc.core.graph import cycle_text, find_cycle, graph_of
from torc.core.resources import ResourceRequest
from torc.spec.build import Builder, Shape
from torc.spec.document import Path
from torc.spec.expand import Combination, Template, gathered_items
from torc.spec.model import Job
from torc.spec.plan import InputSet, Plan, PlannedFile, PlannedJob, PlannedRequirement, PlannedUserData
from torc.spec.resolve import Indexes, Names, References, Unknown, merged

#: relation -> (field of names, field of regular expressions, which names)
_RELATIONS = (
    ("depends_on", "depends_on", "depends_on_regexes", "jobs"),
    ("input_files", "input_files", "input_file_regexes", "files"),
    ("output_files", "output_files", "output_file_regexes", "files"),
    ("input_user_data", "input_user_data", "input_user_data_regexes", "user_data"),
    ("output_user_data", "output_user_data", "output_user_data_regexes", "user_data"),
)
_SETTINGS = (
    "use_pending_failed", "jobs_sort_method", "enforce_memory", "execution", "slurm_defaults", "resource_monitor",
    "compute_node_expiration_buffer_seconds", "compute_node_wait_for_new_jobs_seconds",
    "compute_node_ignore_workflow_completion", "compute_node_wait_for_healthy_database_minutes",
    "compute_node_min_time_for_new_jobs_seconds",
)  # fmt: skip
_EMPTY: Mapping[str, str] = {}
_NOTHING: dict[str, Indexes] = {key: () for key, *_ in _RELATIONS}


@dataclass(slots=True)
class _List:
    """A list of names, or of regular expressions, of a template."""

    templates: list[Template]
    path: Path
    fixed: tuple[str, ...] | None = None  # the items, where no multiplied parameter changes them


@dataclass(slots=True)
class _Job:
    """A job template, ready to be filled."""

    shape: Shape
    item: Job
    command: Template
    script: Template | None
    env: dict[str, Template]
    lists: dict[str, _List]
    requirement: int
    handler: int | None
    scheduler: int | None
    has_references: bool
    relations: Sequence[tuple[str, str, str, str]]  # those of _RELATIONS that the template has; most have one or none
    fixed: dict[str, Indexes] = field(default_factory=dict)


def build_plan(builder: Builder) -> Plan | None:
    """Build the whole plan; None when there were errors, which the builder has collected."""
    spec = builder.spec
    for key, value in spec.parameters.items():
        values = builder.values(value, ("parameters", key))
        if values is not None:
            builder.shared[key] = values
    builder.plan_requirements()
    handlers = builder.named(spec.failure_handlers, "failure_handlers", "failure handler")
    schedulers = builder.named(spec.slurm_schedulers, "slurm_schedulers", "Slurm scheduler")
    files = builder.plan_files()
    user_data = builder.plan_user_data()
    shapes = [builder.shape(job, job.name, ("jobs", at)) for at, job in enumerate(spec.jobs)]
    if not builder.count(shapes, "jobs"):
        return None
    jobs = _Jobs(builder, files, handlers[0], schedulers[0])
    jobs.build(shapes)
    actions = builder.actions(schedulers)
    metadata = builder.metadata()
    if builder.failed() or not jobs.connect(user_data):
        return None
    settings = spec.model_dump(mode="json", exclude_defaults=True, include=set(_SETTINGS))
    return Plan(
        name=spec.name, jobs=jobs.planned, requirements=builder.planned_requirements, gates=jobs.gates,
        input_sets=jobs.input_sets, files=jobs.written_files(), user_data=jobs.written_user_data(user_data),
        failure_handlers=handlers[1], schedulers=schedulers[1], actions=actions, user=spec.user,
        description=spec.description, project=spec.project, metadata=metadata, env=spec.env, settings=settings,
    )  # fmt: skip


class _Jobs:
    """Builds the jobs of one plan."""

    def __init__(self, builder: Builder, files: list[PlannedFile], handlers: Names, schedulers: Names) -> None:
        self.builder, self.files, self.handlers, self.schedulers = builder, files, handlers, schedulers
        self.names = {"jobs": builder.jobs, "files": builder.files, "user_data": builder.user_data}
        self.references = References(builder.files, builder.user_data, [file.path for file in files])
        self.planned: list[PlannedJob] = []
        self.gates: list[tuple[int, ...]] = []
        self.input_sets: list[InputSet] = []
        self._input_set_of: dict[InputSet, int] = {}
        self._inline: dict[ResourceRequest, int] = {}
        self._envs: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._depends: list[Indexes] = []
        self._paths: list[tuple[int, Path]] = []  # first job of each template, and where it stands
        self._file_producer: dict[int, int] = {}
        self._data_producer: dict[int, int] = {}

    def build(self, shapes: Sequence[Shape | None]) -> None:
        """Expand names first, so that jobs can refer to later ones; then the jobs."""
        origin: dict[str, Path] = {}
        for shape in shapes:
            if shape is not None:
                for combination in shape.space.combinations(shape.multiplied):
                    self.builder.enter(self.builder.jobs, shape.name.fill(combination), shape.path, origin)
        prepared = [self._prepare(shape, item) for shape, item in zip(shapes, self.builder.spec.jobs, strict=True)]
        if self.builder.failed():
            return
        for job in prepared:
            if job is not None:
                self._paths.append((len(self.planned), job.shape.path))
                for combination in job.shape.space.combinations(job.shape.multiplied):
                    before = len(self.builder.problems)
                    self._add(job, combination)
                    if len(self.builder.problems) > before:
                        break  # once for the template, with an example

    # -- templates ----------------------------------------------------------------------------------------------

    def _prepare(self, shape: Shape | None, item: Job) -> _Job | None:
        if shape is None:
            return None
        builder, path = self.builder, shape.path
        command = builder.compiled(shape, item.command, (*path, "command"))
        script = builder.compiled(shape, item.invocation_script, (*path, "invocation_script"))
        env = {key: builder.compiled(shape, value, (*path, "env", key)) for key, value in item.env.items()}
        lists: dict[str, _List] = {}
        for _, listed, regexes, _ in _RELATIONS:
            for name, gathers in ((listed, True), (regexes, False)):
                items = getattr(item, name)
                if items and (entry := self._list(shape, items, (*path, name), gathers)).templates:
                    lists[name] = entry
        requirement = self._requirement(item, path)
        handler = self._named(self.handlers, item.failure_handler, (*path, "failure_handler"))
        scheduler = self._named(self.schedulers, item.scheduler, (*path, "scheduler"))
        if command is None or any(template is None for template in env.values()):
            return None
        texts = item.command + (item.invocation_script or "")
        return _Job(
            shape, item, command, script, {key: t for key, t in env.items() if t is not None}, lists, requirement,
            handler, scheduler, "${files." in texts or "${user_data." in texts,
            [relation for relation in _RELATIONS if relation[1] in lists or relation[2] in lists],
        )  # fmt: skip

    def _list(self, shape: Shape, items: Sequence[str], path: Path, gathers: bool) -> _List:
        templates = [
            template
            for at, text in enumerate(items)
            if (template := self.builder.compiled(shape, text, (*path, at), gathers=gathers)) is not None
        ]
        entry = _List(templates, path)
        if templates and not any(t.parameters & set(shape.multiplied) for t in templates):
            base = tuple(0 for _ in shape.space.names)
            if not (shape.space.zipped and shape.multiplied and any(t.parameters for t in templates)):
                entry.fixed = gathered_items(templates, shape.space, base, shape.multiplied, shape.gathered)
        return entry

    def _named(self, names: Names, name: str | None, path: Path) -> int | None:
        return None if name is None else self.builder.lookup(names, name, path)

    def _requirement(self, item: Job, path: Path) -> int:
        builder, wanted = self.builder, item.resource_requirements
        if isinstance(wanted, str):
            return builder.lookup(builder.requirements, wanted, (*path, "resource_requirements")) or 0
        request = ResourceRequest() if wanted is None else builder.request(wanted, (*path, "resource_requirements"))
        if request not in self._inline:
            stem = "default" if wanted is None else "inline"
            self._inline[request] = len(builder.planned_requirements)
            name = stem if stem == "default" else f"inline_{len(self._inline)}"
            while name in builder.requirements.index:
                name += "_"
            builder.requirements.index[name] = len(builder.planned_requirements)
            builder.planned_requirements.append(PlannedRequirement(name, request))
        return self._inline[request]

    # -- jobs ---------------------------------------------------------------------------------------------------

    def _add(self, job: _Job, combination: Combination) -> None:
        name = job.shape.name.fill(combination)
        found = dict(_NOTHING)
        for key, *rest in job.relations:
            found[key] = self._relation(job, combination, *rest)
        command = job.command.fill(combination)
        script = None if job.script is None else job.script.fill(combination)
        if job.has_references:
            command, script = self._referenced(job, name, command, script, found)
        number = len(self.planned)
        for output in found["output_files"]:
            self._produce(job, name, number, output, self._file_producer, "file")
        for output in found["output_user_data"]:
            self._produce(job, name, number, output, self._data_producer, "user data")
        env = _EMPTY if not job.env else self._env(tuple((key, t.fill(combination)) for key, t in job.env.items()))
        self._depends.append(found["depends_on"])
        item = job.item
        self.planned.append(
            PlannedJob(
                name,
                command,
                job.requirement,
                None,
                self._input_set(found["input_files"], found["input_user_data"]),
                found["output_files"],
                found["output_user_data"],
                item.priority,
                env,
                script,
                job.handler,
                job.scheduler,
                item.cancel_on_blocking_job_failure,
                item.supports_termination,
            )
        )

    def _relation(self, job: _Job, combination: Combination, listed: str, regexes: str, noun: str) -> Indexes:
        parts: list[Indexes] = []
        names = self.names[noun]
        for key in (listed, regexes):
            entry = job.lists.get(key)
            if entry is None:
                continue
            known = job.fixed.get(key)
            if known is None:
                known = self._resolved(job, entry, combination, names, by_regex=key == regexes)
                if entry.fixed is not None:
                    job.fixed[key] = known
            parts.append(known)
        return merged(*parts)

    def _resolved(self, job: _Job, entry: _List, combination: Combination, names: Names, *, by_regex: bool) -> Indexes:
        shape = job.shape
        items = entry.fixed
        if items is None:
            items = gathered_items(entry.templates, shape.space, combination, shape.multiplied, shape.gathered)
        try:
            return merged(*(names.match(item) for item in items)) if by_regex else names.find_all(items)
        except Unknown as error:
            at = self._guilty(entry, items, names, by_regex)
            self.builder.unknown(error, (*entry.path, at), self._example(job, combination))
            return ()

    def _guilty(self, entry: _List, items: Sequence[str], names: Names, by_regex: bool) -> int:
        if len(items) == len(entry.templates) and not by_regex:
            return next((at for at, item in enumerate(items) if item not in names.index), 0)
        return 0

    def _example(self, job: _Job, combination: Combination) -> str | None:
        return f"job `{job.shape.name.fill(combination)}`" if job.shape.name.slots else None

    def _referenced(
        self, job: _Job, name: str, command: str, script: str | None, found: dict[str, Indexes]
    ) -> tuple[str, str | None]:
        relations: dict[tuple[str, str], list[int]] = {}
        path = (*job.shape.path, "command")
        try:
            command = self.references.replace(command, relations)
            path = (*job.shape.path, "invocation_script")
            script = None if script is None else self.references.replace(script, relations)
        except Unknown as error:
            self.builder.unknown(error, path, f"job `{name}`" if job.shape.name.slots else None)
        for (kind, direction), indexes in relations.items():
            key = f"{direction}_{kind}"
            found[key] = merged(found[key], tuple(dict.fromkeys(indexes)))
        return command, script

    def _produce(self, job: _Job, name: str, number: int, output: int, producers: dict[int, int], noun: str) -> None:
        other = producers.setdefault(output, number)
        if other != number:
            names = self.builder.files if noun == "file" else self.builder.user_data
            what = list(names.index)[output]
            self.builder.report(
                "two_producers", f"{noun} `{what}` is written by two jobs: `{self.planned[other].name}` and `{name}`",
                job.shape.path, suggestion="give each job an output of its own",
            )  # fmt: skip

    def _env(self, pairs: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
        return self._envs.setdefault(pairs, dict(pairs))

    def _input_set(self, files: Indexes, user_data: Indexes) -> int | None:
        if not files and not user_data:
            return None
        inputs = InputSet(files, user_data)
        known = self._input_set_of.setdefault(inputs, len(self.input_sets))
        if known == len(self.input_sets):
            self.input_sets.append(inputs)
        return known

    # -- who waits for whom -------------------------------------------------------------------------------------

    def connect(self, user_data: list[PlannedUserData]) -> bool:
        """Find prerequisites, gates and cycles."""
        by_inputs = [self._producers(inputs) for inputs in self.input_sets]
        cache: dict[tuple[int | None, int], Indexes] = {}
        prerequisites: list[Indexes] = []
        for job, depends in zip(self.planned, self._depends, strict=True):
            key = (job.input_set, id(depends))
            known = cache.get(key)
            if known is None:
                produced = () if job.input_set is None else by_inputs[job.input_set]
                known = cache[key] = tuple(sorted(set(merged(produced, depends))))
            prerequisites.append(known)
        self.gates, gate_of = build_gates(prerequisites)
        cycle = find_cycle(graph_of(self.gates, gate_of))
        if cycle is not None:
            text = cycle_text(cycle, [job.name for job in self.planned])
            start = max(first for first, _ in self._paths if first <= cycle[0])
            path = next(path for first, path in self._paths if first == start)
            self.builder.report("cycle", f"jobs wait for each other in a circle: {text}", path)
            return False
        self.planned = [
            job if gate is None else job._replace(gate=gate) for job, gate in zip(self.planned, gate_of, strict=True)
        ]
        return True

    def _producers(self, inputs: InputSet) -> Indexes:
        found = {self._file_producer[i]: None for i in inputs.files if i in self._file_producer}
        found.update({self._data_producer[i]: None for i in inputs.user_data if i in self._data_producer})
        return tuple(found)

    def written_files(self) -> list[PlannedFile]:
        """Give the files with their producers."""
        return [file._replace(producer=self._file_producer.get(at)) for at, file in enumerate(self.files)]

    def written_user_data(self, user_data: list[PlannedUserData]) -> list[PlannedUserData]:
        """Give the user data with their producers."""
        return [data._replace(producer=self._data_producer.get(at)) for at, data in enumerate(user_data)]
