"""Where results come from: the spec as it was written, and what runners ran on."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

from tests.support.workflows import NODE
from torc.api.provenance import Environment, GetProvenance, Surroundings
from torc.api.runs import RegisterRunner, StartRun
from torc.api.transfer import ImportWorkflow
from torc.api.workflows import CreateWorkflow, SourceFile
from torc.client.export_file import write_export
from torc.runner.host_info import surroundings

SPEC = "name: sweep  # as I like it\njobs:\n- {name: 'a{n}', command: echo, parameters: {n: '@n.txt'}}\n"


def create(torc: Any, spec: str = SPEC) -> int:
    files = [SourceFile(path="n.txt", text="1\n2\n")]
    return int(torc.send(CreateWorkflow(spec=spec, format="yaml", name="s.yaml", files=files, directory="/tmp")).id)


def register(torc: Any, workflow: int, found: Surroundings | None) -> int:
    place = {"host": "node1", "pid": 1, "process_started": "1", "boot_id": "b", "capacity": NODE}
    return int(torc.send(RegisterRunner(workflow_id=workflow, surroundings=found, **place)).id)


def test_a_spec_is_kept_as_it_was_written(torc: Any) -> None:
    spec = torc.send(GetProvenance(workflow_id=create(torc))).spec
    assert spec.text == SPEC and spec.name == "s.yaml" and spec.format == "yaml"
    assert spec.sha256 == hashlib.sha256(SPEC.encode()).hexdigest() and spec.size_bytes == len(SPEC)
    assert [(file.path, file.size_bytes) for file in spec.files] == [("n.txt", 4)]
    long = SPEC + "# " + "x" * (1 << 20)
    spec = torc.send(GetProvenance(workflow_id=create(torc, long))).spec
    assert spec.text is None and spec.sha256 == hashlib.sha256(long.encode()).hexdigest()


def test_environments_are_kept_once_and_runners_refer_to_them(torc: Any) -> None:
    workflow = create(torc)
    torc.send(StartRun(workflow_id=workflow))
    one, two = (Surroundings(environment=Environment(kernel=kernel), output_dir="/out") for kernel in ("6.1", "6.2"))
    runners = [register(torc, workflow, found) for found in (one, two, one, None)]
    found = torc.send(GetProvenance(workflow_id=workflow))
    assert [item.environment.kernel for item in found.environments] == ["6.1", "6.2"]
    first, second = (item.hash for item in found.environments)
    assert [(r.runner_id, r.environment) for r in found.runners] == list(
        zip(runners, [first, second, first, None], strict=True)
    )
    assert found.runners[0].output_dir == "/out" and found.runners[0].host == "node1" and found.num_runners == 4
    assert len(torc.send(GetProvenance(workflow_id=workflow, limit=2)).runners) == 2


def test_it_goes_along_when_a_workflow_moves(torc: Any) -> None:
    workflow = create(torc)
    torc.send(StartRun(workflow_id=workflow))
    register(torc, workflow, None)
    register(torc, workflow, Surroundings(environment=Environment(kernel="6.1"), output_dir="/out"))
    file = io.BytesIO()
    write_export(torc, workflow, file)
    moved = torc.send(ImportWorkflow(content=base64.b64encode(file.getvalue()).decode())).id
    before, after = (torc.send(GetProvenance(workflow_id=number)) for number in (workflow, moved))
    assert after.spec == before.spec and after.environments == before.environments
    assert [runner.output_dir for runner in after.runners] == [None, "/out"]
    assert after.runners[1].environment == before.runners[1].environment


def test_the_hash_changes_with_what_programs_find_and_not_from_login_to_login(tmp_path: Path) -> None:
    site = tmp_path / "env/lib/python3.11/site-packages"
    (site / "numpy-2.1.0.dist-info").mkdir(parents=True)
    base = {"PATH": "/bin", "OMP_NUM_THREADS": "4", "VIRTUAL_ENV": str(tmp_path / "env"), "LOADEDMODULES": "gcc/12:mpi"}
    first = surroundings(base, tmp_path)
    assert first.environment.packages == {"numpy": "2.1.0"} and first.environment.packages_of == "env"
    assert first.environment.modules == ["gcc/12", "mpi"] and first.environment.torc and first.environment.kernel
    assert surroundings({**base, "SSH_CLIENT": "x", "SLURM_JOB_ID": "7", "TERM": "dumb"}, tmp_path) == first
    assert surroundings({**base, "OMP_NUM_THREADS": "8"}, tmp_path).environment != first.environment
    assert "gcc" not in first.environment.variables_sha256 and len(first.environment.variables_sha256) == 64
    (site / "scipy-1.0.dist-info").mkdir()
    assert surroundings(base, tmp_path).environment != first.environment
