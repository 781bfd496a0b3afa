"""The metadata of a run as RO-Crate 1.1 with the profiles of Workflow Run Crate 0.5, as JSON-LD. Files are written elsewhere.

https://www.researchobject.org/ro-crate/specification/1.1/ and https://www.researchobject.org/workflow-run-crate/profiles/
"""

from __future__ import annotations

import base64
import mimetypes
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from torc.api.data import File
from torc.errors import Invalid
from torc.redaction import cleaned, redact, redact_json
from torc.reports.report_data import ReportData

Entity = dict[str, Any]
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
#: defined by https://w3id.org/ro/terms/workflow-run, but not in the context of RO-Crate 1.1
_OWN_TERMS = {name: f"https://w3id.org/ro/terms/workflow-run#{name}" for name in ("environment", "sha256")}
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_NO_LICENSE = "No license was given: ask the authors before use."
_LANGUAGE, _AUTHOR, _ACTION = "#torc-spec", "#author", "#run"
_ENDED = {"completed": "CompletedActionStatus"}
_MOST_ENVIRONMENT = 200
_ORCID = re.compile(r"(?:https?://orcid\.org/)?((?:[0-9]{4}-){3}[0-9]{3}[0-9Xx])/?")


@dataclass(frozen=True, slots=True)
class CrateFile:
    """A file in the crate. `stored`: the workflow's file of which it is a copy."""

    path: str
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    stored: File | None = None


@dataclass(frozen=True, slots=True)
class About:
    """Information about the crate from its author."""

    license: str | None = None
    author: str | None = None
    orcid: str | None = None


def orcid_of(text: str) -> str:
    """Return the URL of an ORCID iD after verifying its check digit (ISO 7064, MOD 11-2). Raises Invalid."""
    found = _ORCID.fullmatch(text.strip())
    digits = found[1].replace("-", "").upper() if found else ""
    total = 0
    for digit in digits[:-1]:
        total = (total + int(digit)) * 2
    if not digits or "0123456789X"[(12 - total % 11) % 11] != digits[-1]:
        raise Invalid(f"{text} is not an ORCID iD", hint="such as https://orcid.org/0000-0002-1825-0097")
    return "https://orcid.org/" + "-".join(digits[at : at + 4] for at in range(0, 16, 4))


def metadata(report: ReportData, workflow_path: str, parts: Sequence[CrateFile], about: About) -> dict[str, Any]:
    """Return the content of ro-crate-metadata.json."""
    copies = {part.stored.id: part for part in parts if part.stored is not None}
    inputs = [_data(file, copies) for file in report.inputs]
    outputs = [_data(file, copies) for file in report.outputs]
    parameters = [
        *(_parameter(file, data, "input") for file, data in zip(report.inputs, inputs, strict=True)),
        *(_parameter(file, data, "output") for file, data in zip(report.outputs, outputs, strict=True)),
    ]
    environment = _environment(report)
    files = [_file(part) for part in parts if part.stored is None and part.path != workflow_path]
    main = next(part for part in parts if part.path == workflow_path)
    graph: list[Entity] = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": [
                {"@id": "https://w3id.org/ro/crate/1.1"},
                {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"},
            ],
        },
        _root(report, [*files, *inputs, *outputs], workflow_path, about),
        _workflow(report, main, parameters),
        _action(report, workflow_path, inputs, outputs, environment, about),
        {
            "@id": _LANGUAGE,
            "@type": "ComputerLanguage",
            "name": "Torc workflow specification",
            "version": report.version,
        },
        _author(report, about),
        *(
            {"@id": url, "@type": "CreativeWork", "name": name, "version": version}
            for url, (name, version) in _PROFILES.items()
        ),
        *files,
        *inputs,
        *outputs,
        *parameters,
        *environment,
    ]
    if about.license is not None and "://" in about.license:
        graph.append({"@id": about.license, "@type": "CreativeWork", "name": about.license, "url": about.license})
    known: dict[str, Entity] = {}
    for entity in graph:
        known.setdefault(entity["@id"], {name: _single(value) for name, value in entity.items()})
    return {"@context": [CONTEXT, _OWN_TERMS], "@graph": list(known.values())}


def _root(report: ReportData, data: Sequence[Entity], workflow_path: str, about: About) -> Entity:
    workflow = report.summary.workflow
    named = about.license
    license_: Any = {"@id": named} if named is not None and "://" in named else named or _NO_LICENSE
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"{_text(workflow.name)}: run {workflow.run_id}",
        "description": _text(workflow.description or f"A run of the workflow {workflow.name} by Torc."),
        "datePublished": _time(report.made_at),
        "license": license_,
        "author": {"@id": _author_id(about)},
        "conformsTo": [{"@id": url} for url in _PROFILES],
        "hasPart": _references([{"@id": _address(workflow_path)}, *(item for item in data if item["@type"] == "File")]),
        "mainEntity": {"@id": _address(workflow_path)},
        "mentions": [{"@id": _ACTION}],
    }


def _workflow(report: ReportData, main: CrateFile, parameters: Sequence[Entity]) -> Entity:
    workflow = report.summary.workflow
    return {
        **_file(main),
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": _text(workflow.name),
        "description": _text(workflow.description or f"{report.num_jobs:,} jobs"),
        "programmingLanguage": {"@id": _LANGUAGE},
        "version": str(workflow.version),
        "conformsTo": {"@id": "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"},
        "input": _references([item for item in parameters if item["@id"].startswith("#input")]),
        "output": _references([item for item in parameters if item["@id"].startswith("#output")]),
    }


def _action(
    report: ReportData,
    workflow_path: str,
    inputs: Sequence[Entity],
    outputs: Sequence[Entity],
    environment: Sequence[Entity],
    about: About,
) -> Entity:
    workflow, summary = report.summary.workflow, report.summary
    counts = ", ".join(f"{count:,} {state.value}" for state, count in sorted(workflow.counts.by_state.items()))
    hosts = len({runner.host for runner in report.provenance.runners if runner.run_id == workflow.run_id})
    made: Entity = {
        "@id": _ACTION,
        "@type": "CreateAction",
        "name": f"Run {workflow.run_id} of {_text(workflow.name)}",
        "description": f"{counts}; {summary.num_attempts:,} attempts on {hosts} machines, {summary.cpu_seconds:.0f} s of CPU time",
        "instrument": {"@id": _address(workflow_path)},
        "agent": {"@id": _author_id(about)},
        "object": _references(inputs),
        "result": _references(outputs) or [{"@id": "report.html"}],
    }
    if workflow.started_at is not None:
        made["startTime"] = _time(workflow.started_at)
    if workflow.ended_at is not None:
        made["endTime"] = _time(workflow.ended_at)
        made["actionStatus"] = f"http://schema.org/{_ENDED.get(workflow.state, 'FailedActionStatus')}"
        if workflow.state != "completed":
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in report.diagnoses.by_category.items())
            made["error"] = _text(f"{report.diagnoses.num_failed:,} jobs failed: {kinds}" if kinds else workflow.state)
    if environment:
        made["environment"] = _references(environment)
    return made


def _author(report: ReportData, about: About) -> Entity:
    return {"@id": _author_id(about), "@type": "Person", "name": _text(about.author or report.summary.workflow.user)}


def _author_id(about: About) -> str:
    return about.orcid or _AUTHOR


def _environment(report: ReportData) -> list[Entity]:
    """Return the variables that the spec sets, and the hashes of the runners' environments."""
    variables: Mapping[str, str] = redact_json(dict(report.summary.workflow.env))
    facts = [
        *sorted(variables.items()),
        *(("torc-environment-hash", item.hash) for item in report.provenance.environments),
    ]
    return [
        {"@id": f"#environment-{number}", "@type": "PropertyValue", "name": name, "value": _text(value)}
        for number, (name, value) in enumerate(facts[:_MOST_ENVIRONMENT], 1)
    ]


# -- files ------------------------------------------------------------------------------------------------------


def _data(file: File, copies: Mapping[int, CrateFile]) -> Entity:
    """Return a file of the run: in the crate, or elsewhere by its hash (RFC 6920), or by its path if nothing is known."""
    made: Entity = {"name": _text(file.path), "exampleOfWork": {"@id": f"#{_side(file)}-{file.id}"}}
    if (part := copies.get(file.id)) is not None:
        return _file(part) | made
    if file.sha256 is not None and file.size_bytes is not None:
        digest = base64.urlsafe_b64encode(bytes.fromhex(file.sha256)).decode().rstrip("=")
        found = {
            "@id": f"ni:///sha-256;{digest}",
            "@type": "File",
            "contentSize": str(file.size_bytes),
            "sha256": file.sha256,
            "encodingFormat": media_type(file.path),
        }
        return {**found, **made, "description": "not in this crate; its identifier is its content's hash"}
    return {"@id": f"#file-{file.id}", "@type": "PropertyValue", "value": _text(file.path), **made}


def media_type(path: str) -> str:
    """Return the media type of a file, guessed from its name."""
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def _side(file: File) -> str:
    return "input" if file.producer is None else "output"


def _parameter(file: File, data: Entity, side: str) -> Entity:
    return {
        "@id": f"#{side}-{file.id}",
        "@type": "FormalParameter",
        "name": _text(file.name),
        "workExample": {"@id": data["@id"]},
        "additionalType": "File" if data["@type"] == "File" else "Text",
        "conformsTo": {"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"},
    }


def _file(part: CrateFile) -> Entity:
    made: Entity = {
        "@id": _address(part.path),
        "@type": "File",
        "name": _text(part.name),
        "encodingFormat": part.media_type,
        "contentSize": str(part.size_bytes),
        "sha256": part.sha256,
    }
    if part.path == "README.md":
        made["about"] = {"@id": "./"}
    return made


def _single(value: Any) -> Any:
    """Return the item of a one-element list, as JSON-LD compacts it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _references(entities: Sequence[Entity]) -> list[Entity]:
    return [{"@id": name} for name in dict.fromkeys(entity["@id"] for entity in entities)]


def _address(path: str) -> str:
    return quote(path)


def _text(text: str) -> str:
    return cleaned(redact(text))


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(seconds))
