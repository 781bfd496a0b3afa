"""Generate a spec from a stored workflow, job by job: it creates a workflow like this one before anything ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from torc.api.transfer import ExportSpec, SpecText
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import classes_of, workflow_row
from torc.planning.scheduler_types import ROW_KINDS
from torc.spec import model
from torc.spec.plan import JOB_FIELDS, JOB_TEXTS
from torc.spec.writer import write_spec
from torc.store import spec_rows
from torc.store.json_columns import loads
from torc.store.spec_rows import FileRecord, JobRecord, UserDataRecord
from torc.units import format_duration, format_memory


@answers(ExportSpec)
def export_spec(tx: Tx, request: ExportSpec) -> SpecText:
    """Return a spec."""
    row = workflow_row(tx, request.workflow_id)
    shared = _Shared(tx, row["id"])
    fields: dict[str, Any] = {"name": row["name"]}
    fields |= {key: row[key] for key in ("description", "project") if row[key] is not None}
    for field, column in (("metadata", "meta"), ("env", "env")):
        if value := loads(row[column], {}):
            fields[field] = value
    fields |= loads(row["settings"], {})
    fields |= {
        field: values
        for field, values in (
            ("files", [{"name": file.name, "path": file.path} for file in shared.files.values()]),
            ("user_data", [_user_data(item) for item in shared.user_data.values()]),
            ("resource_requirements", shared.requirements),
            ("failure_handlers", shared.named["failure_handler"]),
            *((each.spec_field, shared.named[kind]) for kind, each in ROW_KINDS.items()),
            ("actions", _actions(tx, row["id"])),
        )
        if values
    }
    fields["jobs"] = [shared.job(found) for found in spec_rows.jobs(tx.db, tx.dialect, row["id"])]
    return SpecText(format=request.format, text=write_spec(model.WorkflowSpec.model_validate(fields), request.format))


class _Shared:
    """What jobs refer to, by id."""

    def __init__(self, tx: Tx, workflow_id: int) -> None:
        of = tx.db, tx.dialect, workflow_id
        classes = classes_of(tx, workflow_id)
        self.requirement_names = {number: found.name for number, found in classes.items()}
        self.requirements = [
            {
                "name": name,
                "num_cpus": asked.num_cpus,
                "num_gpus": asked.num_gpus,
                "num_nodes": asked.num_nodes,
                "memory": format_memory(asked.memory_bytes),
                "runtime": format_duration(asked.runtime_seconds),
            }
            for _, name, asked in classes.values()
        ]
        self.named: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.named_names = {}
        for item in spec_rows.named(*of):
            self.named_names[item.id] = item.name
            self.named[item.kind].append({"name": item.name, **item.fields})
        self.files = {file.id: file for file in spec_rows.files(*of)}
        self.user_data = {item.id: item for item in spec_rows.user_data(*of)}
        self.files_read = spec_rows.inputs(*of, "file")
        self.data_read = spec_rows.inputs(*of, "user_data")
        self.files_written = _written(self.files.values())
        self.data_written = _written(self.user_data.values())
        self.waits = spec_rows.prerequisites(*of)
        self.mentions = spec_rows.mentions(*of)

    def job(self, row: JobRecord) -> dict[str, Any]:
        """Return a job as a spec writes it."""
        made = {"name": row.name, **row.fields}
        for field in JOB_TEXTS:
            if made[field.name] is not None:
                made[field.name] = self._command(row, field.name)
        for field in JOB_FIELDS:
            if made[field.name] == field.default:
                del made[field.name]
        optional = {
            "failure_handler": row.failure_handler_id and self.named_names.get(row.failure_handler_id),
            "scheduler": row.scheduler_id and self.named_names.get(row.scheduler_id),
            "input_files": [self.files[number].name for number in self._files_read(row)],
            "input_user_data": [self.user_data[number].name for number in self._data_read(row)],
            "output_files": self.files_written.get(row.id, []),
            "output_user_data": self.data_written.get(row.id, []),
            "depends_on": self._depends_on(row),
        }
        made["resource_requirements"] = self.requirement_names[row.requirement_id]
        return made | {field: value for field, value in optional.items() if value}

    def _files_read(self, row: JobRecord) -> list[int]:
        return [] if row.input_set_id is None else self.files_read.get(row.input_set_id, [])

    def _data_read(self, row: JobRecord) -> list[int]:
        return [] if row.input_set_id is None else self.data_read.get(row.input_set_id, [])

    def _depends_on(self, row: JobRecord) -> list[str]:
        """Name what a job waits for but for what follows from its files and user data."""
        if row.gate_id is None:
            return []
        producers = {self.files[number].producer_job_id for number in self._files_read(row)}
        producers |= {self.user_data[number].producer_job_id for number in self._data_read(row)}
        return [job.name for job in self.waits[row.gate_id] if job.id not in producers]

    def _command(self, row: JobRecord, field: str) -> str:
        """Write a command with references in place of ids."""
        command: str = row.fields[field]
        read = set(self._data_read(row))
        for at, number in reversed(self.mentions.get((row.id, field), [])):
            direction = "input" if number in read else "output"
            reference = f"${{user_data.{direction}.{self.user_data[number].name}}}"
            command = command[:at] + reference + command[at + len(str(number)) :]
        return command


def _written(items: Iterable[FileRecord | UserDataRecord]) -> dict[int, list[str]]:
    """Return the names of what each job writes."""
    found: dict[int, list[str]] = defaultdict(list)
    for item in items:
        if item.producer_job_id is not None:
            found[item.producer_job_id].append(item.name)
    return found


def _user_data(row: UserDataRecord) -> dict[str, Any]:
    """Return user data; what a job writes is left open."""
    item: dict[str, Any] = {"name": row.name}
    if row.data is not None and row.producer_job_id is None:
        item["data"] = row.data
    if row.is_ephemeral:
        item["is_ephemeral"] = True
    return item


def _actions(tx: Tx, workflow_id: int) -> list[dict[str, Any]]:
    made = []
    for action in spec_rows.actions(tx.db, tx.dialect, workflow_id):
        item = {"trigger_type": action.trigger_type, "action_type": action.action_type, **action.settings}
        optional = {
            "jobs": [job.name for job in action.jobs],
            "commands": action.commands,
            "persistent": action.persistent,
        }
        made.append({**item, **{field: value for field, value in optional.items() if value}})
    return made
