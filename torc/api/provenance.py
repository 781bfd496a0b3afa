"""Where the results of a workflow come from: the spec as written, and the environments of its runners."""

from __future__ import annotations

from pydantic import Field

from torc.api.base import Request, Value, request
from torc.spec.formats import Format


class Environment(Value):
    """The software that programs find on a machine, other than the workflow's files. Values of variables are hashed, never stored."""

    torc: str = Field("", description="version of Torc")
    python: str = Field("", description="version of the Python that runs Torc")
    system: str = Field("", description="operating system, its release, and the architecture")
    kernel: str = ""
    variables_sha256: str = Field(
        "", description="of the variables that jobs inherit, except those that differ between logins"
    )
    modules: list[str] = Field([], description="environment modules that were loaded")
    packages_of: str | None = Field(None, description="name of the active virtual or conda environment")
    packages: dict[str, str] = Field({}, description="its packages and their versions")
    container: str | None = Field(None, description="name of the image, in a container that reveals it")


class Surroundings(Value):
    """What a runner reports about its environment when it registers."""

    environment: Environment = Environment()
    output_dir: str | None = Field(None, description="where its logs are, on its machine")
    cpu: str | None = Field(None, description="model of the CPU")
    gpus: list[str] = Field([], description="models of the GPUs")


class RecordedEnvironment(Value):
    """An environment, stored once for all runners that share it."""

    hash: str = Field(description="first 16 hex digits of the SHA-256 of its JSON")
    environment: Environment


class RecordedRunner(Value):
    """Where a runner ran."""

    runner_id: int
    run_id: int
    host: str
    started_at: float
    environment: str | None = Field(description="hash of its environment")
    output_dir: str | None = None
    cpu: str | None = None
    gpus: list[str] = []


class SpecFile(Value):
    """A file that a spec references with `@`."""

    path: str
    size_bytes: int
    sha256: str


class WrittenSpec(Value):
    """A spec as its author wrote it."""

    name: str = Field(description="its file name, as given")
    format: Format | None
    size_bytes: int
    sha256: str
    text: str | None = Field(description="absent if it was too long to store")
    files: list[SpecFile] = []


class Provenance(Value):
    """Where results come from, as far as it was recorded."""

    workflow_id: int
    spec: WrittenSpec | None = Field(description="absent for workflows older than this record")
    environments: list[RecordedEnvironment]
    runners: list[RecordedRunner] = Field(description="oldest first, the last `limit`")
    num_runners: int


@request("GET", "/workflows/{workflow_id}/provenance")
class GetProvenance(Request[Provenance]):
    """Return the spec as written, and the environments of the workflow's runners."""

    workflow_id: int
    limit: int = Field(1000, ge=0, le=10_000, description="maximum number of runners")
