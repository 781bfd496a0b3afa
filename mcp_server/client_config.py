"""The files in which clients look for MCP servers and skills, and how ours are entered there without breaking what is there.

Formats: Claude Code `.mcp.json` and `~/.claude.json` (docs.claude.com, "MCP"), VS Code `mcp.json` (code.visualstudio.com, "MCP
configuration reference"), Copilot CLI `mcp-config.json` (docs.github.com, "Adding MCP servers"), Cursor `mcp.json`
(docs.cursor.com, "MCP"). Not for the server itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyjson5

from torc.errors import Conflict, Unavailable
from torc.files import write_whole

NAME = "torc"
_SKILL = Path(__file__).parent / "skill"
_OURS = f"name: {NAME}\n"  # in the first lines of a skill of ours


@dataclass(frozen=True, slots=True)
class Client:
    """A client: where it looks, per scope (user: below the home, project: below the working directory), and what it reads."""

    name: str
    title: str
    key: str  # under which servers stand in its files
    files: Mapping[str, str]
    skills: Mapping[str, str]
    more: Mapping[str, Any]  # that it wants in an entry beside command and arguments
    home: tuple[str, str] | None = None  # a variable that names another folder for some of them: (variable, folder)


CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (
        Client(
            "claude-code",
            "Claude Code",
            "mcpServers",
            {"user": ".claude.json", "project": ".mcp.json"},
            {"user": ".claude/skills", "project": ".claude/skills"},
            {"type": "stdio"},
            ("CLAUDE_CONFIG_DIR", ".claude"),
        ),
        Client(
            "vscode",
            "VS Code",
            "servers",
            {"user": ".config/Code/User/mcp.json", "project": ".vscode/mcp.json"},
            {"user": ".copilot/skills", "project": ".github/skills"},
            {"type": "stdio"},
            ("XDG_CONFIG_HOME", ".config"),
        ),
        Client(
            "copilot-cli",
            "Copilot CLI",
            "mcpServers",
            {"user": ".copilot/mcp-config.json", "project": ".mcp.json"},
            {"user": ".copilot/skills", "project": ".github/skills"},
            {"type": "stdio", "tools": ["*"]},
            ("COPILOT_HOME", ".copilot"),
        ),
        Client(
            "cursor",
            "Cursor",
            "mcpServers",
            {"user": ".cursor/mcp.json", "project": ".cursor/mcp.json"},
            {"user": ".cursor/skills", "project": ".cursor/skills"},
            {"type": "stdio"},
        ),
    )
}


@dataclass(frozen=True, slots=True)
class FileChange:
    """What was done, or would be, to a file. `text` is what it holds then; None: it is not there then."""

    path: Path
    did: str  # written | unchanged | removed
    text: str | None


def place(client: Client, scope: str, relative: str, cwd: Path, environ: Mapping[str, str]) -> Path:
    """Return the place of a file or folder of a client."""
    if scope == "project":
        return cwd / relative
    if client.home is not None and (named := environ.get(client.home[0])):
        folder = client.home[1]
        if relative == f"{folder}.json":  # Claude Code keeps it inside of the folder that the variable names
            return Path(named) / relative
        if relative.startswith(f"{folder}/"):
            return Path(named) / relative.removeprefix(f"{folder}/")
    return Path(environ.get("HOME") or Path.home()) / relative


def entered(client: Client, path: Path, command: Sequence[str], environ: Mapping[str, str]) -> FileChange:
    """Return a client's file with our server in it; what else stands there stays, in its order. Raises Conflict.

    `environ`: what the server is to be given. An entry of ours that is there keeps what its owner has added.
    """
    document, before = _read(path, client)
    servers = document.setdefault(client.key, {})
    if not isinstance(servers, dict):
        raise Conflict(f"{path}: `{client.key}` is no object", hint=f"mend the file; {_by_hand(client.name)}")
    old = servers.get(NAME)
    entry = dict(old) if isinstance(old, dict) else {}
    entry |= {**client.more, "command": command[0], "args": list(command[1:])}
    if environ:
        known = entry.get("env")
        entry["env"] = {**(known if isinstance(known, dict) else {}), **environ}
    if entry == old:
        return FileChange(path, "unchanged", before)
    servers[NAME] = entry
    return FileChange(path, "written", _written(document, before))


def taken_out(client: Client, path: Path) -> FileChange:
    """Return a client's file without our server; a project's file that holds nothing else goes. Raises Conflict."""
    document, before = _read(path, client)
    servers = document.get(client.key)
    if not isinstance(servers, dict) or NAME not in servers:
        return FileChange(path, "unchanged", before)
    del servers[NAME]
    if document == {client.key: {}}:
        return FileChange(path, "removed", None)
    return FileChange(path, "written", _written(document, before))


def _read(path: Path, client: Client) -> tuple[dict[str, Any], str | None]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}, None
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"cannot read {path}: {error}", hint=_by_hand(client.name)) from None
    if not text.strip():
        return {}, text
    try:
        document = json.loads(text)
    except ValueError as error:
        problem, hint = f"is no JSON: {error}", "mend it first, nothing was changed; "
        with contextlib.suppress(pyjson5.Json5Exception):
            pyjson5.decode(text)
            problem, hint = "has comments or trailing commas, which would be lost", ""
        raise Conflict(f"{path} {problem}", hint=hint + _by_hand(client.name)) from None
    if not isinstance(document, dict):
        raise Conflict(f"{path} holds no object", hint=f"mend it first; {_by_hand(client.name)}")
    return document, text


def _by_hand(name: str) -> str:
    return f"`torc mcp install --client {name} --print` shows what to enter by hand"


def _written(document: Mapping[str, Any], before: str | None) -> str:
    """Write a document as the file was written: with its indentation."""
    indent: int | str = 2
    for line in (before or "").splitlines()[1:]:
        if (space := line[: len(line) - len(line.lstrip())]) != "":
            indent = "\t" if space[0] == "\t" else len(space)
            break
    return json.dumps(document, indent=indent, ensure_ascii=False) + "\n"


def carry_out(change: FileChange, mode: int) -> None:
    """Do a change: whole or not at all; links are followed, a file's mode stays, `mode` is for new ones. Raises Unavailable."""
    path = Path(os.path.realpath(change.path))
    try:
        if change.did == "removed":
            path.unlink()
        elif change.did == "written" and change.text is not None:
            _replace(path, change.text, mode)
    except OSError as error:
        raise Unavailable(
            f"cannot write {change.path}: {error.strerror}", hint="nothing was changed there; check its permissions"
        ) from None


def _replace(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    write_whole(path, text.encode(), mode)
    if kept is not None:
        path.chmod(kept)


# -- the skill --------------------------------------------------------------------------------------------------


def skill_files() -> dict[str, str]:
    """Return the files of the skill: path below its folder -> text."""
    return {str(path.relative_to(_SKILL)): path.read_text(encoding="utf-8") for path in sorted(_SKILL.rglob("*.md"))}


def skill_entered(folder: Path) -> list[FileChange]:
    """Return what puts the skill into a folder of skills. Raises Conflict where a skill of somebody else has its name."""
    _require_ours(folder / NAME)
    changes = []
    for name, text in skill_files().items():
        path = folder / NAME / name
        same = path.is_file() and path.read_bytes() == text.encode()
        changes.append(FileChange(path, "unchanged" if same else "written", text))
    return changes


def skill_taken_out(folder: Path) -> list[FileChange]:
    """Return what takes the skill out of a folder of skills; files that are not ours stay."""
    _require_ours(folder / NAME)
    paths = [folder / NAME / name for name in skill_files()]
    return [FileChange(path, "removed", None) for path in paths if path.is_file()]


def tidy(folder: Path) -> None:
    """Remove the folders of the skill that are empty."""
    for empty in (folder / NAME / "references", folder / NAME):
        with contextlib.suppress(OSError):
            empty.rmdir()


def _require_ours(folder: Path) -> None:
    main = folder / "SKILL.md"
    if main.is_file() and _OURS not in main.read_text(encoding="utf-8", errors="replace")[:500]:
        raise Conflict(f"{folder} holds a skill of somebody else", hint="rename it, or leave ours out with --no-skill")
