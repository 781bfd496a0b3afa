"""Reads a portable file from somebody else: unpacked with a limit, checked line by line. Not for storing it: `transfer`."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from torc.api.base import Value
from torc.api.events import Event
from torc.api.export_format import TABLES, completed, damaged, read_header, read_line, read_row, read_table
from torc.api.provenance import Environment, Surroundings, WrittenSpec
from torc.api.runs import Runner, Usage
from torc.errors import Forbidden, Invalid
from torc.operations.dispatch import PreparationBounds, TooHeavy
from torc.operations.named_objects import checked
from torc.planning.scheduler_types import ROW_KINDS
from torc.spec import model
from torc.store.job_fields import fields_of
from torc.workflow.graph import find_cycle, graph_of

_LONGEST_LINE = 16 << 20
_MOST_BYTES = 2 << 30
_GZIP = b"\x1f\x8b"
#: what must be unique within a workflow
_NAMES = {
    "requirement": ("name",),
    "named": ("kind", "name"),
    "job": ("name",),
    "file": ("name",),
    "user_data": ("name",),
    "attempt": ("job_id", "attempt"),
    "firing": ("action_id", "run_id", "occasion"),
    "gate_prerequisite": ("job_id", "gate_id"),
    "input_file": ("input_set_id", "file_id"),
    "input_user_data": ("input_set_id", "user_data_id"),
    "mention": ("job_id", "field", "at"),
    "action_job": ("job_id", "action_id"),
}
_EVENT_TYPE = re.compile(r"[a-z_]{1,60}")
_FIRING_STATES = {"due", "taken", "running", "done", "failed"}
_HANDLERS: dict[str, type[model.SpecPart]] = {
    "failure_handler": model.FailureHandlerSpec,
    **{kind: model.SCHEDULER_MODELS[each.name] for kind, each in ROW_KINDS.items()},
}


@dataclass
class Incoming:
    """A file that was read and found to be whole. `places`: table -> id in the file -> index among its rows."""

    content: bytes
    header: Mapping[str, Any]
    places: dict[str, dict[int, int]] = field(default_factory=dict)
    num_rows: int = 0

    def rows(self) -> Iterator[tuple[str, list[Any]]]:
        """Yield (table, row) of each row, from the file anew: rows of a million jobs need not be in memory."""
        table = ""
        for number, line in lines(self.content):
            found = read_line(line, number)
            if isinstance(found, list):
                yield table, completed(found, table)
            else:
                table = str(found.get("table", ""))


def unpack(content: str) -> bytes:
    """Return the bytes that were sent as base64. Raises Invalid."""
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:
        raise Invalid("the content is no base64", hint="send the bytes of the file as base64") from None


def lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of a compressed file. Raises Invalid for what is damaged or too large."""
    total, number = 0, 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while line := file.readline(_LONGEST_LINE + 1):
                total, number = total + len(line), number + 1
                if len(line) > _LONGEST_LINE or total > _MOST_BYTES:
                    raise Invalid(f"line {number}: the file is larger than any workflow", hint="it is none of ours")
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        if not content.startswith(_GZIP):
            raise Invalid(
                "the file is not an exported workflow",
                hint="`torc workflows export` writes one; of a spec, `torc create` makes a workflow",
            ) from None
        raise Invalid(
            f"the file is damaged or cut off: {error}", hint="copy it again; `torc workflows export` writes .gz"
        ) from None


def read_file(content: bytes, bounds: PreparationBounds = PreparationBounds()) -> Incoming:
    """Read and check a file. Raises Invalid, with the line; Forbidden for more jobs than there may be; TooHeavy."""
    reader = _LineReader()
    for number, line in lines(content):
        reader.take(number, line)
        if bounds.is_first and reader.num_rows > (bounds.max_jobs or 0):
            raise TooHeavy
        if bounds.max_jobs is not None and len(reader.places.get("job", ())) > bounds.max_jobs:
            raise Forbidden(
                f"the file has more than the {bounds.max_jobs:,} jobs that your account has room for here",
                hint="delete workflows that are no longer needed, or ask an administrator of the server",
            )
    if not reader.is_ended:
        raise Invalid("the file is cut off: its last line is missing", hint="copy it again")
    return Incoming(content, reader.header, reader.places, reader.num_rows)


class _LineReader:
    """Takes line after line."""

    def __init__(self) -> None:
        self.header: Mapping[str, Any] = {}
        self.places: dict[str, dict[int, int]] = {}
        self.is_ended = False
        self._table: str | None = None
        self.num_rows = 0
        self._hash = hashlib.sha256()
        self._seen: set[Any] = set()
        self._gate_of: list[int | None] = []  # by index of the job, ids of gates
        self._waits: dict[int, list[int]] = defaultdict(list)

    def take(self, number: int, line: bytes) -> None:
        """Check a line. Raises Invalid."""
        if self.is_ended:
            raise damaged(number, "something stands after the end")
        found = read_line(line, number)
        if number == 1:
            self.header = _checked_header(read_header(found))
        elif isinstance(found, dict) and found.get("end") is True:
            self._end(found, number)
        elif isinstance(found, dict):
            self._table = read_table(found, number, self._table, self.header["version"])
            self._seen = set()
        elif self._table is None:
            raise damaged(number, "a row stands before the first table")
        else:
            self._take_row(found, number)
        self._hash.update(line)

    def _take_row(self, found: Any, number: int) -> None:
        table = self._table
        assert table is not None
        row = read_row(found, table, number, self.header["version"])
        fields = {column.name: value for column, value in zip(TABLES[table], row, strict=True)}
        for column in TABLES[table]:
            target, value = column.refers_to, fields[column.name]
            known = None if target is None or column.is_soft else self.places.get(target, {})
            if known is not None and value is not None and value not in known:
                raise damaged(number, f"`{column.name}` is {value}, and there is no such {target}")
        if "id" in fields:
            places = self.places.setdefault(table, {})
            if fields["id"] in places:
                raise damaged(number, f"the id {fields['id']} is there twice")
            places[fields["id"]] = len(places)
        key = tuple(fields[name] for name in _NAMES.get(table, ()))
        if key and key in self._seen:
            raise damaged(number, f"{table} {', '.join(map(str, key))[:100]} is there twice")
        self._seen.add(key)
        if table in _CHECKS:
            _check(_CHECKS[table], fields, number)
        if table == "job":
            self._gate_of.append(fields["gate_id"])
        elif table == "gate_prerequisite":
            self._waits[fields["gate_id"]].append(self.places["job"][fields["job_id"]])
        self.num_rows += 1

    def _end(self, found: Mapping[str, Any], number: int) -> None:
        if found.get("rows") != self.num_rows or found.get("sha256") != self._hash.hexdigest():
            raise damaged(number, "the lines before are not those that were written")
        index = {gate: at for at, gate in enumerate(self._waits)}
        gate_of = [None if gate is None else index.get(gate) for gate in self._gate_of]
        if find_cycle(graph_of([tuple(jobs) for jobs in self._waits.values()], gate_of)) is not None:
            raise damaged(number, "jobs wait for each other in a cycle")
        self.is_ended = True


def _check(check: Callable[[Mapping[str, Any]], None], fields: Mapping[str, Any], number: int) -> None:
    try:
        check(fields)
    except Invalid as error:
        raise damaged(number, error.message) from None
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise damaged(number, text) from None


def _checked_header(header: Mapping[str, Any]) -> Mapping[str, Any]:
    def check(workflow: Mapping[str, Any]) -> None:
        fields = {name: workflow[name] for name in ("name", "description", "project", "env")}
        plain = {"jobs": [{"name": "x", "command": "x"}], "metadata": workflow["meta"]}
        if set(workflow["settings"]) & {*fields, *plain}:
            raise ValueError("`settings` holds what is none")
        checked(model.WorkflowSpec, **fields, **plain, **workflow["settings"])
        if not workflow["directory"].startswith("/"):
            raise ValueError("`directory` is not absolute")

    _check(check, header["workflow"], 1)
    return header


def _requirement(fields: Mapping[str, Any]) -> None:
    checked(
        model.ResourceRequirements, **{name: fields[name] for name in ("name", "num_cpus", "num_gpus", "num_nodes")}
    )
    if not (fields["num_cpus"] and fields["num_nodes"] and fields["runtime_seconds"]):
        raise ValueError("it needs no CPUs, nodes or time")


def _named(fields: Mapping[str, Any]) -> None:
    checked(_HANDLERS[fields["kind"]], name=fields["name"], **fields["fields"])


def _runner(fields: Mapping[str, Any]) -> None:
    Runner.model_validate({**fields, "workflow_id": 0})


def _job(fields: Mapping[str, Any]) -> None:
    checked(model.JobSpec, name=fields["name"], **fields_of(fields))
    if fields["order_key"] != -fields["priority"] or isinstance(fields["recovery"], list):
        raise ValueError("its order or what is to recover it is wrong")


def _file(fields: Mapping[str, Any]) -> None:
    checked(model.FileSpec, name=fields["name"], path=fields["path"])


def _user_data(fields: Mapping[str, Any]) -> None:
    checked(model.FileSpec, name=fields["name"], path="x")


def _mention(fields: Mapping[str, Any]) -> None:
    if fields["field"] not in {"command", "invocation_script"}:
        raise ValueError(f"jobs have no {fields['field'][:40]!r} that mentions user data")


def _action(fields: Mapping[str, Any]) -> None:
    settings = dict(fields["settings"])
    names = ("trigger_type", "action_type", "commands", "persistent")
    checked(model.Action, **{name: fields[name] for name in names}, **settings)


def _firing(fields: Mapping[str, Any]) -> None:
    if fields["state"] not in _FIRING_STATES:
        raise ValueError(f"`state` cannot be {fields['state'][:40]!r}")


def _attempt(fields: Mapping[str, Any]) -> None:
    Usage.model_validate(fields["usage"] or {})
    if fields["reason"] is not None:
        checked(model.FileSpec, name=fields["reason"], path="x")


def _provenance(fields: Mapping[str, Any]) -> None:
    kinds: dict[str, type[Value]] = {"spec": WrittenSpec, "environment": Environment, "runner": Surroundings}
    kinds[fields["kind"]].model_validate(fields["facts"])


def _event(fields: Mapping[str, Any]) -> None:
    Event.model_validate({"id": 0, "workflow_id": 0, **fields})
    if not _EVENT_TYPE.fullmatch(fields["type"]):
        raise ValueError(f"`type` cannot be {fields['type'][:40]!r}")


_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "requirement": _requirement,
    "named": _named,
    "runner": _runner,
    "job": _job,
    "file": _file,
    "user_data": _user_data,
    "mention": _mention,
    "action": _action,
    "firing": _firing,
    "attempt": _attempt,
    "provenance": _provenance,
    "event": _event,
}
