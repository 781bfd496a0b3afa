"""Where the results of a workflow come from: the spec as it was written, and on what its runners ran."""

from __future__ import annotations

from pydantic import Field

from torc.api.base import Request, Value, request
from torc.spec.formats import Format


class Environment(Value):
    """What programs find on a machine, beside the files of the workflow. Values of variables are hashed, never kept."""

    torc: str = Field("", description="version of Torc")
    python: str = Field("", description="version of the Python that Torc ran with")
    system: str = Field("", description="operating system, its release, and the architecture")
    kernel: str = ""
    variables_sha256: str = Field(
        "", description="of the variables that jobs inherit, but for those that differ from login to login"
    )
    modules: list[str] = Field([], description="environment modules that were loaded")
    packages_of: str | None = Field(None, description="the virtual or conda environment that was active, by its name")
    packages: dict[str, str] = Field({}, description="packages of it, with their versions")
    container: str | None = Field(None, description="name of the image, in a container that tells it")


class Surroundings(Value):
    """What a runner tells of where it runs, when it registers."""

    environment: Environment = Environment()
    output_dir: str | None = Field(None, description="where its logs are, on its machine")
    cpu: str | None = Field(None, description="model of the CPU")
    gpus: list[str] = Field([], description="models of the GPUs")


class RecordedEnvironment(Value):
    """An environment, once for all runners that had the same."""

    hash: str = Field(
        description="first 16 hexadecimal digits of the SHA-256 of its JSON: equal for equal environments"
    )
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
    """A file that a spec refers to by `@`."""

    path: str
    size_bytes: int
    sha256: str


class WrittenSpec(Value):
    """A spec as its author wrote it."""

    name: str = Field(description="its file, as it was named")
    format: Format | None
    size_bytes: int
    sha256: str
    text: str | None = Field(description="absent where it was too long to keep")
    files: list[SpecFile] = []


class Provenance(Value):
    """Where results come from, as far as it was recorded."""

    workflow_id: int
    spec: WrittenSpec | None = Field(description="absent of workflows from before this was kept")
    environments: list[RecordedEnvironment]
    runners: list[RecordedRunner] = Field(description="oldest first, the last `limit`")
    num_runners: int


@request("GET", "/workflows/{workflow_id}/provenance")
class GetProvenance(Request[Provenance]):
    """Return the spec as it was written, and the environments that runners of the workflow ran in."""

    workflow_id: int
    limit: int = Field(1000, ge=0, le=10_000, description="at most so many runners")
