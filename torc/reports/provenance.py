"""The parts of a report page that say where results come from: files, spec, versions, machines, environments."""

from __future__ import annotations

from pathlib import PurePath

from torc.api.data import File
from torc.api.provenance import RecordedEnvironment
from torc.reports.html import code, folded, listing, pairs, safe, size, span, table, when
from torc.reports.report_data import ReportData

_LONGEST_SPEC = 200_000
_HOW_HASHED = (
    "The environment hash is the first 16 digits of the SHA-256 over: the versions of Torc and Python, the system and its "
    "kernel, the environment modules that were loaded, the packages of the active environment, the container's name, and a hash of "
    "the variables that jobs inherit but for those that differ from login to login. Equal hashes: programs found the same."
)


def files(report: ReportData) -> str:
    """Write what the run read and wrote, with hashes where they are known."""
    parts = [_files("Inputs: files that no job writes", report.inputs), _files("Files that jobs write", report.outputs)]
    return "".join(part for part in parts if part)


def _files(caption: str, found: tuple[File, ...]) -> str:
    if not found:
        return ""
    has_writers = any(file.producer for file in found)
    rows = [
        [
            code(file.path),
            *([safe(file.producer or "")] if has_writers else []),
            size(file.size_bytes),
            code(file.sha256) if file.sha256 else "",
        ]
        for file in found
    ]
    return table(caption, ["path", *(["written by"] if has_writers else []), "#size", "SHA-256"], rows)


def provenance(report: ReportData) -> str:
    """Write spec, versions, machines and environments."""
    workflow, found = report.summary.workflow, report.provenance
    spec = found.spec
    versions = sorted({item.environment.torc for item in found.environments if item.environment.torc})
    hosts = sorted({runner.host for runner in found.runners if runner.run_id == workflow.run_id})
    facts = [
        ("spec", f"{code(PurePath(spec.name).name)}, {spec.size_bytes:,} bytes" if spec else "not recorded"),
        ("SHA-256 of the spec", code(spec.sha256) if spec else ""),
        (
            "files it refers to",
            ", ".join(f"{code(file.path)} {code(file.sha256[:16])}" for file in spec.files) if spec else "",
        ),
        ("changed since", f"by hand or by tools, {workflow.version - 1:,} times" if workflow.version > 1 else ""),
        ("Torc", safe(", ".join(versions) or report.version)),
        ("machines", _some([safe(host) for host in hosts])),
        ("environment", ", ".join(code(item.hash) for item in found.environments) or "not recorded"),
        ("project", safe(workflow.project or "")),
        ("run took", span(report.summary.wall_seconds)),
    ]
    parts = [pairs(facts), f'<p class="soft">{_HOW_HASHED}</p>' if found.environments else ""]
    parts += [_environment(item) for item in found.environments]
    parts += [_runners(report), _allocations(report)]
    if spec is not None and spec.text is not None:
        parts.append(folded("The spec as written", listing(spec.text, _LONGEST_SPEC)))
    if report.resolved_spec is not None:
        parts.append(folded("The spec as resolved, job by job", listing(report.resolved_spec, _LONGEST_SPEC)))
    return "".join(parts)


def _some(items: list[str], most: int = 20) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _environment(item: RecordedEnvironment) -> str:
    found = item.environment
    packages = ", ".join(f"{safe(name)} {safe(version)}" for name, version in found.packages.items())
    return folded(
        f"Environment {item.hash}",
        pairs(
            [
                ("system", safe(found.system)),
                ("kernel", safe(found.kernel)),
                ("Python of Torc", safe(found.python)),
                ("container", safe(found.container or "")),
                ("modules", safe(", ".join(found.modules))),
                ("packages of", safe(found.packages_of or "")),
                (f"{len(found.packages):,} packages", packages),
                ("hash of variables", code(found.variables_sha256)),
            ]
        ),
    )


def _runners(report: ReportData) -> str:
    run = report.summary.workflow.run_id
    shown = [runner for runner in report.provenance.runners if runner.run_id == run]
    has_gpus = any(runner.gpus for runner in shown)
    rows = [
        [
            str(runner.runner_id),
            safe(runner.host),
            safe(runner.cpu or ""),
            *([safe(", ".join(runner.gpus))] if has_gpus else []),
            when(runner.started_at),
            code(runner.environment) if runner.environment else "",
        ]
        for runner in shown
    ]
    header = ["#id", "machine", "CPU", *(["GPUs"] if has_gpus else []), "began", "environment"]
    return table("Runners of this run", header, rows) if rows else ""


def _allocations(report: ReportData) -> str:
    run = report.summary.workflow.run_id
    rows = [
        [
            safe(found.cluster_job_id or ""),
            safe(found.partition or ""),
            str(found.num_nodes),
            safe(found.cluster_state or found.state),
            when(found.started_at),
            span(found.ended_at - found.started_at) if found.started_at and found.ended_at else "",
            f"{found.node_seconds_used / 3600:.2f}",
        ]
        for found in report.allocations
        if found.run_id == run
    ]
    header = ["Slurm job", "partition", "#nodes", "state", "began", "#took", "#node-hours"]
    return table("Allocations of this run", header, rows) if rows else ""
