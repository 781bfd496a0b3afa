"""House rules that a check can hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import torc

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for path in [*ROOT.glob("torc/**/*.py"), *ROOT.glob("mcp_server/**/*.py")]
    if "migrations/versions" not in str(path)  # written by Alembic
)
MOST_LINES, MOST_FUNCTION_LINES = 800, 65
#: where the unexpected is told to somebody, or handed to another thread
MAY_CATCH_ALL = {"torc/cli/main.py", "torc/runner/loop.py", "torc/runner/talker.py"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_is_one_concept_of_readable_size(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_fit_on_a_screen(path: Path) -> None:
    long = {f.name: size for f in functions(path) if (size := (f.end_lineno or 0) - f.lineno + 1) > MOST_FUNCTION_LINES}
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_room_hides_an_import_from_the_layers(path: Path) -> None:
    assert "TYPE_CHECKING" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [p for p in SOURCES if not name(p).startswith("torc/cli")], ids=name)
def test_imports_stand_at_the_top_outside_the_command_line(path: Path) -> None:
    inner = [
        node.lineno
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inner


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_is_swallowed(path: Path) -> None:
    if name(path) in MAY_CATCH_ALL:
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler) and not isinstance(node.body[-1], ast.Raise):
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in {"Exception", "BaseException", "everything"}, f"line {node.lineno}"


@pytest.mark.parametrize("path", [p for p in SOURCES if not name(p).startswith("torc/cli")], ids=name)
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not calls or name(path) == "torc/spec/schema.py"


def test_the_package_exposes_what_it_says() -> None:
    for exported in torc.__all__:
        assert getattr(torc, exported) is not None
    with pytest.raises(AttributeError):
        _ = torc.nothing_of_that_name


@pytest.mark.parametrize("path", [p for p in SOURCES if name(p) != "torc/core/program.py"], ids=name)
def test_modules_are_run_without_what_lies_in_the_working_directory(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.List | ast.Tuple):
            words = [ast.unparse(item) for item in node.elts]
            assert "'-m'" not in words or "sys.executable" not in words, f"line {node.lineno}: use torc.core.program"


HEAVY = {"sqlmodel", "sqlalchemy", "httpx", "mcp", "starlette", "textual", "alembic", "re2"}


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
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_what_is_generated_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/make_docs.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
