"""Which scheduler is meant, and that each does what the others rely on."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tests.support.workflows import workflow
from torc.api.allocations import NewAllocation, RecordAllocations
from torc.api.base import Torc
from torc.api.data import CreateSlurmScheduler, ListFailureHandlers, ListSchedulers, UpdateScheduler
from torc.api.runs import StartRun
from torc.errors import Invalid, NotFound
from torc.planning.scheduler_types import SCHEDULER_TYPES
from torc.schedulers import registry
from torc.schedulers.base import Capability, Scheduler
from torc.schedulers.submission import new_allocation, request_of
from torc.spec.model import SCHEDULER_MODELS, WorkflowSpec


@pytest.mark.parametrize("name", SCHEDULER_TYPES)
def test_each_scheduler_is_registered_under_all_of_its_names(name: str) -> None:
    found, of = registry.scheduler(name), SCHEDULER_TYPES[name]
    assert found.type == of and found.capabilities <= frozenset(Capability)
    assert of.defaults_field in WorkflowSpec.model_fields
    assert WorkflowSpec.model_fields[of.spec_field].annotation == list[SCHEDULER_MODELS[name]]  # type: ignore[valid-type]


@pytest.mark.parametrize("name", SCHEDULER_TYPES)
def test_each_scheduler_has_the_functions_of_the_protocol_with_their_parameters(name: str) -> None:
    made = registry.scheduler(name)
    for function, wanted in inspect.getmembers(Scheduler, inspect.isfunction):
        if not function.startswith("_"):
            asked = list(inspect.signature(wanted).parameters)[1:]
            assert list(inspect.signature(getattr(made, function)).parameters) == asked, function


@pytest.mark.parametrize("name", SCHEDULER_TYPES)
def test_a_request_is_read_back_as_it_was_recorded(name: str) -> None:
    scheduler = registry.scheduler(name)
    asked = scheduler.request_of("cpu", {"walltime": "01:00:00", "nodes": 2}, job_name="x", defaults={"comment": "a"})
    recorded = NewAllocation.model_validate_json(new_allocation(asked).model_dump_json())
    assert registry.type_of(recorded) == name
    assert request_of(recorded, scheduler) == asked


def test_an_allocation_of_an_earlier_torc_is_of_slurm() -> None:
    assert registry.type_of(NewAllocation(name="x", walltime_seconds=60, request={"name": "x"})) == "slurm"


def test_a_name_that_no_scheduler_has_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Invalid, match="there is no scheduler `sge`") as raised:
        registry.scheduler("sge")
    assert "slurm" in (raised.value.hint or "")


def test_the_scheduler_here_is_the_one_whose_commands_are_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert registry.here() == "slurm"  # where none is, it is the one whose error tells what to do
    (tmp_path / "sbatch").touch(0o755)
    assert registry.here() == "slurm"


def test_a_workflow_uses_the_scheduler_of_its_allocations_or_of_its_spec(torc: Torc) -> None:
    number = workflow(torc, "a")
    assert registry.type_of_workflow(torc, number) == registry.here()
    torc.send(CreateSlurmScheduler(workflow_id=number, name="cpu", fields={"account": "a"}))
    assert [item.type for item in torc.send(ListSchedulers(workflow_id=number)).items] == ["slurm"]
    assert registry.type_of_workflow(torc, number) == "slurm"
    torc.send(StartRun(workflow_id=number))
    new = NewAllocation(name="x", walltime_seconds=60, request={"type": "slurm"})
    torc.send(RecordAllocations(workflow_id=number, allocations=[new]))
    assert registry.type_of_workflow(torc, number) == "slurm"


def test_what_a_workflow_describes_is_changed_by_its_id_whatever_its_type(torc: Torc) -> None:
    number = workflow(torc, "a", failure_handlers=[{"name": "h", "rules": [{"exit_codes": [1]}]}])
    made = torc.send(CreateSlurmScheduler(workflow_id=number, name="cpu", fields={"nodes": 2}))
    changed = torc.send(UpdateScheduler(scheduler_id=made.id, fields={"nodes": 3}))
    assert (changed.type, changed.name, changed.fields) == ("slurm", "cpu", {"nodes": 3})
    with pytest.raises(Invalid, match="walltime"):
        torc.send(UpdateScheduler(scheduler_id=made.id, fields={"walltime": "soon"}))
    (handler,) = torc.send(ListFailureHandlers(workflow_id=number)).items
    with pytest.raises(NotFound, match="no Slurm scheduler"):
        torc.send(UpdateScheduler(scheduler_id=handler.id, fields={"nodes": 3}))
