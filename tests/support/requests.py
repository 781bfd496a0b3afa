"""One request of every kind, about one workflow that has everything: for whoever walks the table of requests."""

from __future__ import annotations

import base64
import io
from typing import Any

from tests.support.accounts import PASSWORD, People, gather
from tests.support.workflows import NODE, finish
from torc.api.access_groups import CreateAccessGroup
from torc.api.allocations import ListAllocations, NewAllocation, RecordAllocations
from torc.api.change_plans import ApplyIntervention, ProposeIntervention
from torc.api.data import ListFailureHandlers, ListFiles, ListRequirements, ListSlurmSchedulers, ListUserData
from torc.api.events import ListEvents
from torc.api.jobs import ListJobs
from torc.api.planning import GetDemand
from torc.api.remote_workers import AddRemoteWorkers, ListRemoteWorkers
from torc.api.runs import ListResults, ListRunners
from torc.client.embedded import Embedded
from torc.client.export_file import write_export

FIELDS: dict[str, Any] = {
    "files": [{"name": "input", "path": "data/input.csv"}],
    "user_data": [{"name": "settings", "data": {"seed": 42}}],
    "resource_requirements": [{"name": "large", "num_cpus": 8, "memory": "16g", "runtime": "PT2H"}],
    "failure_handlers": [{"name": "more_memory", "rules": [{"exit_codes": [137], "memory_multiplier": 2.0}]}],
    "slurm_schedulers": [{"name": "cpu", "account": "project1", "walltime": "04:00:00"}],
}
SPEC = "name: sweep\njobs:\n  - name: train_{i}\n    command: python3 train.py {i}\n    parameters: {i: '1:3'}\n"


def furnish(torc: Embedded) -> People:
    """Make people around a workflow that has everything, partly run, and a group that ada owns."""
    made = gather(torc, **FIELDS)
    finish(torc, made.wf, "a")
    torc.send(AddRemoteWorkers.model_validate({"workflow_id": made.wf, "workers": [{"host": "node1"}]}))
    new = NewAllocation(name="sweep", scheduler="cpu", walltime_seconds=14400, num_nodes=2, account="project1")
    torc.send(RecordAllocations(workflow_id=made.wf, allocations=[new]))
    made.groups["adas"] = torc.answer(CreateAccessGroup(name="adas"), caller=made.caller("ada")).id
    return made


def first(torc: Any, request: Any) -> int:
    return int(torc.send(request).items[0].id)


def example_requests(people: People) -> dict[str, dict[str, Any]]:
    """Return the fields of one request of each kind, about ada's workflow, ada herself, and a group that she owns."""
    torc, wf = people.torc, people.wf
    of_wf: dict[str, Any] = {"workflow_id": wf}
    job = {"job_id": first(torc, ListJobs(workflow_id=wf))}
    user_data = {"user_data_id": first(torc, ListUserData(workflow_id=wf))}
    file = {"file_id": first(torc, ListFiles(workflow_id=wf))}
    requirement = {"requirement_id": first(torc, ListRequirements(workflow_id=wf))}
    handler = {"failure_handler_id": first(torc, ListFailureHandlers(workflow_id=wf))}
    scheduler = {"slurm_scheduler_id": first(torc, ListSlurmSchedulers(workflow_id=wf))}
    runner_id = {"runner_id": first(torc, ListRunners(workflow_id=wf))}
    allocation = {"allocation_id": first(torc, ListAllocations(workflow_id=wf))}
    seen = {"cluster_state": "RUNNING", "cluster_job_id": "4711", "nodes": ["n1", "n2"], "started_at": 1795453209.6}
    ada = {"user_id": people.accounts["ada"]}
    group = {"access_group_id": people.groups["adas"]}
    here = {
        "host": "node1",
        "pid": 4711,
        "process_started": "123456",
        "boot_id": "5f6a...",
        "capacity": NODE.model_dump(),
    }
    return {
        "ListFiles": of_wf,
        "GetFile": file,
        "CreateFile": {**of_wf, "name": "table", "path": "out/table.csv"},
        "UpdateFile": {**file, "path": "out/table.tsv"},
        "DeleteFile": file,
        "ListUserData": of_wf,
        "GetUserData": user_data,
        "CreateUserData": {**of_wf, "name": "best", "data": {"rate": 0.1}},
        "SetUserData": {**user_data, "data": {"seed": 43}},
        "DeleteUserData": user_data,
        "ListRequirements": of_wf,
        "GetRequirement": requirement,
        "CreateRequirement": {**of_wf, "name": "small", "num_cpus": 2},
        "UpdateRequirement": {**requirement, "num_cpus": 2},
        "DeleteRequirement": requirement,
        "ListFailureHandlers": of_wf,
        "GetFailureHandler": handler,
        "CreateFailureHandler": {**of_wf, "name": "again", "fields": {"rules": [{"exit_codes": [1]}]}},
        "UpdateFailureHandler": {**handler, "fields": {"rules": [{"exit_codes": [2]}]}},
        "DeleteFailureHandler": handler,
        "ListSchedulers": of_wf,
        "ListSlurmSchedulers": of_wf,
        "GetSlurmScheduler": scheduler,
        "CreateSlurmScheduler": {**of_wf, "name": "gpu", "fields": {"account": "project1", "gres": "gpu:1"}},
        "UpdateScheduler": {"scheduler_id": scheduler["slurm_scheduler_id"], "fields": {"account": "project3"}},
        "UpdateSlurmScheduler": {**scheduler, "fields": {"account": "project2"}},
        "DeleteSlurmScheduler": scheduler,
        "ListEvents": of_wf,
        "GetEvent": {"event_id": first(torc, ListEvents(workflow_id=wf))},
        "ListJobs": of_wf,
        "GetJob": job,
        "CreateJob": {**of_wf, "name": "report", "command": "python3 report.py", "depends_on": ["c"]},
        "UpdateJob": {**job, "priority": 3},
        "ActOnJobs": {**of_wf, "job_ids": [job["job_id"]], "action": "reset"},
        "ListRemoteWorkers": of_wf,
        "AddRemoteWorkers": {**of_wf, "workers": [{"host": "node2"}]},
        "RemoveRemoteWorker": {**of_wf, "worker_id": machine(people)},
        "StartRun": of_wf,
        "RegisterRunner": {**of_wf, **here},
        "EndRunner": {**of_wf, **runner_id},
        "ListRunners": of_wf,
        "GetRunner": runner_id,
        "Exchange": {**of_wf, **runner_id, "free": NODE.model_dump()},
        "DeliverResults": {**of_wf, **runner_id, "finished": []},
        "GetRunnerSettings": of_wf,
        "ListResults": of_wf,
        "GetResult": {"result_id": first(torc, ListResults(workflow_id=wf))},
        "SummarizeRun": of_wf,
        "CreateWorkflow": {"spec": SPEC, "format": "yaml", "directory": "/home/ada/sweep"},
        "ListWorkflows": {},
        "GetWorkflow": of_wf,
        "UpdateWorkflow": {**of_wf, "description": "second try"},
        "DeleteWorkflow": {**of_wf, "force": True},
        "PruneWorkflows": {"older_than_seconds": 2592000.0},
        "ArchiveWorkflow": of_wf,
        "CancelWorkflow": of_wf,
        "InitializeWorkflow": of_wf,
        "ResetWorkflow": {**of_wf, "force": True},
        "ReinitializeWorkflow": {**of_wf, "force": True},
        "CheckWorkflow": of_wf,
        "GetGraph": of_wf,
        "OutlineWorkflow": of_wf,
        "RecordFiles": {**of_wf, "files": [], "since": 0.0},
        "RecordAllocations": {
            **of_wf,
            "allocations": [{"name": "sweep", "scheduler": "cpu", "walltime_seconds": 3600}],
        },
        "ReportSubmissions": {**of_wf, "submissions": [{**allocation, "cluster_job_id": "4711"}]},
        "ObserveAllocations": {**of_wf, "observations": [{**allocation, **seen}]},
        "GetUsage": of_wf,
        "CancelAllocations": of_wf,
        "ListAllocations": of_wf,
        "GetAllocation": allocation,
        "ListFailedNodes": of_wf,
        "ListDueScheduling": of_wf,
        "ListWaitingJobs": of_wf,
        "RecoverWorkflow": {**of_wf, "dry_run": True},
        "GetRecoverySpent": of_wf,
        "SuggestResources": {"commands": ["echo a"], "min_samples": 1},
        "GetDemand": of_wf,
        "GetStages": of_wf,
        "EstimateCost": {**of_wf, "job_ids": [job["job_id"]]},
        "ListCommandKinds": of_wf,
        "SetAllocationPlan": {
            **of_wf,
            "schedulers": [
                {"name": "planned", "fields": {"account": "project1", "walltime": "01:30:00"}, **cells_left(people)}
            ],
        },
        "ProposeIntervention": {
            **of_wf,
            "action": "cancel_workflow",
            "operations": [{"kind": "CancelWorkflow", "fields": {}}],
            "shows": "ending",
            "client": "editor",
            "summary": "Cancel the workflow",
        },
        "ApplyIntervention": {**of_wf, **proposed(people), "client": "editor", "reason": "the disk has room again"},
        "AskIntervention": {**of_wf, **proposed(people)},
        "DeclineIntervention": {**of_wf, "token": proposed(people)["token"]},
        "ReleaseIntervention": {**of_wf, "token": begun(people)},
        "ReadIntervention": {**of_wf, **numbered(people), "page": 1},
        "GetIntervention": {**of_wf, **numbered(people)},
        "FindInterventions": numbered(people),
        "ListOpenInterventions": {"limit": 2},
        "ApproveIntervention": {**of_wf, **numbered(people, with_digest=True)},
        "ListInterventions": {**of_wf, "limit": 2},
        "GetSpending": {},
        "StartSpendingAnew": {},
        "CheckUtilization": of_wf,
        "CorrectResources": {**of_wf, "factor": 1.5, "min_attempts": 1},
        "GetProvenance": of_wf,
        "ListAttempts": of_wf,
        "ExplainJob": job,
        "DiagnoseWorkflow": of_wf,
        "ExportWorkflow": of_wf,
        "ExportSpec": of_wf,
        "ImportWorkflow": {"content": base64.b64encode(content(people)).decode()},
        "GetMe": {},
        "CreateUser": {"name": "nina", "password": PASSWORD},
        "ListUsers": {},
        "GetUser": ada,
        "UpdateUser": {**ada, "is_disabled": True},
        "DeleteUser": ada,
        "SetPassword": {**ada, "password": PASSWORD},
        "ImportUsers": {"htpasswd": "bob:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n"},
        "CreateToken": {"name": "nightly", "scope": "read"},
        "ListTokens": {"user": "ada"},
        "RevokeToken": {"token_id": people.token("ada").id},
        "CreateAccessGroup": {"name": "climate", "description": "the climate people"},
        "ListAccessGroups": {},
        "GetAccessGroup": group,
        "DeleteAccessGroup": group,
        "AddMembers": {**group, "users": ["eve"]},
        "RemoveMember": {**group, "user_id": people.accounts["ada"]},
        "ListShares": of_wf,
        "ShareWorkflow": {**of_wf, **group},
        "UnshareWorkflow": {**of_wf, "access_group_id": people.groups["rita"]},
        "ListAudit": {},
    }


def cells_left(people: People) -> dict[str, Any]:
    found = people.torc.send(GetDemand(workflow_id=people.wf)).cells
    cells = [(cell.stage, cell.requirement_id) for cell in found]
    return {"cells": cells, "trigger": cells[:1]}


def content(people: People) -> bytes:
    file = io.BytesIO()
    write_export(people.torc, people.wf, file)
    return file.getvalue()


def machine(people: People) -> int:
    return first(people.torc, ListRemoteWorkers(workflow_id=people.wf))


def _proposed(people: People, starts: Any = None) -> Any:
    return people.torc.send(
        ProposeIntervention(
            workflow_id=people.wf, action="cancel_workflow", client="editor", starts=starts, shows="nothing"
        )
    )


def begun(people: People) -> str:
    """Begin a run by a plan; returns its token."""
    made = _proposed(people, "run")
    people.torc.send(
        ApplyIntervention(
            workflow_id=people.wf,
            token=made.token,
            action="cancel_workflow",
            client="editor",
            reason="agreed",
            agreed="user",
        )
    )
    return str(made.token)


def numbered(people: People, *, with_digest: bool = False) -> dict[str, Any]:
    made = _proposed(people)
    return {"intervention_id": made.id, **({"digest": made.digest} if with_digest else {})}


def proposed(people: People) -> dict[str, Any]:
    made = _proposed(people)
    return {"token": made.token, "action": made.action}
