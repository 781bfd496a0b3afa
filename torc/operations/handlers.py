"""The module that answers each request, so that a command imports only what it uses instead of a hundred modules.

A module of `torc.operations` answers the requests of the `torc.api` module with the same name, and those listed here. Importing all
of both took a third of a second at the start of each command (docs/design/019).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

from torc.api.base import Request

_ELSEWHERE: Final[Mapping[str, str]] = {
    request: module
    for module, requests in {
        "budget": "EstimateCost GetRecoverySpent",
        "requirements": (
            "ListRequirements GetRequirement CreateRequirement UpdateRequirement DeleteRequirement "
            "ListFailureHandlers GetFailureHandler CreateFailureHandler UpdateFailureHandler DeleteFailureHandler "
            "ListSchedulers UpdateScheduler "
            "ListSlurmSchedulers GetSlurmScheduler CreateSlurmScheduler UpdateSlurmScheduler DeleteSlurmScheduler"
        ),
        "creation": "CreateWorkflow",
        "data": "RecordFiles",
        "exchange": "Exchange",
        "graph": "GetGraph",
        "late_results": "DeliverResults",
        "access_groups": (
            "CreateAccessGroup ListAccessGroups GetAccessGroup DeleteAccessGroup AddMembers RemoveMember "
            "ListShares ShareWorkflow UnshareWorkflow ListAudit"
        ),
        "graph_summary": "OutlineWorkflow",
        "reinitialization": "ReinitializeWorkflow",
        "reset": "ResetWorkflow InitializeWorkflow CancelWorkflow ActOnJobs",
        "spec_export": "ExportSpec",
        "results": "ListResults GetResult ListAttempts",
        "pruning": "PruneWorkflows",
        "due_allocations": "ListDueScheduling ListWaitingJobs",
        "stage_totals": "GetStages",
        "summary": "SummarizeRun",
        "tokens": "CreateToken ListTokens RevokeToken",
    }.items()
    for request in requests.split()
}


def module_of(kind: type[Request[Any]]) -> str:
    """Name the module that answers a kind of request."""
    own = kind.__module__.rpartition(".")[2]
    return f"torc.operations.{_ELSEWHERE.get(kind.__name__, own)}"


def load(kind: type[Request[Any]]) -> None:
    """Import the module that answers a kind of request."""
    importlib.import_module(module_of(kind))
