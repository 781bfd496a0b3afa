"""Rules of the codebase that ruff and import-linter cannot check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import torc
from torc.planning.scheduler_types import SCHEDULER_TYPES

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for path in [*ROOT.glob("torc/**/*.py"), *ROOT.glob("mcp_server/**/*.py")]
    if "migrations/versions" not in str(path)  # written by Alembic
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_import_is_hidden_from_the_layers() -> None:
    assert [name(path) for path in SOURCES if "TYPE_CHECKING" in path.read_text(encoding="utf-8")] == []


def test_the_package_exposes_what_it_says() -> None:
    for exported in torc.__all__:
        assert getattr(torc, exported) is not None
    with pytest.raises(AttributeError):
        _ = torc.nothing_of_that_name


#: what may know Slurm: its package, its commands and tools, and the records in which a scheduler is entered
OF_SLURM = ("torc/schedulers/slurm/", "torc/cli/commands/slurm", "torc/cli/commands/hpc", "mcp_server/tools/slurm.py")
RECORDS = {
    "torc/planning/scheduler_types.py",
    "torc/schedulers/registry.py",
    "torc/spec/model.py",
    "torc/cli/main.py",
    "torc/operations/requirements.py",  # the requests about Slurm schedulers alone
}


def test_nothing_outside_of_a_scheduler_decides_by_its_name() -> None:
    found = []
    for path in SOURCES:
        if name(path).startswith(OF_SLURM):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in SCHEDULER_TYPES and name(path) not in RECORDS:
                found.append(f"{name(path)}:{node.lineno}: ask the registry, or the record of its type")
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torc.schedulers.slurm"):
                found.append(f"{name(path)}:{node.lineno}: ask through torc.schedulers.base")
    assert found == []


def test_modules_are_run_without_what_lies_in_the_working_directory() -> None:
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List | ast.Tuple):
                words = [ast.unparse(item) for item in node.elts]
                if "'-m'" in words and "sys.executable" in words and name(path) != "torc/program.py":
                    found.append(f"{name(path)}:{node.lineno}: use torc.program")
    assert found == []


HEAVY = {"sqlmodel", "sqlalchemy", "httpx", "mcp", "starlette", "textual", "alembic", "re2"}


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["schema"], ["validate", "SPEC"]], ids=lambda a: a[0])
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    spec = str(ROOT / "examples/yaml/hello.yaml")
    program = (
        "import sys; sys.argv = ['torc', *sys.argv[1:]]\nfrom torc.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"print('HEAVY', sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *(spec if a == "SPEC" else a for a in arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"


@pytest.mark.usefixtures("processes")
def test_what_is_generated_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/make_docs.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


STATEMENT = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|SAVEPOINT|ROLLBACK TO|RELEASE SAVEPOINT)\s+[\w\"({]"
)


def test_sql_is_in_the_store() -> None:
    found = []
    for path in SOURCES:
        if name(path).startswith("torc/store/") or name(path) == "torc/runner/time_series.py":  # a database of its own
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.match(node.value):
                found.append(f"{name(path)}:{node.lineno}: {node.value[:60]}")
    assert found == []
