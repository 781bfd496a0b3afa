"""The RO-Crate validator without a network: its cache is filled with the terms of RO-Crate 1.1 that our crates use."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests_cache import CachedSession
from urllib3 import HTTPResponse

from torc.reports.ro_crate import CONTEXT

_SCHEMA = [
    "about",
    "additionalType",
    "agent",
    "author",
    "actionStatus",
    "contentSize",
    "CreateAction",
    "CreativeWork",
    "ComputerLanguage",
    "Dataset",
    "datePublished",
    "description",
    "encodingFormat",
    "endTime",
    "error",
    "exampleOfWork",
    "hasPart",
    "identifier",
    "instrument",
    "license",
    "mainEntity",
    "mentions",
    "name",
    "object",
    "Person",
    "programmingLanguage",
    "PropertyValue",
    "result",
    "SoftwareSourceCode",
    "startTime",
    "url",
    "value",
    "version",
    "workExample",
]
#: https://www.researchobject.org/ro-crate/specification/1.1/context.jsonld, as far as it is used
TERMS = {name: f"http://schema.org/{name}" for name in _SCHEMA} | {
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}


class _Served(BaseAdapter):
    """Answers with the terms."""

    def send(self, request: Any, **_: Any) -> requests.Response:
        body = BytesIO(json.dumps({"@context": TERMS}).encode())
        raw = HTTPResponse(body, {"Content-Type": "application/ld+json"}, 200, preload_content=False)
        return requests.adapters.HTTPAdapter().build_response(request, raw)

    def close(self) -> None:
        pass


def validate(crate: Path, cache: Path) -> list[dict[str, Any]]:
    """Validate a crate with all that is required and recommended of a Workflow Run Crate; returns what it does not hold."""
    with CachedSession(str(cache), backend="sqlite") as session:
        session.mount("https://", _Served())
        session.get(CONTEXT, headers={"Accept": "application/ld+json, application/json;q=0.9, */*;q=0.1"})
    program = str(Path(sys.executable).with_name("rocrate-validator"))
    command = (
        [program] if Path(program).exists() else [sys.executable, "-c", "from rocrate_validator.cli import cli; cli()"]
    )
    done = subprocess.run(
        [
            *command,
            "validate",
            "--offline",
            "--cache-path",
            str(cache),
            "-p",
            "workflow-run-crate-0.5",
            "-l",
            "recommended",
            "-f",
            "json",
            "-o",
            str(cache.with_suffix(".json")),
            str(crate),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    told = json.loads(cache.with_suffix(".json").read_text())
    assert "issues" in told, done.stderr
    return list(told["issues"])
