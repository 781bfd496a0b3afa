"""Expand the parts of a spec that do not depend on jobs: parameters, names, files, user data, requirements, actions.

Every problem is reported at its position. Jobs are expanded by `jobs`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

from torc.planning.scheduler_types import SCHEDULER_TYPES
from torc.regular_expressions import MatchBudget
from torc.spec.document import Document, Path
from torc.spec.expansion.names import Indexes, Names, UnknownName, UnsuitablePattern, merged
from torc.spec.expansion.parameters import BadParameter, Read, TooManyValues, Value, choose, range_meant, values_of
from torc.spec.expansion.paths import Place, place_of
from torc.spec.expansion.references import MalformedReference, find_misplaced
from torc.spec.expansion.templates import (
    PLACE,
    Combination,
    ParameterSpace,
    Template,
    Templates,
    UnfillableTemplate,
    check_gaps,
    check_zip,
)
from torc.spec.model import Parameterized, ResourceRequirements, SchedulerPart, WorkflowSpec
from torc.spec.plan import NamedObject, PlannedAction, PlannedFile, PlannedRequirement, PlannedUserData
from torc.spec.suggestions import Nearest
from torc.units import parse_duration, parse_memory
from torc.workflow.resources import DEFAULT_MEMORY_BYTES, DEFAULT_RUNTIME_SECONDS, ResourceRequest

LONGEST_NAME = 4096
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ExpansionLimits:
    """Limits on the size of a spec and its expansion."""

    max_jobs: int = 5_000_000  # also of files, user data and parameter values
    max_characters: int = 256 << 20  # of the document
    max_items: int = 20_000_000  # in expanded lists of names
    max_expanded_characters: int = 4 << 30  # in commands


class ObjectTemplate(NamedTuple):
    """An object of the spec, ready for expansion."""

    templates: Templates
    space: ParameterSpace
    multiplied: tuple[int, ...]
    gathered: tuple[int, ...]
    name: Template
    path: Path

    @property
    def size(self) -> int:
        """Return the number of objects that it expands to."""
        return self.space.size(self.multiplied)

    def combinations(self) -> Iterator[Combination]:
        """Yield the combinations for which it becomes objects."""
        return self.space.combinations(self.multiplied)

    def filled(self, template: Template) -> Iterator[str]:
        """Fill a template for each of its objects."""
        return template.fill_all(self.space, self.multiplied)

    def example(self, noun: str, combination: Combination) -> str:
        """Describe one of its objects, if there are several."""
        return f" (in {noun} `{self.name.fill(combination)}`)" if self.name.slots else ""


class Builder:
    """Builds the parts of one plan, and reports problems to the document."""

    def __init__(
        self,
        spec: WorkflowSpec,
        document: Document,
        read: Read | None,
        limits: ExpansionLimits,
        place: Place = place_of,
    ) -> None:
        self.spec, self.document, self.read, self.limits, self.place = spec, document, read, limits, place
        self.report = document.report
        self.shared: dict[str, tuple[Value, ...]] = {}
        self.nearest = Nearest()
        effort = MatchBudget()
        self.jobs, self.files, self.user_data = (Names(noun, effort) for noun in ("job", "file", "user data"))
        self.requirements = Names("resource requirement")
        self.planned_requirements: list[PlannedRequirement] = []
        self._values_left = 2 * limits.max_jobs
        self._items_left = limits.max_items

    # -- parameters ---------------------------------------------------------------------------------------------

    def share_parameters(self) -> None:
        """Evaluate the workflow's parameters."""
        for key, value in self.spec.parameters.items():
            values = self._values(value, ("parameters", key))
            if values is not None:
                self.shared[key] = values

    def _values(self, value: Any, path: Path) -> tuple[Value, ...] | None:
        try:
            values = values_of(value, self.read, min(self.limits.max_jobs, self._values_left))
        except BadParameter as error:
            self.report("too_many" if isinstance(error, TooManyValues) else "bad_parameter", str(error), path)
            return None
        self._values_left -= len(values)
        meant = range_meant(value)
        if meant is not None:
            message = f"{value!r} is one value: a range is written {meant}"
            hint = f'"{meant}", or in a list where one value is meant: ["{value}"]'
            self.report("near_miss", message, path, severity="warning", suggestion=hint)
        return values

    def shape(self, part: Parameterized, name: str, path: Path) -> ObjectTemplate | None:
        """Evaluate the parameters of an object; None if that fails."""
        own: dict[str, tuple[Value, ...]] = {}
        fine = True
        for key, value in part.parameters.items():
            values = self._values(value, (*path, "parameters", key))
            fine = fine and values is not None
            own[key] = values or ("",)
        for at, used in enumerate(part.use_parameters):
            if used not in self.spec.parameters and used not in own:
                error = UnknownName(f"there is no workflow parameter `{used}`", used, self.spec.parameters)
                self.unknown(error, (*path, "use_parameters", at))
                fine = False
            fine = fine and (used in own or used in self.shared)
        chosen = choose(own, part.use_parameters, self.shared)
        zipped = part.parameter_mode == "zip" and bool(chosen)
        try:
            if zipped and fine:
                check_gaps(chosen)
                check_zip(chosen)
        except UnfillableTemplate as error:
            self.report("bad_parameter", str(error), (*path, "parameters"))
            return None
        space = ParameterSpace(tuple(chosen), tuple(chosen.values()), zipped)
        templates = Templates(space)
        try:
            template = templates.compile(name)
        except UnfillableTemplate as error:
            self.report("bad_parameter", str(error), (*path, "name"))
            return None
        self._warn_of_near_misses(templates, name, (*path, "name"))
        multiplied = tuple(sorted(template.parameters))
        if zipped and multiplied:  # zipped parameters vary together: one of them in the name determines all
            multiplied = tuple(range(len(chosen)))
        gathered = tuple(at for at in range(len(chosen)) if at not in multiplied)
        return ObjectTemplate(templates, space, multiplied, gathered, template, path) if fine else None

    def compiled(
        self, shape: ObjectTemplate, text: str, path: Path, *, gathers: bool = False, in_regex: bool = False
    ) -> Template | None:
        """Compile a string of an object; gathered parameters are only allowed in lists of names."""
        try:
            template = shape.templates.compile(text, in_regex=in_regex)
        except UnfillableTemplate as error:
            self.report("bad_placeholder", str(error), path)
            return None
        self._warn_of_near_misses(shape.templates, text, path)
        astray = [shape.space.names[at] for at in shape.gathered if at in template.parameters]
        if astray and not gathers:
            self.report(
                "gathered_parameter",
                f"`{{{astray[0]}}}` has no single value here: the parameter is not in the object's name, so it is gathered",
                path,
                suggestion=f"put `{{{astray[0]}}}` into the name, or mention it only in lists of inputs, outputs and dependencies",
            )
            return None
        return template

    def _warn_of_near_misses(self, templates: Templates, text: str, path: Path) -> None:
        if "{" not in text or not (templates.index or self.spec.parameters):
            return
        for match in PLACE.finditer(text):
            name = match[1]
            if name in templates.index:
                continue
            if name in self.spec.parameters:
                if name not in self.shared:  # otherwise its problem has been reported
                    continue
                message = (
                    f"`{match[0]}` is left unchanged: the workflow's parameter `{name}` is not used by this object"
                )
                self.report("near_miss", message, path, severity="warning", suggestion=f"use_parameters: [{name}]")
            elif len(name) > 1 and (near := self.nearest.of(name, templates.index, most=1)):
                message = f"`{match[0]}` is not a parameter and is left unchanged"
                hint = f"did you mean `{{{near[0]}}}`?"
                self.report("near_miss", message, path, severity="warning", suggestion=hint)

    # -- sizes and names ----------------------------------------------------------------------------------------

    def fits(self, shapes: Iterable[ObjectTemplate | None], noun: str) -> bool:
        """Check the size of an expansion in advance."""
        total = 0
        for shape in shapes:
            total += shape.size if shape is not None else 0
            if shape is not None and total > self.limits.max_jobs:
                what = f"the parameters create more than {self.limits.max_jobs:,} {noun}"
                self.report("too_many", what, shape.path, suggestion="use fewer values, or raise the limit")
                return False
        return True

    def spend(self, num_items: int, path: Path) -> bool:
        """Check the size of an expanded list in advance."""
        self._items_left -= num_items
        if self._items_left < 0:
            message = f"the lists of names expand to more than {self.limits.max_items:,} items here"
            self.report("too_many", message, path, suggestion="gather fewer parameters")
        return self._items_left >= 0

    def enter(self, names: Names, shape: ObjectTemplate, origin: dict[int, Path]) -> bool:
        """Add the names that an object expands to. `origin`: first index -> path, in order."""
        path = (*shape.path, "name")
        bad = next((t for _, texts in shape.name.slots for t in texts if _UNPRINTABLE.search(t)), None)
        if bad is not None or shape.name.longest > LONGEST_NAME:
            what = f"the value {bad!r} cannot be part of a name" if bad is not None else "the names become too long"
            self.report("bad_value", what, path)
            return False
        number = len(names.index)
        origin[number] = shape.path
        for name in shape.filled(shape.name):
            index = names.index.setdefault(name, number)
            if index != number:
                self._report_twice(names, name, index, shape, origin)
                return False
            number += 1
        return True

    def _report_twice(
        self, names: Names, name: str, index: int, shape: ObjectTemplate, origin: dict[int, Path]
    ) -> None:
        where = next(origin[first] for first in reversed(origin) if first <= index)
        other = self.document.span(where)
        if where == shape.path:
            what = f"the parameters create more than one {names.noun} `{name}`"
        else:
            at = f" (first at line {other.line})" if other else ""
            what = f"{names.noun} `{name}` is defined twice{at}"
        self.report("duplicate_name", what, (*shape.path, "name"))

    def unknown(self, error: UnknownName, path: Path, example: str = "") -> None:
        """Report an unknown name."""
        near = self.nearest.of(error.name, error.known)
        hint = f"did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else None
        code = "unknown_name"
        if isinstance(error, UnsuitablePattern):
            code, hint = ("too_many" if error.too_many else "bad_regex"), error.hint
        span = None if error.within is None else self.document.part(path, error.within)
        self.report(code, f"{error}{example}", path, span=span, suggestion=hint)

    def astray(self, found: MalformedReference, path: Path, example: str = "") -> None:
        """Report a malformed reference."""
        code, hint = ("bad_reference" if found.severity == "error" else "near_miss"), found.suggestion
        message = f"{found.message}{example}"
        span = self.document.part(path, found.text)
        self.report(code, message, path, span=span, suggestion=hint, severity=found.severity)

    def refuse_references(self, text: str, path: Path) -> None:
        """Report references in text where they are not replaced."""
        if "{" in text or "$" in text:
            for found in find_misplaced(text):
                self.astray(found, path)

    def lookup(self, names: Names, name: str, path: Path) -> int | None:
        """Return the index of a name, or report that it is unknown."""
        try:
            return names.find(name)
        except UnknownName as error:
            self.unknown(error, path)
            return None

    # -- requirements and named things --------------------------------------------------------------------------

    def _enter_one(self, names: Names, name: str, path: Path, origin: dict[str, Path]) -> bool:
        if name in names.index:
            other = self.document.span(origin[name])
            at = f" (first at line {other.line})" if other else ""
            what = f"{names.noun} `{name}` is defined twice{at}"
            self.report("duplicate_name", what, (*path, "name"))
            return False
        names.index[name] = len(names.index)
        origin[name] = path
        return True

    def plan_requirements(self) -> None:
        """Plan the named requirement classes."""
        origin: dict[str, Path] = {}
        for at, item in enumerate(self.spec.resource_requirements):
            path: Path = ("resource_requirements", at)
            request = self.request(item, path)
            if self._enter_one(self.requirements, item.name, path, origin):
                self.planned_requirements.append(PlannedRequirement(item.name, request))

    def request(self, item: ResourceRequirements, path: Path) -> ResourceRequest:
        """Parse the amounts of a requirement."""
        amounts = {"memory": DEFAULT_MEMORY_BYTES, "runtime": DEFAULT_RUNTIME_SECONDS}
        for key, parse in (("memory", parse_memory), ("runtime", parse_duration)):
            try:
                amounts[key] = parse(getattr(item, key))
            except ValueError as error:
                self.report("bad_value", str(error), (*path, key))
        return ResourceRequest(item.num_cpus, item.num_gpus, item.num_nodes, amounts["memory"], amounts["runtime"])

    def named(
        self, names: Names, items: Sequence[Any], field: str, kind: str, origin: dict[str, Path] | None = None
    ) -> list[NamedObject]:
        """Plan failure handlers or schedulers, which are stored unchanged."""
        planned, origin = list[NamedObject](), {} if origin is None else origin
        for at, item in enumerate(items):
            if self._enter_one(names, item.name, (field, at), origin):
                fields = item.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
                planned.append(NamedObject(kind, item.name, fields))
        return planned

    def schedulers(self, names: Names) -> list[NamedObject]:
        """Plan the schedulers of all types; their names must be unique, because jobs refer to them by name."""
        planned, origin = list[NamedObject](), dict[str, Path]()
        for each in SCHEDULER_TYPES.values():
            items: Sequence[SchedulerPart] = getattr(self.spec, each.spec_field)
            for at, item in enumerate(items):
                for field, problem in item.problems():
                    self.report("bad_value", problem, (each.spec_field, at, field))
            planned += self.named(names, items, each.spec_field, each.row_kind, origin)
        return planned

    # -- files and user data ------------------------------------------------------------------------------------

    def _shapes(
        self, items: Sequence[Any], field: str, names: Names, noun: str
    ) -> Iterator[tuple[Any, ObjectTemplate]]:
        shapes = [self.shape(item, item.name, (field, at)) for at, item in enumerate(items)]
        if not self.fits(shapes, noun):
            return
        origin: dict[int, Path] = {}
        for item, shape in zip(items, shapes, strict=True):
            if shape is not None and self.enter(names, shape, origin):
                yield item, shape

    def plan_files(self) -> list[PlannedFile]:
        planned: list[PlannedFile] = []
        for item, shape in self._shapes(self.spec.files, "files", self.files, "files"):
            self.refuse_references(item.path, (*shape.path, "path"))
            path = self.compiled(shape, item.path, (*shape.path, "path"))
            if path is not None:
                planned.extend(map(PlannedFile, shape.filled(shape.name), shape.filled(path)))
        return planned

    def plan_user_data(self) -> list[PlannedUserData]:
        """Plan the user data; placeholders in all strings of the data are filled in."""
        planned: list[PlannedUserData] = []
        for item, shape in self._shapes(self.spec.user_data, "user_data", self.user_data, "pieces of user data"):
            fill = self._filler(shape, item.data, (*shape.path, "data"))
            data = repeat(item.data) if fill is None else map(fill, shape.combinations())
            planned += [
                PlannedUserData(name, filled, item.is_ephemeral)
                for name, filled in zip(shape.filled(shape.name), data, strict=False)
            ]
        return planned

    def _filler(self, shape: ObjectTemplate, data: Any, path: Path) -> Callable[[Combination], Any] | None:
        """Return a function that fills placeholders in data; None if it has none."""
        if isinstance(data, str):
            self._check_text(data, path)
            template = self.compiled(shape, data, path)
            return template.fill if template is not None and template.slots else None
        if isinstance(data, float) and not math.isfinite(data):
            self.report("bad_value", f"{data} is not a JSON number", path)
        if isinstance(data, list):
            items = [self._filler(shape, item, (*path, at)) for at, item in enumerate(data)]
            if not any(items):
                return None
            return lambda combination: [f(combination) if f else d for f, d in zip(items, data, strict=True)]
        if isinstance(data, dict):
            for key in data:
                self._check_text(key, (*path, key))
            parts = {key: self._filler(shape, value, (*path, key)) for key, value in data.items()}
            if not any(parts.values()):
                return None
            return lambda combination: {k: f(combination) if f else data[k] for k, f in parts.items()}
        return None

    def _check_text(self, text: str, path: Path) -> None:
        if _BAD_TEXT.search(text):
            self.report(
                "bad_value", "this contains a NUL or half of a surrogate pair, which databases cannot store", path
            )

    # -- actions and metadata -----------------------------------------------------------------------------------

    def plan_actions(self, schedulers: Names) -> list[PlannedAction]:
        planned = []
        left_out = {"trigger_type", "action_type", "jobs", "job_name_regexes", "commands", "persistent"}
        for at, item in enumerate(self.spec.actions):
            path: Path = ("actions", at)
            jobs = self._action_jobs(item.jobs, item.job_name_regexes, path)
            if item.trigger_type.startswith("on_jobs") and not (item.jobs or item.job_name_regexes):
                self.report("missing_field", f"{item.trigger_type} needs `jobs` or `job_name_regexes`", path)
            if item.action_type == "run_commands" and not item.commands:
                self.report("missing_field", "run_commands needs `commands`", path)
            if item.action_type == "schedule_nodes" and item.scheduler_type != "local":
                if item.scheduler is None:
                    self.report("missing_field", "schedule_nodes needs a `scheduler`", path)
                else:
                    self.lookup(schedulers, item.scheduler, (*path, "scheduler"))
            settings = item.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
            for number, command in enumerate(item.commands):
                self.refuse_references(command, (*path, "commands", number))
            commands = tuple(item.commands)
            planned.append(
                PlannedAction(item.trigger_type, item.action_type, jobs, commands, item.persistent, settings)
            )
        return planned

    def _action_jobs(self, listed: Sequence[str], regexes: Sequence[str], path: Path) -> Indexes:
        parts: list[Indexes] = []
        for at, name in enumerate(listed):
            found = self.lookup(self.jobs, name, (*path, "jobs", at))
            if found is not None:
                parts.append((found,))
        for at, pattern in enumerate(regexes):
            try:
                parts.append(self.jobs.match(pattern))
            except UnknownName as error:
                self.unknown(error, (*path, "job_name_regexes", at))
        return merged(*parts)

    def metadata(self) -> Mapping[str, Any]:
        """Return the metadata, parsed if it is text."""
        metadata = self.spec.metadata
        if isinstance(metadata, str):
            try:
                metadata = json.loads(metadata)
            except (ValueError, RecursionError) as error:
                self.report("bad_value", f"`metadata` is text that is not valid JSON: {error}", ("metadata",))
                return {}
            if not isinstance(metadata, dict):
                self.report("bad_value", "`metadata` must be a JSON object", ("metadata",))
                return {}
        plain = ObjectTemplate(
            Templates(ParameterSpace((), ())), ParameterSpace((), ()), (), (), Template(""), ("metadata",)
        )
        self._filler(plain, metadata or {}, ("metadata",))
        return metadata or {}
