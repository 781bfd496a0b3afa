"""A spec from a stored workflow, job by job: what it makes is like the workflow before anything ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text

from torc.api.transfer import ExportSpec, SpecText
from torc.operations.dispatch import Tx, answers
from torc.operations.row_mapping import classes_of, workflow_row
from torc.spec import model
from torc.spec.writer import write_spec
from torc.store.json_columns import loads
from torc.units import format_duration, format_memory

_JOBS = (
    "SELECT id, name, command, invocation_script, env, priority, requirement_id, gate_id, input_set_id, "
    "failure_handler_id, scheduler_id, cancel_on_blocking_job_failure, supports_termination, keep_background_processes FROM job "
    "WHERE workflow_id = :id ORDER BY id"
)
_GATES = "SELECT p.gate_id, j.id, j.name FROM gate_prerequisite p JOIN job j ON j.id = p.job_id WHERE j.workflow_id = :id ORDER BY j.id"


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
            ("files", [{"name": name, "path": path} for name, path, _ in shared.files.values()]),
            ("user_data", _user_data(tx, row["id"])),
            ("resource_requirements", shared.requirements),
            ("failure_handlers", shared.named["failure_handler"]),
            ("slurm_schedulers", shared.named["slurm_scheduler"]),
            ("actions", _actions(tx, row["id"])),
        )
        if values
    }
    fields["jobs"] = [shared.job(found) for found in tx.dialect.fetch(tx.db, _JOBS, {"id": row["id"]})]
    return SpecText(format=request.format, text=write_spec(model.WorkflowSpec.model_validate(fields), request.format))


class _Shared:
    """What jobs refer to, by id."""

    def __init__(self, tx: Tx, workflow_id: int) -> None:
        key = {"id": workflow_id}

        def rows(query: str) -> list[Any]:
            return tx.dialect.fetch(tx.db, query, key)

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
        for number, kind, name, fields in rows(
            "SELECT id, kind, name, fields FROM named WHERE workflow_id = :id ORDER BY id"
        ):
            self.named_names[number] = name
            self.named[kind].append({"name": name, **loads(fields, {})})
        files = rows("SELECT id, name, path, producer_job_id FROM file WHERE workflow_id = :id ORDER BY id")
        self.files = {row[0]: row[1:] for row in files}
        data = rows("SELECT id, name, producer_job_id FROM user_data WHERE workflow_id = :id ORDER BY id")
        self.user_data = {row[0]: row[1:] for row in data}
        self.reads = {what: self._reads(rows, what) for what in ("file", "user_data")}
        self.writes = {
            "file": self._writes((row[3], row[1]) for row in files),
            "user_data": self._writes((row[2], row[1]) for row in data),
        }
        self.waits: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for gate, job, name in rows(_GATES):
            self.waits[gate].append((job, name))
        self.mentions: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
        where = "JOIN job j ON j.id = m.job_id WHERE j.workflow_id = :id ORDER BY m.job_id, m.field, m.at"
        for job, field, at, number in rows(f"SELECT m.job_id, m.field, m.at, m.user_data_id FROM mention m {where}"):
            self.mentions[job, field].append((at, number))

    @staticmethod
    def _reads(rows: Any, what: str) -> dict[int, list[int]]:
        found: dict[int, list[int]] = defaultdict(list)
        where = f"JOIN {what} t ON t.id = i.{what}_id WHERE t.workflow_id = :id ORDER BY t.id"
        for input_set, number in rows(f"SELECT i.input_set_id, t.id FROM input_{what} i {where}"):
            found[input_set].append(number)
        return found

    @staticmethod
    def _writes(pairs: Any) -> dict[int, list[str]]:
        found: dict[int, list[str]] = defaultdict(list)
        for job, name in pairs:
            if job is not None:
                found[job].append(name)
        return found

    def job(self, row: Any) -> dict[str, Any]:
        """Return a job as a spec writes it."""
        (
            number,
            name,
            command,
            script,
            env,
            priority,
            requirement,
            gate,
            inputs,
            handler,
            scheduler,
            cancel,
            terminates,
            keeps,
        ) = row
        made: dict[str, Any] = {"name": name, "command": self._command(number, inputs, "command", command)}
        optional = {
            "invocation_script": script and self._command(number, inputs, "invocation_script", script),
            "env": loads(env, {}),
            "priority": priority,
            "failure_handler": self.named_names.get(handler),
            "scheduler": self.named_names.get(scheduler),
            "supports_termination": bool(terminates),
            "keep_background_processes": bool(keeps),
            "input_files": [self.files[file][0] for file in self.reads["file"].get(inputs, ())],
            "input_user_data": [self.user_data[data][0] for data in self.reads["user_data"].get(inputs, ())],
            "output_files": self.writes["file"].get(number, []),
            "output_user_data": self.writes["user_data"].get(number, []),
            "depends_on": self._depends_on(gate, inputs),
        }
        made["resource_requirements"] = self.requirement_names[requirement]
        made |= {field: value for field, value in optional.items() if value}
        return made if cancel else {**made, "cancel_on_blocking_job_failure": False}

    def _depends_on(self, gate: int | None, inputs: int | None) -> list[str]:
        """Name what a job waits for but for what follows from its files and user data."""
        if gate is None:
            return []
        producers = {self.files[file][2] for file in self.reads["file"].get(inputs, ())}  # type: ignore[arg-type]
        producers |= {self.user_data[data][1] for data in self.reads["user_data"].get(inputs, ())}  # type: ignore[arg-type]
        return [name for number, name in self.waits[gate] if number not in producers]

    def _command(self, job: int, inputs: int | None, field: str, command: str) -> str:
        """Write a command with references in place of ids."""
        read: Mapping[int, Any] = dict.fromkeys(self.reads["user_data"].get(inputs, ()))  # type: ignore[arg-type]
        for at, number in reversed(self.mentions.get((job, field), ())):
            direction = "input" if number in read else "output"
            reference = f"${{user_data.{direction}.{self.user_data[number][0]}}}"
            command = command[:at] + reference + command[at + len(str(number)) :]
        return command


def _user_data(tx: Tx, workflow_id: int) -> list[dict[str, Any]]:
    """Return user data; what a job writes is left open."""
    made = []
    query = text("SELECT name, data, is_ephemeral, producer_job_id FROM user_data WHERE workflow_id = :id ORDER BY id")
    for name, data, is_ephemeral, producer in tx.db.execute(query, {"id": workflow_id}):
        item: dict[str, Any] = {"name": name}
        if data is not None and producer is None:
            item["data"] = loads(data)
        if is_ephemeral:
            item["is_ephemeral"] = True
        made.append(item)
    return made


def _actions(tx: Tx, workflow_id: int) -> list[dict[str, Any]]:
    jobs: dict[int, list[str]] = defaultdict(list)
    of = text(
        "SELECT w.action_id, j.name FROM action_job w JOIN job j ON j.id = w.job_id WHERE j.workflow_id = :id ORDER BY j.id"
    )
    for action, name in tx.db.execute(of, {"id": workflow_id}):
        jobs[action].append(name)
    made = []
    query = text(
        "SELECT id, trigger_type, action_type, commands, settings, persistent FROM action "
        "WHERE workflow_id = :id ORDER BY position"
    )
    for number, trigger, kind, commands, settings, persistent in tx.db.execute(query, {"id": workflow_id}):
        item = {"trigger_type": trigger, "action_type": kind, **loads(settings, {})}
        optional = {"jobs": jobs.get(number), "commands": loads(commands, []), "persistent": bool(persistent)}
        made.append({**item, **{field: value for field, value in optional.items() if value}})
    return made
