"""A checked spec into a plan: every object expanded, every name resolved, every problem reported where it stands."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torc.core.quantities import parse_duration, parse_memory
from torc.core.resources import ResourceRequest
from torc.spec.diagnostics import Diagnostic
from torc.spec.document import Document, Path
from torc.spec.expand import Space, Template, Templates, Unfit, check_zip
from torc.spec.model import File, Parameterized, ResourceRequirements, UserData, WorkflowSpec
from torc.spec.parameters import BadParameter, Read, Value, choose, values_of
from torc.spec.plan import (
    Named,
    PlannedAction,
    PlannedFile,
    PlannedRequirement,
    PlannedUserData,
)
from torc.spec.resolve import Indexes, Names, Unknown, merged

_SETTINGS = (
    "use_pending_failed", "jobs_sort_method", "enforce_memory", "execution", "slurm_defaults", "resource_monitor",
    "compute_node_expiration_buffer_seconds", "compute_node_wait_for_new_jobs_seconds",
    "compute_node_ignore_workflow_completion", "compute_node_wait_for_healthy_database_minutes",
    "compute_node_min_time_for_new_jobs_seconds",
)  # fmt: skip
_LISTS = (
    "depends_on", "depends_on_regexes", "input_files", "input_file_regexes", "output_files", "output_file_regexes",
    "input_user_data", "input_user_data_regexes", "output_user_data", "output_user_data_regexes",
)  # fmt: skip
#: lists whose items a gathered parameter multiplies
_GATHERING = frozenset({"depends_on", "input_files", "output_files", "input_user_data", "output_user_data"})


class Shape(NamedTuple):
    """An object of the spec, ready to be expanded."""

    templates: Templates
    space: Space
    multiplied: tuple[int, ...]
    gathered: tuple[int, ...]
    name: Template
    path: Path


class Builder:
    """Builds one plan, collecting problems."""

    def __init__(self, spec: WorkflowSpec, document: Document, read: Read | None, max_jobs: int) -> None:
        self.spec, self.document, self.read, self.max_jobs = spec, document, read, max_jobs
        self.problems: list[Diagnostic] = []
        self.shared: dict[str, tuple[Value, ...]] = {}
        self.jobs, self.files, self.user_data = Names("job"), Names("file"), Names("user data")
        self.requirements = Names("resource requirement")
        self.planned_requirements: list[PlannedRequirement] = []

    def report(self, code: str, message: str, path: Path = (), **more: Any) -> None:
        """Note a problem."""
        self.problems.append(self.document.problem(code, message, path, **more))

    # -- parameters ---------------------------------------------------------------------------------------------

    def values(self, value: Any, path: Path) -> tuple[Value, ...] | None:
        try:
            return values_of(value, self.read)
        except BadParameter as error:
            self.report("bad_parameter", str(error), path)
            return None

    def shape(self, part: Parameterized, name: str, path: Path) -> Shape | None:
        """Evaluate the parameters of an object; None when that cannot be done."""
        own: dict[str, tuple[Value, ...]] = {}
        fine = True
        for key, value in part.parameters.items():
            values = self.values(value, (*path, "parameters", key))
            fine = fine and values is not None
            own[key] = values or ("",)
        for at, used in enumerate(part.use_parameters):
            if used not in self.shared and used not in own:
                self.unknown(Unknown(f"there is no workflow parameter `{used}`", _near(used, self.spec.parameters)),
                              (*path, "use_parameters", at))  # fmt: skip
                fine = False
        chosen = choose(own, part.use_parameters, self.shared)
        zipped = part.parameter_mode == "zip" and bool(chosen)
        try:
            if zipped:
                check_zip(list(chosen), chosen)
            space = Space(tuple(chosen), tuple(chosen.values()), zipped)
            templates = Templates(space)
            template = templates.compile(name)
        except Unfit as error:
            self.report("bad_parameter", str(error), (*path, "parameters" if "zipped" in str(error) else "name"))
            return None
        multiplied = tuple(sorted(template.parameters))
        if zipped and multiplied:  # zipped parameters go together: one of them in the name fixes all
            multiplied = tuple(range(len(space.names)))
        gathered = tuple(at for at in range(len(space.names)) if at not in multiplied)
        return Shape(templates, space, multiplied, gathered, template, path) if fine else None

    def compiled(self, shape: Shape, text: str | None, path: Path, *, gathers: bool = False) -> Template | None:
        """Compile a string of an object; a gathered parameter is allowed in lists only."""
        if text is None:
            return None
        try:
            template = shape.templates.compile(text)
        except Unfit as error:
            self.report("bad_placeholder", str(error), path)
            return None
        astray = [shape.space.names[at] for at in shape.gathered if at in template.parameters]
        if astray and not gathers:
            self.report(
                "gathered_parameter",
                f"`{{{astray[0]}}}` has no single value here: the parameter is not in the object's name, so it is gathered",
                path,
                suggestion=f"put `{{{astray[0]}}}` into the name, or mention it only in lists of inputs, outputs and dependencies",
            )
        for found, meant in shape.templates.near_misses(text):
            self.report("near_miss", f"`{found}` is no parameter and stays as it is", path, severity="warning",
                        suggestion=f"did you mean `{{{meant}}}`?")  # fmt: skip
        return template

    def count(self, shapes: Sequence[Shape | None], noun: str) -> bool:
        """Check the size of an expansion before it is made."""
        total = 0
        for shape in shapes:
            if shape is not None:
                sizes = [len(shape.space.values[at]) for at in shape.multiplied]
                count = 1
                for size in sizes[:1] if shape.space.zipped else sizes:
                    count *= size
                total += count
                if total > self.max_jobs:
                    self.report("too_many", f"the parameters make more than {self.max_jobs:,} {noun}", shape.path,
                                suggestion="use fewer values, or raise the limit")  # fmt: skip
                    return False
        return True

    # -- names --------------------------------------------------------------------------------------------------

    def enter(self, names: Names, name: str, path: Path, origin: dict[str, Path]) -> None:
        if name in names.index:
            first = origin.get(name, ())
            other = self.document.span(first)
            where = f" (first at line {other.line})" if other else ""
            of = f"`{name}`" + (" as well" if first != path else " more than once")
            self.report("duplicate_name", f"two objects are called {of}: this {names.noun} is there already{where}",
                        (*path, "name"))  # fmt: skip
            return
        names.index[name] = len(names.index)
        origin[name] = path

    def unknown(self, error: Unknown, path: Path, example: str | None = None) -> None:
        hint = f"did you mean {' or '.join(f'`{name}`' for name in error.near)}?" if error.near else None
        message = str(error) + (f" (in {example})" if example else "")
        self.report("unknown_name", message, path, suggestion=hint)

    # -- the plan -----------------------------------------------------------------------------------------------

    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    def plan_requirements(self) -> None:
        origin: dict[str, Path] = {}
        for at, item in enumerate(self.spec.resource_requirements):
            path: Path = ("resource_requirements", at)
            self.enter(self.requirements, item.name, path, origin)
            request = self.request(item, path)
            if self.requirements.index[item.name] == len(self.planned_requirements):
                self.planned_requirements.append(PlannedRequirement(item.name, request))

    def request(self, item: ResourceRequirements, path: Path) -> ResourceRequest:
        """Read the amounts of a requirement."""
        amounts = {"memory": 1 << 20, "runtime": 3600}
        for key, parse in (("memory", parse_memory), ("runtime", parse_duration)):
            try:
                amounts[key] = parse(getattr(item, key))
            except ValueError as error:
                self.report("bad_value", str(error), (*path, key))
        return ResourceRequest(item.num_cpus, item.num_gpus, item.num_nodes, amounts["memory"], amounts["runtime"])

    def named(self, items: Sequence[Any], field: str, noun: str) -> tuple[Names, list[Named]]:
        names, planned, origin = Names(noun), list[Named](), dict[str, Path]()
        for at, item in enumerate(items):
            self.enter(names, item.name, (field, at), origin)
            fields = item.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
            planned.append(Named(item.name, fields))
        return names, planned

    def _expanded(self, items: Sequence[Any], field: str, names: Names) -> Iterator[tuple[Any, Shape, str, Any]]:
        shapes = [self.shape(item, item.name, (field, at)) for at, item in enumerate(items)]
        if not self.count(shapes, names.noun + "s" if names.noun != "user data" else "pieces of user data"):
            return
        origin: dict[str, Path] = {}
        for item, shape in zip(items, shapes, strict=True):
            if shape is not None:
                for combination in shape.space.combinations(shape.multiplied):
                    name = shape.name.fill(combination)
                    before = len(names.index)
                    self.enter(names, name, shape.path, origin)
                    if len(names.index) > before:
                        yield item, shape, name, combination

    def plan_files(self) -> list[PlannedFile]:
        planned: list[PlannedFile] = []
        paths: dict[int, Template | None] = {}
        item: File
        for item, shape, name, combination in self._expanded(self.spec.files, "files", self.files):
            if id(shape) not in paths:
                paths[id(shape)] = self.compiled(shape, item.path, (*shape.path, "path"))
            template = paths[id(shape)]
            planned.append(PlannedFile(name, template.fill(combination) if template else ""))
        return planned

    def plan_user_data(self) -> list[PlannedUserData]:
        planned: list[PlannedUserData] = []
        item: UserData
        for item, shape, name, combination in self._expanded(self.spec.user_data, "user_data", self.user_data):
            data = self._filled(shape, item.data, combination, (*shape.path, "data"))
            planned.append(PlannedUserData(name, data, item.is_ephemeral))
        return planned

    def _filled(self, shape: Shape, data: Any, combination: Any, path: Path) -> Any:
        if isinstance(data, str):
            template = self.compiled(shape, data, path)
            return template.fill(combination) if template else data
        if isinstance(data, list):
            return [self._filled(shape, item, combination, (*path, at)) for at, item in enumerate(data)]
        if isinstance(data, dict):
            return {key: self._filled(shape, value, combination, (*path, key)) for key, value in data.items()}
        return data

    def actions(self, schedulers: tuple[Names, list[Named]]) -> list[PlannedAction]:
        planned = []
        for at, item in enumerate(self.spec.actions):
            path: Path = ("actions", at)
            jobs = self.indexes(self.jobs, item.jobs, item.job_name_regexes, path, "jobs", "job_name_regexes")
            if item.trigger_type.startswith("on_jobs") and not (item.jobs or item.job_name_regexes):
                self.report("missing_field", f"{item.trigger_type} needs `jobs` or `job_name_regexes`", path)
            if item.action_type == "run_commands" and not item.commands:
                self.report("missing_field", "run_commands needs `commands`", path)
            if item.action_type == "schedule_nodes" and item.scheduler_type != "local":
                if item.scheduler is None:
                    self.report("missing_field", "schedule_nodes needs a `scheduler`", path)
                else:
                    self.lookup(schedulers[0], item.scheduler, (*path, "scheduler"))
            settings = item.model_dump(mode="json", exclude_defaults=True,
                exclude={"trigger_type", "action_type", "jobs", "job_name_regexes", "commands", "persistent"})  # fmt: skip
            planned.append(
                PlannedAction(
                    item.trigger_type, item.action_type, jobs, tuple(item.commands), item.persistent, settings
                )
            )
        return planned

    def lookup(self, names: Names, name: str, path: Path, example: str | None = None) -> int | None:
        """Find a name; report where there is none."""
        try:
            return names.find(name)
        except Unknown as error:
            self.unknown(error, path, example)
            return None

    def indexes(
        self, names: Names, listed: Sequence[str], regexes: Sequence[str], path: Path, list_field: str, regex_field: str
    ) -> Indexes:
        """Resolve a list of names and one of regular expressions together."""
        parts: list[Indexes] = []
        for at, name in enumerate(listed):
            found = self.lookup(names, name, (*path, list_field, at))
            if found is not None:
                parts.append((found,))
        for at, pattern in enumerate(regexes):
            try:
                parts.append(names.match(pattern))
            except Unknown as error:
                self.unknown(error, (*path, regex_field, at))
        return merged(*parts)

    def metadata(self) -> Mapping[str, Any]:
        metadata = self.spec.metadata
        if isinstance(metadata, str):
            try:
                metadata = json.loads(metadata)
            except ValueError as error:
                self.report("bad_value", f"`metadata` is a text that is no JSON: {error}", ("metadata",))
                return {}
            if not isinstance(metadata, dict):
                self.report("bad_value", "`metadata` must be a JSON object", ("metadata",))
                return {}
        return metadata or {}


def _near(name: str, known: Any) -> list[str]:
    return difflib.get_close_matches(name, list(known), 3)
