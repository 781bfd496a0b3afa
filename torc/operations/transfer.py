"""A workflow out of this store, and into it. What is taken in gets ids of its own; nothing of it is trusted."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from torc import __version__
from torc.api.export_format import NESTED, TABLES, WORKFLOW, header, row_line, table_line
from torc.api.transfer import ExportPage, ExportWorkflow, ImportWorkflow
from torc.api.workflows import Workflow
from torc.errors import Invalid
from torc.operations.dispatch import DryRun, PreparationBounds, Tx, answers, prepares
from torc.operations.import_file import Incoming, read_file, unpack
from torc.operations.input_hashes import changed_fingerprints
from torc.operations.row_mapping import encode_cursor, workflow_of, workflow_row
from torc.operations.runs import end_runners
from torc.operations.sliced_storage import check_quota, contradiction, loads
from torc.operations.stage_totals import keep_stages
from torc.operations.transaction import ReservedIds
from torc.planning.scheduler_types import ROW_KINDS
from torc.store import jobs, workflows
from torc.store.export_rows import BY_REFERENCE, kept, key_types, rows_after
from torc.store.id_blocks import take_ids
from torc.store.invariants import problems
from torc.store.json_columns import loads as read_json
from torc.store.sliced_storage import Batch, insert

_NAMES = list(TABLES)


@answers(ExportWorkflow)
def export_workflow(tx: Tx, request: ExportWorkflow) -> ExportPage:
    """Return the next lines of the file of a workflow."""
    row = workflow_row(tx, request.workflow_id)
    lines: list[str] = []
    at, after = _place(request.cursor)
    if request.cursor is None:
        fields = {column.name: _told(row[column.name], column.kind) for column in WORKFLOW}
        lines.append(header(fields, __version__, tx.now))
    left = request.limit
    while at < len(_NAMES) and left > 0:
        table = _NAMES[at]
        rows, last = rows_after(tx.db, tx.dialect, row["id"], table, after, left)
        if rows and not after:
            lines.append(table_line(table))
        if table == "job":
            _forget_fingerprints(tx, row["id"], rows)
        lines += map(row_line, rows)
        left -= len(rows)
        at, after = (at, last) if left <= 0 else (at + 1, [])
    is_more = at < len(_NAMES)
    cursor = encode_cursor(at, *after) if is_more else None
    return ExportPage(lines=lines, num_rows=request.limit - left, cursor=cursor, mark=workflows.mark(tx.db, row["id"]))


def _told(value: Any, kind: str) -> Any:
    if kind in NESTED:
        return read_json(value, {})
    return bool(value) if kind == "bool" else value


def _place(cursor: str | None) -> tuple[int, list[Any]]:
    """Return the table and the key after which the next page begins. Raises Invalid."""
    if cursor is None:
        return 0, []
    try:
        at, *after = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if type(at) is int and 0 <= at < len(_NAMES) and _is_key(after, _NAMES[at]):
            return at, after
    except (ValueError, TypeError):
        pass
    raise Invalid("this cursor means nothing", hint="use a cursor as a reply gave it, with the same request")


def _is_key(after: list[Any], table: str) -> bool:
    return not after or [type(value) for value in after] == key_types(table)


def _forget_fingerprints(tx: Tx, workflow_id: int, rows: list[list[Any]]) -> None:
    """Leave out what was kept of commands that mention user data and have not changed: the ids will be others."""
    at = [column.name for column in TABLES["job"]].index("fingerprint")
    marked = {row[0] for row in rows if row[at] is not None}
    if not marked:
        return
    mentioning = jobs.mentioning(tx.db, tx.dialect, marked)
    if mentioning:
        present = changed_fingerprints(tx, workflow_id)
        for row in rows:
            before, now = present.get(row[0], ("", "-"))
            if row[0] in mentioning and before == now:
                row[at] = None


@prepares(ImportWorkflow, bounded=True)
def read_import(request: ImportWorkflow, bounds: PreparationBounds = PreparationBounds()) -> Incoming:
    """Read and check a file that is to be taken in."""
    if request.directory is not None and not request.directory.startswith("/"):
        raise Invalid("the directory is not absolute", hint="name it from the root on")
    return read_file(unpack(request.content), bounds)


@dataclass(frozen=True, slots=True)
class ImportLoad:
    """A file that is to be stored."""

    request: ImportWorkflow
    incoming: Incoming

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return self.incoming.num_rows

    @property
    def num_jobs(self) -> int:
        """How many jobs it has."""
        return len(self.incoming.places.get("job", ()))

    @property
    def is_dry(self) -> bool:
        """Whether nothing of it is to stay."""
        return self.request.dry_run

    def user(self, tx: Tx) -> str:
        """To whom it is to belong."""
        return tx.rights.user if tx.rights is not None else tx.actor.partition(":")[2] or tx.actor

    def take_ids(self, tx: Tx) -> ReservedIds:
        """Take the ids of all its rows."""
        first = {table: take_ids(tx.db, table, len(places)) for table, places in self.incoming.places.items() if places}
        return ReservedIds(take_ids(tx.db, "workflow"), first)

    def batches(self, ticket: ReservedIds) -> Iterator[Batch]:
        """Its rows, with ids of here. Raises Invalid."""
        new_ids = _NewIds(self.incoming, ticket.ids)
        commands = _Commands(self.incoming, new_ids)
        for table, group in itertools.groupby(self.incoming.rows(), key=itemgetter(0)):
            columns = [column.name for column in TABLES[table]]
            owner = [] if table in BY_REFERENCE else [ticket.workflow_id]
            made = (_row(table, row, new_ids, commands) + owner for _, row in group)
            yield Batch(table, [*columns, *(["workflow_id"] if owner else [])], made)

    def settle(self, tx: Tx, ticket: ReservedIds) -> None:
        """Work out what is kept beside the rows."""
        jobs.recount(tx.db, ticket.workflow_id)
        keep_stages(tx, ticket.workflow_id)

    def verify(self, tx: Tx, ticket: ReservedIds) -> None:
        """Refuse what cannot be. Raises Invalid."""
        wrong = problems(tx.db, ticket.workflow_id)
        if wrong:
            raise Invalid(f"the file is inconsistent: {wrong[0][1]} ({wrong[0][0]})", hint="the file is damaged")


@loads(ImportWorkflow)
def import_load(request: ImportWorkflow, prepared: Incoming) -> ImportLoad:
    """What is stored of a file."""
    return ImportLoad(request, prepared)


@answers(ImportWorkflow)
def import_workflow(tx: Tx, request: ImportWorkflow) -> Workflow:
    """Take a workflow in, or the rest of it."""
    incoming: Incoming = tx.prepared
    load = ImportLoad(request, incoming)
    ticket = tx.ticket
    if ticket is None:
        check_quota(tx, load.user(tx), load.num_jobs)
        ticket = load.take_ids(tx)
    workflow_id = ticket.workflow_id
    insert(tx.db, tx.dialect, [_workflow_row(tx, load, workflow_id)])
    if not ticket.is_written:
        try:
            insert(tx.db, tx.dialect, load.batches(ticket))
        except tx.db.dialect.loaded_dbapi.IntegrityError as error:
            raise contradiction(error) from None
        load.settle(tx, ticket)
    end_runners(tx, workflow_row(tx, workflow_id, lock=True), "the workflow was exported while it ran")
    if not ticket.is_written:
        load.verify(tx, ticket)
    old = incoming.header
    tx.event(
        workflow_id,
        "workflow_imported",
        name=old["workflow"]["name"],
        user=old["workflow"]["user"],
        exported_at=old["exported_at"],
        torc=old["torc"],
    )
    made_workflow = workflow_of(tx, workflow_row(tx, workflow_id))
    if request.dry_run:
        raise DryRun(made_workflow)
    return made_workflow


def _workflow_row(tx: Tx, load: ImportLoad, workflow_id: int) -> Batch:
    fields = {**load.incoming.header["workflow"], "user": load.user(tx), "updated_at": tx.now}
    fields |= {name: value for name in ("name", "directory") if (value := getattr(load.request, name)) is not None}
    columns = [column.name for column in WORKFLOW]
    row = [kept(fields[column.name], column.kind) for column in WORKFLOW]
    return Batch("workflow", ["id", *columns], [[workflow_id, *row]])


class _NewIds:
    """The ids that rows of the file get here."""

    def __init__(self, incoming: Incoming, first: Mapping[str, int]) -> None:
        self._places, self._first = incoming.places, first

    def __call__(self, table: str, old: Any) -> int | None:
        """Return the new id of a row; None: there is no such row."""
        place = self._places.get(table, {}).get(old) if isinstance(old, int) else None
        return None if place is None else self._first[table] + place


class _Commands:
    """What jobs run, with the ids of user data that it mentions as they are here."""

    def __init__(self, incoming: Incoming, new_ids: _NewIds) -> None:
        self._mentions: dict[tuple[int, str], list[tuple[int, int]]] = {}
        self._new_ids = new_ids
        for table, row in incoming.rows() if incoming.places.get("user_data") else ():
            if table == "mention":
                job, field, at, user_data = row
                self._mentions.setdefault((job, field), []).append((at, user_data))

    def rewritten(self, job: int, field: str, command: str) -> str:
        """Return a command with new ids. Raises Invalid where it does not mention what it is said to."""
        parts, end = [], 0
        for at, old in sorted(self._mentions.get((job, field), ())):
            if at < end or not command.startswith(str(old), at):
                raise Invalid(f"job {job} does not mention user data {old} at {at}", hint="the file is damaged")
            parts += [command[end:at], str(self._new_ids("user_data", old))]
            end = at + len(str(old))
        return "".join([*parts, command[end:]])

    def moved(self, job: int, field: str, at: int) -> int:
        """Return where a mention stands now."""
        before = (old for place, old in self._mentions[job, field] if place < at)
        return at + sum(len(str(self._new_ids("user_data", old))) - len(str(old)) for old in before)


def _row(table: str, row: list[Any], new_ids: _NewIds, commands: _Commands) -> list[Any]:
    """Return a row as it is stored here."""
    fields = {column.name: value for column, value in zip(TABLES[table], row, strict=True)}
    old = dict(fields)
    for column in TABLES[table]:
        if column.refers_to is not None:
            fields[column.name] = new_ids(column.refers_to, old[column.name])
        elif column.kind == "id":
            fields["id"] = new_ids(table, old["id"])
    if table == "job":
        for name in ("command", "invocation_script"):
            if old[name] is not None:
                fields[name] = commands.rewritten(old["id"], name, old[name])
    elif table == "mention":
        fields["at"] = commands.moved(old["job_id"], old["field"], old["at"])
    elif table == "firing" and old["occasion"].startswith("runner:"):
        fields["occasion"] = _occasion(old["occasion"], new_ids)
    elif table == "event":
        fields["data"] = _event_data(old["type"], old["data"], new_ids)
    return [kept(fields[column.name], column.kind) for column in TABLES[table]]


def _occasion(old: str, new_ids: _NewIds) -> str:
    number = old.removeprefix("runner:")
    found = new_ids("runner", int(number)) if number.isascii() and number.isdigit() and len(number) < 19 else None
    return f"runner:{found}" if found is not None else f"before:{number}"


#: fields of events that hold ids, and of what
_IN_EVENTS: Mapping[str, str] = {"runner_id": "runner", "action_id": "action"}
_OF_PARTS = dict.fromkeys(("failure_handler", *ROW_KINDS, "remote_worker"), "named")


def _event_data(kind: str, data: Mapping[str, Any], new_ids: _NewIds) -> dict[str, Any]:
    """Return the data of an event with the ids of here; what is no more has none."""
    made = dict(data)
    for field, table in _IN_EVENTS.items():
        if field in made:
            made[field] = new_ids(table, made[field])
    if isinstance(made.get("job_ids"), list):
        made["job_ids"] = [found for old in made["job_ids"] if (found := new_ids("job", old)) is not None]
    if "id" in made:
        part = kind.rpartition("_")[0]
        made["id"] = new_ids(_OF_PARTS.get(part, part), made["id"])
    made.pop("access_group_id", None)
    return made
