"""What a tool needs to answer one message: the Torc, the user, and the deployment's policy.

Each message gets a context before its tool runs (`open_context`); tools call `context()`. Access to the store is decided by the Torc
in the context.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torc.api.base import Torc
from torc.api.workflows import ListWorkflows, Workflow
from torc.client.workflow_lookup import find_workflow as named_workflow
from torc.errors import Conflict, Forbidden, NotFound
from torc.units import whole_number

PolicyName = Literal["read-only", "propose", "approve", "auto-within-budget"]
_LONGEST_CLIENT = 60


@dataclass(frozen=True, slots=True)
class AssistantPolicy:
    """What the deployment lets assistants do. The budget is shared by all of them, across workflows and sessions."""

    name: PolicyName = "propose"
    max_retries: int = 100
    max_node_hours: int = 1000


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The Torc and the circumstances of one message.

    `is_here`: the files and processes of this machine are the caller's own, so logs may be read and runs may be started here.
    `place`: the environment variables with which a started process finds the same store.
    """

    torc: Torc
    policy: AssistantPolicy = AssistantPolicy()
    client: str = "unknown client"
    user: str | None = None  # owner of what is created, if the Torc does not know
    is_here: bool = True
    output_dir: Path = Path("torc_output")
    directory: Path = field(default_factory=Path.cwd)
    place: Mapping[str, str] = field(default_factory=dict)


#: creates the context of a message, given the client and, if any, the HTTP request
MakeContext = Callable[[str, Any], ToolContext]

_CURRENT: ContextVar[Callable[[], ToolContext]] = ContextVar("context")


def open_context(opener: Callable[[], ToolContext]) -> Token[Callable[[], ToolContext]]:
    """Set how to open the context of this message, which happens on first use."""
    opened: list[ToolContext] = []

    def once() -> ToolContext:
        if not opened:
            opened.append(opener())
        return opened[0]

    return _CURRENT.set(once)


def close_context(token: Token[Callable[[], ToolContext]]) -> None:
    """Close the context of an answered message."""
    _CURRENT.reset(token)


def context() -> ToolContext:
    """Return the context of the current message."""
    return _CURRENT.get()()


def client_name(told: str) -> str:
    """Return the name of a client for the log: it is only the client's own claim."""
    plain = re.sub(r"[^A-Za-z0-9._ -]+", "", told).strip()
    return plain[:_LONGEST_CLIENT] or "unknown client"


def find_workflow(named: int | str) -> Workflow:
    """Find a workflow by id, or the newest with a name. Raises NotFound, with the nearest names."""
    torc = context().torc
    found = named_workflow(torc, named)
    if found is not None:
        return found
    if isinstance(named, int) or whole_number(named) is not None:
        raise NotFound(f"workflow_id: there is no workflow {named}", hint="list_workflows shows all")
    names = list(dict.fromkeys(workflow.name for workflow in torc.send(ListWorkflows(limit=200)).items))
    near = difflib.get_close_matches(named, names, 3, 0.4) or names[:3]
    raise NotFound(
        f"workflow_id: there is no workflow called {named!r}",
        hint=f"nearest: {', '.join(near)}; list_workflows shows all" if near else "create_workflow creates one",
    )


def require_here(what: str) -> None:
    """Refuse what only the owner of this machine's files and processes may do. Raises Forbidden."""
    if not context().is_here:
        raise Forbidden(
            f"{what} is only for the owner of the machine that this server runs on",
            hint="ask the user to run `torc` with --url on their own machine",
        )


def require_writes() -> AssistantPolicy:
    """Refuse changes if the deployment is read-only. Raises Forbidden."""
    policy = context().policy
    if policy.name == "read-only":
        raise Forbidden(
            "this deployment is read-only for assistants: nothing was changed",
            hint="only a person can change that (`[mcp] policy` in the configuration); tell the user what you would do",
        )
    return policy


def require_idle(workflow: Workflow, what: str) -> None:
    """Refuse what cannot be done while runners work on a workflow. Raises Conflict."""
    if workflow.state == "running":
        raise Conflict(
            f"workflow {workflow.id} is running: it cannot be {what} now",
            hint="wait_for_workflow waits for its end; cancel_workflow stops it",
        )
