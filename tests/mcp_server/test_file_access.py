"""Where a model may read and write files: specs below the directory of the server, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.mcp_server.client import ask, refused
from tests.mcp_server.test_tools import talking
from tests.support.stores import open_sqlite
from torc.client.embedded import Embedded

SPEC: dict[str, Any] = {"name": "w", "jobs": [{"name": "a", "command": "echo new"}]}
OLD = "name: old\njobs:\n  - {name: a, command: echo old}\n"
#: files of others whose names end like those of specs
THEIRS = {
    "package.json": '{"name": "site", "scripts": {"build": "make"}}',
    "compose.yaml": "services:\n  web: {image: nginx}\n",
    "broken.yaml": "name: w\njobs:\n  - {name: a, comand: echo}\n",
    "empty.json": "",
    "data.json5": "[1, 2]",
}


@pytest.fixture
def opened(sqlite_file: Path, tmp_path: Path) -> Iterator[Embedded]:
    made = open_sqlite(sqlite_file, tmp_path)
    yield made
    made.close()


def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


def test_only_a_spec_is_replaced_and_only_when_asked_to(opened: Embedded, tmp_path: Path) -> None:
    at = home(tmp_path)
    for name, text in THEIRS.items():
        (at / name).write_text(text)
    (at / "old.yaml").write_text(OLD)
    os.mkfifo(at / "pipe.yaml")
    (at / "folder.yaml").mkdir()

    async def talk() -> None:
        async with talking(opened, at) as client:
            save = {"action": "save", "spec": SPEC}
            for name in THEIRS:
                said = await refused(client, "create_workflow", **save, save_as=name, overwrite=True)
                assert "is not a spec" in said, (name, said)
            for name in ("pipe.yaml", "folder.yaml"):
                said = await refused(client, "create_workflow", **save, save_as=name, overwrite=True)
                assert "not a regular file" in said, (name, said)
            assert "already exists" in await refused(client, "create_workflow", **save, save_as="old.yaml")
            assert (at / "old.yaml").read_text() == OLD
            made = await ask(client, "create_workflow", **save, save_as="old.yaml", overwrite=True)
            assert made["saved"] == "old.yaml"
            made = await ask(client, "create_workflow", **save, save_as="specs/deep/new.json")
            assert json.loads((at / made["saved"]).read_text())["jobs"] == SPEC["jobs"]
            for name in ("run.sh", "Makefile", ".yaml", "x.yaml/../../up.yaml"):
                await refused(client, "create_workflow", **save, save_as=name, overwrite=True)

    anyio.run(talk)
    assert {name: (at / name).read_text() for name in THEIRS} == THEIRS
    assert "echo new" in (at / "old.yaml").read_text()
    assert sorted(path.name for path in at.iterdir()) == sorted(
        [*THEIRS, "old.yaml", "pipe.yaml", "folder.yaml", "specs"]
    )
    assert not (tmp_path / "up.yaml").exists()


@pytest.mark.parametrize(
    "name", [".vscode/mcp.json", ".github/workflows/ci.yaml", ".mcp.json", "a/.b/c.yaml", "./.torc/x.yaml"]
)
def test_hidden_files_and_folders_are_neither_written_nor_read(opened: Embedded, tmp_path: Path, name: str) -> None:
    at = home(tmp_path)
    (at / name).parent.mkdir(parents=True, exist_ok=True)
    (at / name).write_text(OLD)

    async def talk() -> None:
        async with talking(opened, at) as client:
            for tool, given in (
                ("create_workflow", {"action": "save", "spec": SPEC, "save_as": name, "overwrite": True}),
                ("convert_spec", {"spec": SPEC, "to": name.rpartition(".")[2], "save_as": name}),
                ("validate_spec", {"path": name}),
                ("diff_specs", {"first": name, "second": name}),
            ):
                assert "is hidden" in await refused(client, tool, **given), tool
            reading = {"name": "w", "jobs": [{"name": "j{i}", "command": "echo {i}", "parameters": {"i": f"@{name}"}}]}
            found = await ask(client, "validate_spec", spec=reading)
            assert not found["valid"]
            assert "echo old" not in str(found)

    anyio.run(talk)
    assert (at / name).read_text() == OLD


def test_no_link_is_followed_for_reading_or_writing_even_inside_the_directory(opened: Embedded, tmp_path: Path) -> None:
    at = home(tmp_path)
    (at / "real").mkdir()
    (at / "real" / "old.yaml").write_text(OLD)
    (at / "link.yaml").symlink_to(at / "real" / "old.yaml")
    (at / "linked").symlink_to(at / "real")
    (at / "dangling.yaml").symlink_to(at / "nowhere.yaml")

    async def talk() -> None:
        async with talking(opened, at) as client:
            for name in ("link.yaml", "linked/old.yaml", "linked/new.yaml", "dangling.yaml"):
                given = {"action": "save", "spec": SPEC, "save_as": name, "overwrite": True}
                said = await refused(client, "create_workflow", **given)
                assert "links are not followed" in said or "not a regular file" in said, (name, said)
            for name in ("link.yaml", "linked/old.yaml"):
                assert "links are not followed" in await refused(client, "validate_spec", path=name)
            said = await refused(client, "create_workflow", action="create", spec=SPEC, directory="linked")
            assert "links are not followed" in said

    anyio.run(talk)
    assert (at / "real" / "old.yaml").read_text() == OLD
    assert [path.name for path in (at / "real").iterdir()] == ["old.yaml"]
    assert not (at / "nowhere.yaml").exists()
