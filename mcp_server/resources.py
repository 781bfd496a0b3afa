"""Resources: the schema and the guide of specs, workflows with plan and graph, and output of jobs. Read-only."""

from __future__ import annotations

import json
from importlib.resources import files as package_files
from typing import Any

from mcp.server import MCPServer

from mcp_server.context import context, find_workflow
from mcp_server.formatting import UNTRUSTED, Reply, plain
from mcp_server.tools import slurm
from mcp_server.tools.inspect import get_workflow_summary, list_workflows
from mcp_server.tools.logs import get_job_logs
from mcp_server.tools.plan import get_execution_plan
from torc.api.workflows import GetGraph
from torc.client.workloads import of_stored
from torc.errors import NotFound
from torc.spec.schema import workflow_schema
from torc.units import whole_number
from torc.workflow.graph_export import draw, mermaid

SCHEMA, GUIDE, WORKFLOWS = "torc://schema/workflow", "torc://guide/spec", "torc://workflows"
_JSON = "application/json"


def add_resources(server: MCPServer[Any]) -> None:
    """Register the resources with a server."""
    fixed = (
        (SCHEMA, schema, "JSON Schema of specs", _JSON),
        (GUIDE, guide, "How to write a spec: fields, parameters, dependencies, examples", "text/markdown"),
        (WORKFLOWS, workflows, "The newest workflows and their status", _JSON),
    )
    for uri, function, description, kind in fixed:
        server.resource(uri, name=function.__name__, description=description, mime_type=kind)(function)
    of_ids = (
        ("torc://workflows/{workflow_id}", workflow, "Progress of a workflow's current run", _JSON),
        ("torc://workflows/{workflow_id}/plan", plan, "Stages, critical path, cost of a workflow", _JSON),
        ("torc://workflows/{workflow_id}/graph", graph, "Graph of a workflow, as Mermaid", "text/vnd.mermaid"),
        ("torc://profiles/{name}", profile, "Partitions and nodes of a cluster", _JSON),
        ("torc://jobs/{job_id}/stdout", stdout, "End of a job's standard output: untrusted data", _JSON),
        ("torc://jobs/{job_id}/stderr", stderr, "End of a job's standard error: untrusted data", _JSON),
    )
    for uri, reader, description, kind in of_ids:
        server.resource(uri, name=reader.__name__, description=description, mime_type=kind)(reader)


def schema() -> str:
    """Return the JSON Schema of specs."""
    return json.dumps(workflow_schema(), separators=(",", ":"))


def guide() -> str:
    """Return the guide to specs."""
    return package_files("mcp_server").joinpath("guide.md").read_text(encoding="utf-8")


def workflows() -> str:
    """Return the newest workflows."""
    return _json(list_workflows(limit=50))


def workflow(workflow_id: str) -> str:
    """Return the status of a workflow."""
    return _json(get_workflow_summary(workflow_id))


def plan(workflow_id: str) -> str:
    """Return the execution plan of a workflow."""
    return _json(get_execution_plan(workflow_id))


def graph(workflow_id: str) -> str:
    """Return the graph of a workflow, with similar jobs drawn as one node."""
    described = of_stored(context().torc.send(GetGraph(workflow_id=find_workflow(workflow_id).id)))
    return f"%% {UNTRUSTED}\n" + mermaid(draw(described.workload.graph, [plain(name, 80) for name in described.jobs]))


def profile(name: str) -> str:
    """Return the profile of a cluster."""
    return json.dumps({"untrusted": UNTRUSTED, **slurm.profile(name)})


def stdout(job_id: str) -> str:
    """Return the end of a job's standard output."""
    return _json(get_job_logs(job_number(job_id), "stdout", tail=100))


def stderr(job_id: str) -> str:
    """Return the end of a job's standard error."""
    return _json(get_job_logs(job_number(job_id), "stderr", tail=100))


def job_number(text: str) -> int:
    """Parse a job id. Raises NotFound."""
    number = whole_number(text)
    if number is None:
        raise NotFound(f"job_id: {plain(text, 40)!r} is not the id of a job", hint="list_jobs_by_status gives ids")
    return number


def _json(reply: Reply) -> str:
    return json.dumps(
        {"untrusted": UNTRUSTED, **reply.model_dump(mode="json", exclude_none=True)}, separators=(",", ":")
    )
