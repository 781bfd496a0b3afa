"""One description of each field of a job: whatever is not derived from it agrees with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.workflows import create, exchange, runner
from torc.api.base import Torc
from torc.api.export_format import TABLES, VERSION, columns_of
from torc.api.jobs import ClaimedFields, CreateJob, GetJob, Job, JobFields, UpdateJob
from torc.api.runs import Assignment
from torc.api.transfer import ExportSpec
from torc.spec import model
from torc.spec.plan import EXECUTED_FIELDS, JOB_FIELDS, JobField, PlannedJob
from torc.store.job_fields import loaded, stored
from torc.store.plan_rows import JOB_COLUMNS
from torc.store.schema import JobRow

NAMES = {field.name for field in JOB_FIELDS}
CLAIMED = {field.name for field in JOB_FIELDS if field.is_claimed}
#: what names other objects
REFERENCES = {"failure_handler", "scheduler"}
COLUMNS = JobRow.metadata.tables["job"].columns
by_field = pytest.mark.parametrize("field", JOB_FIELDS, ids=lambda field: field.name)


@by_field
def test_a_field_is_a_column_that_may_be_null_as_it_says(field: JobField) -> None:
    assert COLUMNS[field.name].nullable == field.is_nullable


@by_field
def test_a_field_has_one_default_in_specs_plans_and_requests(field: JobField) -> None:
    for kind in (model.JobSpec, Job, CreateJob):
        described = kind.model_fields[field.name]
        if not described.is_required():
            assert described.get_default(call_default_factory=True) == field.default
    assert PlannedJob._field_defaults.get(field.name, field.default) == field.default


@by_field
def test_a_field_is_written_to_portable_files_of_its_version_and_later(field: JobField) -> None:
    for version in range(1, VERSION + 1):
        names = {column.name for column in columns_of("job", version)}
        assert (field.name in names) == (version >= field.exported_since)


def test_new_jobs_have_every_column_that_must_not_be_null() -> None:
    assert {column.name for column in COLUMNS if not column.nullable} <= set(JOB_COLUMNS) <= set(COLUMNS.keys())


def test_portable_files_hold_every_column_of_a_job_but_the_workflow() -> None:
    assert {column.name for column in TABLES["job"]} == set(COLUMNS.keys()) - {"workflow_id"}


def test_runners_are_given_the_fields_that_they_need_and_all_that_is_executed() -> None:
    assert set(ClaimedFields.model_fields) == CLAIMED >= {field.name for field in EXECUTED_FIELDS}
    assert set(Assignment.model_fields) >= CLAIMED


def test_requests_have_the_fields_that_jobs_have() -> None:
    assert set(JobFields.model_fields) == NAMES | REFERENCES
    assert set(Job.model_fields) >= NAMES | REFERENCES
    editable = {field.name for field in JOB_FIELDS if field.is_editable}
    assert set(UpdateJob.model_fields) == editable | REFERENCES | {"requirement", "job_id"}


@by_field
def test_a_value_comes_back_from_its_column(field: JobField) -> None:
    for value in _values(field):
        assert loaded(field, stored(field, value)) == value


def _values(field: JobField) -> list[Any]:
    some: dict[str, list[Any]] = {
        "text": ["true"],
        "object": [{"A": "1"}, {}],
        "count": [0, 7],
        "bool": [True, False],
    }
    return some[field.kind]


def test_fields_go_from_the_spec_through_the_store_to_runners_and_back(torc: Torc) -> None:
    other = {
        "command": "echo $A",
        "invocation_script": "nice",
        "env": {"A": "1"},
        "priority": 7,
        "cancel_on_blocking_job_failure": False,
        "supports_termination": True,
        "keep_background_processes": True,
    }
    assert other.keys() == NAMES
    assert all(other[field.name] != field.default for field in JOB_FIELDS)
    made = create(torc, {"name": "w", "jobs": [{"name": "a", **other}]})
    assignment = exchange(torc, made.id, runner(torc, made.id), limit=1).assignments[0]
    assert {name: getattr(assignment, name) for name in CLAIMED} == {name: other[name] for name in CLAIMED}
    job = torc.send(GetJob(job_id=assignment.job_id))
    assert {name: getattr(job, name) for name in NAMES} == other
    text = torc.send(ExportSpec(workflow_id=made.id, format="json")).text
    written = json.loads(text)["jobs"][0]
    assert {name: written[name] for name in NAMES} == other
