"""Export a workflow from one store and import it into another."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from torc.api.base import LARGE, Request, Value, request
from torc.api.workflows import Workflow
from torc.spec.formats import Format


class ExportPage(Value):
    """Lines of the portable file of a workflow (`torc.api.export_format`)."""

    lines: list[str]
    num_rows: int = Field(description="how many of the lines are rows")
    cursor: str | None = Field(None, description="send it to get the next lines; absent on the last page")
    mark: str = Field(description="the same on all pages; if it differs, the workflow has changed: start over")


@request("GET", "/workflows/{workflow_id}/export", takes_long=True)
class ExportWorkflow(Request[ExportPage]):
    """Return everything that is stored about a workflow, page by page, in a form that other stores can import."""

    workflow_id: int
    limit: int = Field(5_000, ge=1, le=50_000, description="maximum number of rows")
    cursor: str | None = None


class SpecText(Value):
    """A spec."""

    format: Format
    text: str


@request("GET", "/workflows/{workflow_id}/spec", takes_long=True)
class ExportSpec(Request[SpecText]):
    """Return a spec that creates a workflow like this one, job by job, without any run history."""

    workflow_id: int
    format: Format = Format.YAML


@request("POST", "/workflows/import", access="write", largest_body=LARGE, takes_long=True)
class ImportWorkflow(Request[Workflow]):
    """Store an exported workflow with everything known about it, or nothing at all.

    The content is validated line by line and as a whole. Jobs that were running when it was exported run again.
    """

    content: str = Field(repr=False, description="the file, gzip, as base64")
    encoding: Literal["base64"] = "base64"
    name: str | None = Field(None, min_length=1, description="another name")
    directory: str | None = Field(None, min_length=1, description="another directory: absolute")
    dry_run: bool = Field(False, description="validate everything, but store nothing")
