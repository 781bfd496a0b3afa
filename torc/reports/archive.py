"""Write a run as an RO-Crate, a folder or a ZIP: spec, report, a table of all attempts, environments, and data up to a size."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from torc.api.data import File
from torc.errors import Invalid, Unavailable
from torc.files import whole_file
from torc.redaction import cleaned, redact, redact_json
from torc.reports.html_report import page
from torc.reports.report_data import ReportData
from torc.reports.ro_crate import About, CrateFile, media_type, metadata
from torc.spec.formats import Format

_COLUMNS = (
    "job_id",
    "job_name",
    "attempt",
    "run_id",
    "requirement",
    "state",
    "return_code",
    "why",
    "runner_id",
    "started_at",
    "ended_at",
    "wall_seconds",
    "cpu_seconds",
    "peak_memory_bytes",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Content:
    """The content of a part: bytes, or a file to copy."""

    part: CrateFile
    data: bytes = b""
    source: Path | None = None


def write_crate(report: ReportData, output: Path, about: About, most_bytes: int) -> int:
    """Write the crate: a ZIP if `output` ends in .zip, otherwise a new folder. Includes files of the run up to `most_bytes`.

    Returns the number of its files. Raises Invalid or Unavailable, leaving nothing partial behind.
    """
    contents = list(_contents(report, most_bytes))
    described = metadata(report, contents[0].part.path, [content.part for content in contents], about)
    text = json.dumps(described, indent=2, ensure_ascii=False).encode("utf-8", "replace")
    contents.append(_Content(CrateFile("ro-crate-metadata.json", "", "", len(text), ""), text))
    if output.suffix.lower() == ".zip":
        _write_zip(contents, output)
    else:
        _write_folder(contents, output)
    return len(contents)


def _contents(report: ReportData, most_bytes: int) -> Iterator[_Content]:
    """Yield everything except the metadata, the workflow first."""
    spec = report.provenance.spec
    written = spec is not None and spec.text is not None and spec.format is not None
    if spec is not None and spec.text is not None:
        kind = spec.format or Format.YAML
        yield _made(f"workflow.{kind}", "The spec as written", kind.media_type, redact(spec.text))
    if report.resolved_spec is not None:
        name = "workflow-resolved.yaml" if spec is not None and spec.text is not None else "workflow.yaml"
        yield _made(name, "The spec as resolved, job by job", Format.YAML.media_type, redact(report.resolved_spec))
    elif not written and (spec is None or spec.text is None):
        raise Invalid(
            f"the spec of workflow {report.summary.workflow.id} is not stored, and the workflow has too many jobs to generate it",
            hint="an RO-Crate of a workflow run requires it: torc workflows export ID --spec generates it from the store",
        )
    yield _made("README.md", "About this crate", "text/markdown", _readme(report))
    yield _made("report.html", "Report of the run", "text/html", page(report, with_attempts=True))
    yield _made("attempts.csv", "All attempts, with what they used", "text/csv", _table(report))
    for item in report.provenance.environments:
        told = json.dumps(redact_json(item.model_dump(mode="json")), indent=2) + "\n"
        yield _made(f"environments/{item.hash}.json", f"Environment {item.hash}", "application/json", told)
    taken: set[str] = set()
    for file in (*report.inputs, *report.outputs):
        copied = _copied(file, Path(report.summary.workflow.directory), most_bytes, taken)
        if copied is not None:
            yield copied


def _as_markdown(text: str) -> str:
    """Write text of others so that Markdown shows it as it is: no tags, no links, nothing that a terminal obeys."""
    return re.sub(r"[\\`*_{}\[\]<>()#|&~!]", r"\\\g<0>", cleaned(redact(text)))


def _readme(report: ReportData) -> str:
    workflow = report.summary.workflow
    name = _as_markdown(workflow.name).replace("\n", " ")
    return (
        f"# {name}: run {workflow.run_id}\n\n{_as_markdown(workflow.description or 'A run of a workflow.')}\n\n"
        "- `report.html`: how the run went, and where its results come from; open it in a browser.\n"
        "- `workflow.*`: the spec as it was written; `workflow-resolved.yaml`: job by job.\n"
        "- `attempts.csv`: when each job ran, and what it used.\n- `environments/`: the software environments of the runners.\n"
        "- `data/`: inputs and outputs; `ro-crate-metadata.json` has the hashes of those not included.\n\n"
        f"Written by Torc {report.version}. Run the workflow again with `torc run` and the spec, in a folder with the inputs.\n"
    )


def _made(path: str, name: str, kind: str, text: str) -> _Content:
    data = text.encode("utf-8", "replace")
    return _Content(CrateFile(path, name, kind, len(data), hashlib.sha256(data).hexdigest()), data)


def _table(report: ReportData) -> str:
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for line in report.attempts:
        fields = line.model_dump(mode="json")
        writer.writerow([_cell(fields[name]) for name in _COLUMNS])
    return made.getvalue()


def _cell(value: object) -> object:
    """Keep spreadsheets from interpreting text as a formula."""
    if not isinstance(value, str):
        return value
    text = redact(value)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _copied(file: File, directory: Path, most_bytes: int, taken: set[str]) -> _Content | None:
    """Return a file of the run, if it is present, small enough and unchanged."""
    source = directory / file.path
    try:
        if not source.is_file() or source.stat().st_size > most_bytes:
            return None
        if source.is_symlink() and not source.resolve().is_relative_to(directory.resolve()):
            return None  # a job may have created a link to something private there
        with open(source, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        size = source.stat().st_size
    except OSError:
        return None
    if file.sha256 is not None and digest != file.sha256:
        return None  # changed since the run: the content that was read or written no longer exists
    place = _inside(file)
    if place in taken:
        return None
    taken.add(place)
    return _Content(CrateFile(place, file.path, media_type(place), size, digest, stored=file), source=source)


def _inside(file: File) -> str:
    """Return a path inside the crate, whatever the file's path is."""
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return f"data/{file.id}-{path.name or 'file'}"
    return f"data/{path}"


def _pour(content: _Content, target: IO[bytes]) -> None:
    """Write the bytes, but only if they match the digest in the metadata. Raises Unavailable or OSError."""
    if content.source is None:
        target.write(content.data)
        return
    digest = hashlib.sha256()
    for chunk in _chunks(content.source):
        digest.update(chunk)
        target.write(chunk)
    if digest.hexdigest() != content.part.sha256:
        raise Unavailable(
            f"{content.source} changed while it was being packed", hint="try again when nothing writes to it"
        )


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}", hint="try again, or look at the file") from None


def _write_zip(contents: list[_Content], output: Path) -> None:
    with whole_file(output) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for content in contents:
            info = zipfile.ZipInfo(content.part.path, _EPOCH)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as target:
                _pour(content, target)


def _write_folder(contents: list[_Content], output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise Invalid(f"{output} already exists", hint="choose a new folder, or a file that ends in .zip")
    if not output.absolute().parent.is_dir():
        raise Invalid(f"there is no directory {output.absolute().parent}", hint="create it, or choose another place")
    made = None
    try:
        made = tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.absolute().parent)
        os.chmod(made, 0o755)
        for content in contents:
            path = Path(made, content.part.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as target:
                _pour(content, target)
        with contextlib.suppress(FileNotFoundError):
            output.rmdir()
        os.rename(made, output)
    except OSError as error:
        raise Unavailable(f"cannot write {output}: {error.strerror}", hint="check the folder and its disk") from None
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
