"""Machines on which a workflow has workers over SSH. Whether anything is running there is checked by `torc.remote`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from torc.api.base import Page, Request, Value, request
from torc.ssh_destination import parse_destination

MOST_WORKERS = 10_000
_LINE = r"^[^\x00-\x1f\x7f]+$"


def _is_destination(text: str) -> str:
    return str(parse_destination(text))


def _is_no_option(text: str) -> str:
    if text.startswith("-"):
        raise ValueError("it must not start with `-`")
    return text


Host = Annotated[str, AfterValidator(_is_destination)]
FarPath = Annotated[str, StringConstraints(pattern=_LINE, max_length=4096), AfterValidator(_is_no_option)]
LabelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,255}$")]


class NewRemoteWorker(Value):
    """A machine, and how a runner starts there. Omitted values are detected on that machine."""

    host: Host = Field(description="[user@]host[:port]; an IPv6 address in brackets; or an alias of ssh_config")
    torc: FarPath | None = Field(
        None, description="path of the program there; default: `torc` in PATH, or ~/.local/bin/torc"
    )
    directory: FarPath | None = Field(None, description="where jobs run; default: the directory of the workflow")
    output_dir: FarPath | None = Field(None, description="for logs; default: torc_output in that directory")
    num_cpus: int | None = Field(None, ge=1, le=2**31 - 1)
    memory_bytes: int | None = Field(None, ge=1, le=2**63 - 1)
    num_gpus: int | None = Field(None, ge=0, le=2**31 - 1)
    max_parallel_jobs: int | None = Field(None, ge=1, le=2**31 - 1)
    labels: dict[LabelName, LabelValue] = Field({}, description="labels of the runner")


class RemoteWorker(NewRemoteWorker):
    """A machine stored with a workflow."""

    id: int
    workflow_id: int


@request("GET", "/workflows/{workflow_id}/remote-workers")
class ListRemoteWorkers(Request[Page[RemoteWorker]]):
    """List the machines on which a workflow has workers."""

    workflow_id: int
    name: str | None = Field(None, description="host, exact or with `*` and `?`")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = None


@request("POST", "/workflows/{workflow_id}/remote-workers", access="write")
class AddRemoteWorkers(Request[list[RemoteWorker]]):
    """Add machines: all of them, or none if one exists already. With `replace`, existing ones are updated."""

    workflow_id: int
    workers: list[NewRemoteWorker] = Field(min_length=1, max_length=MOST_WORKERS)
    replace: bool = False

    @model_validator(mode="after")
    def _each_once(self) -> Any:
        seen: set[str] = set()
        for worker in self.workers:
            if worker.host in seen:
                raise ValueError(f"`{worker.host}` is named twice")
            seen.add(worker.host)
        return self


@request("DELETE", "/workflows/{workflow_id}/remote-workers/{worker_id}", access="write")
class RemoveRemoteWorker(Request[None]):
    """Remove a machine from the list. What is running there continues."""

    workflow_id: int
    worker_id: int
