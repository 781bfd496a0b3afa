"""The portable file format of a workflow, version 4: its lines and their valid contents. No bytes, no databases.

The format is JSON lines. The first is a header with the workflow itself. Then, for each table, a line with its name and columns, and
a line (a list) for each row; a column of `@table` refers to an `id` of an earlier table. The last line counts the rows and has the
SHA-256 of all lines before it. The columns are fixed here, independent of the database schema. A later version may only add
nullable columns at the end (`_SINCE`), so files of earlier versions remain readable.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torc.errors import Invalid
from torc.spec.plan import JOB_FIELDS
from torc.workflow.exit_codes import counted
from torc.workflow.states import State

FORMAT = "torc-workflow"
_LARGEST = 2**63 - 1


class Column(NamedTuple):
    """A column: its type, whether it may be null, and the table that it refers to.

    `is_soft`: what it refers to may have been deleted; then it is null.
    """

    name: str
    kind: str
    nullable: bool = False
    refers_to: str | None = None
    is_soft: bool = False


def _columns(described: str) -> tuple[Column, ...]:
    """Parse `name:kind` with `?` for nullable, `@table` for references and `~table` for soft ones."""
    found = []
    for part in described.split():
        name, _, kind = part.partition(":")
        nullable, kind = kind.startswith("?"), kind.removeprefix("?")
        if kind[:1] in {"@", "~"}:
            found.append(Column(name, "reference", nullable, kind[1:], kind[0] == "~"))
        else:
            found.append(Column(name, kind, nullable))
    return tuple(found)


#: job fields up to this version are listed below; later ones are appended
_WRITTEN_OUT = 4
#: in file order: referenced tables come first
TABLES: dict[str, tuple[Column, ...]] = {
    "requirement": _columns(
        "id:id name:text num_cpus:count num_gpus:count num_nodes:count memory_bytes:count runtime_seconds:count"
    ),
    "named": _columns("id:id kind:text name:text fields:object"),
    "gate": _columns("id:id total:count remaining:count"),
    "input_set": _columns("id:id"),
    "runner": _columns(
        "id:id run_id:count kind:text host:text pid:count process_started:text boot_id:text capacity:object labels:object "
        "is_active:bool started_at:float ended_at:?float end_reason:?text lease_expires_at:float num_completed:count "
        "num_failed:count"
    ),
    "job": _columns(
        "id:id name:text command:text invocation_script:?text env:?object priority:count order_key:int "
        "requirement_id:@requirement gate_id:?@gate input_set_id:?@input_set failure_handler_id:?@named "
        "scheduler_id:?@named cancel_on_blocking_job_failure:bool supports_termination:bool has_outputs:bool "
        "state:state counted:bool attempt:count runner_id:?~runner started_at:?float return_code:?exit_code reason:?text "
        "recovery:?object fingerprint:?text keep_background_processes:?bool due_at:?float "
        + " ".join(f"{field.name}:?{field.kind}" for field in JOB_FIELDS if field.exported_since > _WRITTEN_OUT)
    ),
    "file": _columns("id:id name:text path:text producer_job_id:?~job size_bytes:?count mtime_ns:?int sha256:?text"),
    "user_data": _columns("id:id name:text data:?json_text is_ephemeral:bool producer_job_id:?~job"),
    "gate_prerequisite": _columns("job_id:@job gate_id:@gate"),
    "input_file": _columns("input_set_id:@input_set file_id:@file"),
    "input_user_data": _columns("input_set_id:@input_set user_data_id:@user_data"),
    "mention": _columns("job_id:@job field:text at:count user_data_id:@user_data"),
    "action": _columns(
        "id:id position:count trigger_type:text action_type:text commands:list settings:object persistent:bool remaining:count"
    ),
    "action_job": _columns("job_id:@job action_id:@action reached:bool"),
    "firing": _columns(
        "action_id:@action run_id:count occasion:text state:text runner_id:?~runner return_code:?exit_code detail:?text"
    ),
    "attempt": _columns(
        "job_id:@job run_id:count attempt:count runner_id:?~runner state:state return_code:?exit_code reason:?text detail:?text "
        "rule:?int is_current:bool started_at:?float ended_at:float wall_seconds:float user_cpu_seconds:float "
        "system_cpu_seconds:float peak_memory_bytes:count usage:?object stderr_tail:?text "
        "stderr_line:?count stdout_tail:?text stdout_line:?count slurm_state:?text requirement_id:?~requirement"
    ),
    "provenance": _columns("kind:text run_id:count runner_id:?~runner hash:text facts:object"),
    "event": _columns("time:float type:text actor:text job_id:?~job data:object"),
}
#: kinds of columns that databases store as JSON
NESTED = frozenset({"object", "list"})
#: the version that introduced a column
_SINCE = {
    ("attempt", "slurm_state"): 2,
    ("attempt", "requirement_id"): 3,
    ("job", "due_at"): 4,
    **{("job", field.name): field.exported_since for field in JOB_FIELDS},
}
VERSION = max(_SINCE.values())
#: the fields of the workflow in the header
WORKFLOW = _columns(
    "name:text user:text description:?text project:?text meta:object env:object settings:object directory:text run_id:count "
    "version:count is_archived:bool is_canceled:bool is_begun:bool has_job_actions:bool created_at:float updated_at:float "
    "started_at:?float ended_at:?float"
)


def header(workflow: Mapping[str, Any], torc: str, exported_at: float) -> str:
    """Return the first line. `exported_at`: seconds since the epoch."""
    fields = {column.name: workflow[column.name] for column in WORKFLOW}
    return _line({"format": FORMAT, "version": VERSION, "torc": torc, "exported_at": exported_at, "workflow": fields})


def table_line(table: str) -> str:
    """Return the line before the rows of a table."""
    return _line({"table": table, "columns": [column.name for column in TABLES[table]]})


def row_line(row: Sequence[Any]) -> str:
    return _line(list(row))


def trailer(rows: int, sha256: str) -> str:
    """Return the last line."""
    return _line({"end": True, "rows": rows, "sha256": sha256})


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def read_line(line: bytes, number: int) -> Any:
    """Parse a line. Raises Invalid."""
    try:
        return json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise damaged(number, "it is not JSON") from None


def _refuse(name: str) -> Any:
    raise ValueError(name)


def damaged(number: int, what: str) -> Invalid:
    """Return the error for a bad line."""
    return Invalid(
        f"line {number}: {what}", hint="the file is damaged or was not written by `torc workflows export`", line=number
    )


def read_header(found: Any) -> Mapping[str, Any]:
    """Validate the first line and return it. Raises Invalid."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Invalid("this is not an exported workflow", hint="use a file written by `torc workflows export`")
    version = found.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise Invalid(
            f"the file has format version {version!r:.20}, and this Torc reads versions 1 to {VERSION}",
            hint="import it with the Torc that wrote it, or a newer one",
        )
    workflow = found.get("workflow")
    if not isinstance(workflow, dict) or set(workflow) != {column.name for column in WORKFLOW}:
        raise damaged(1, f"the fields of the workflow are not those of version {version}")
    for column in WORKFLOW:
        check(column, workflow[column.name], 1)
    if not _is_float(found.get("exported_at")) or not _is_text(found.get("torc")):
        raise damaged(1, "it lacks the time and the version of its writer")
    return found


def read_table(found: Any, number: int, before: str | None, version: int) -> str:
    """Validate the line before the rows of a table and return the table's name. Raises Invalid."""
    names = list(TABLES)
    table = found.get("table")
    if (
        not isinstance(table, str)
        or table not in TABLES
        or (before is not None and names.index(table) <= names.index(before))
    ):
        raise damaged(number, f"a table {table!r:.40} does not belong here")
    if found.get("columns") != [column.name for column in columns_of(table, version)]:
        raise damaged(number, f"the columns of {table} are not those of version {version}")
    return str(table)


def read_row(row: Any, table: str, number: int, version: int) -> list[Any]:
    """Validate a row, except for its references, and return it with all current columns. Raises Invalid."""
    columns = columns_of(table, version)
    if not isinstance(row, list) or len(row) != len(columns):
        raise damaged(number, f"it is not a row of {table}")
    for column, value in zip(columns, row, strict=True):
        check(column, value, number)
    return completed(row, table)


def _today(column: Column, value: Any) -> Any:
    """Convert a value from older versions: death by a signal used to be a negative code."""
    return counted(value) if column.kind == "exit_code" and value is not None else value


def columns_of(table: str, version: int) -> Sequence[Column]:
    """Return the columns that a table has in files of a version."""
    return [column for column in TABLES[table] if _SINCE.get((table, column.name), 1) <= version]


def completed(row: list[Any], table: str) -> list[Any]:
    """Return a row of any version with all current columns: missing ones are null."""
    full = [*row, *[None] * (len(TABLES[table]) - len(row))]
    return [_today(column, value) for column, value in zip(TABLES[table], full, strict=True)]


def check(column: Column, value: Any, number: int) -> None:
    """Validate a value. Raises Invalid."""
    if value is None and column.nullable:
        return
    if value is None or not _KINDS[column.kind](value):
        raise damaged(number, f"`{column.name}` cannot be {json.dumps(value)[:60]}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _is_count(value: Any) -> bool:
    return _is_whole(value) and bool(value >= 0)


def _is_float(value: Any) -> bool:
    return (isinstance(value, float) and math.isfinite(value)) or _is_whole(value)


def _is_text(value: Any) -> bool:
    """Return whether every database can store a value: a string without NUL and lone surrogates."""
    return isinstance(value, str) and "\0" not in value and _is_plain(value)


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _is_json_text(value: Any) -> bool:
    try:
        json.loads(value, parse_constant=_refuse)
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(value, str)


_STATES = {state.value for state in State}
_KINDS: dict[str, Callable[[Any], bool]] = {
    "id": _is_count,
    "reference": _is_count,
    "int": _is_whole,
    "exit_code": _is_whole,
    "count": _is_count,
    "float": _is_float,
    "text": _is_text,
    "bool": lambda value: isinstance(value, bool),
    "state": lambda value: value in _STATES if isinstance(value, str) else False,
    "object": lambda value: isinstance(value, dict) and _is_plain(value),
    "list": lambda value: isinstance(value, list) and _is_plain(value),
    "json_text": _is_json_text,
}
