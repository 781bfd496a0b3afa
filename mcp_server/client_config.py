"""The files in which clients look for MCP servers and skills, and how Torc is added without damaging their other content.

Formats: Claude Code `.mcp.json` and `~/.claude.json` (docs.claude.com, "MCP"), VS Code `mcp.json` (code.visualstudio.com, "MCP
configuration reference"), Copilot CLI `mcp-config.json` (docs.github.com, "Adding MCP servers"), Cursor `mcp.json`
(docs.cursor.com, "MCP").
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
_OURS = f"name: {NAME}\n"  # in the first lines of our skill


@dataclass(frozen=True, slots=True)
class Client:
    """A client: where it looks, by scope (user: below the home, project: below the working directory), and its format."""

    name: str
    title: str
    key: str  # the key of the servers in its files
    files: Mapping[str, str]
    skills: Mapping[str, str]
    more: Mapping[str, Any]  # required in an entry in addition to command and arguments
    home: tuple[str, str] | None = None  # a variable that relocates some of them: (variable, default folder)


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
    """What was done, or would be done, to a file. `text` is its new content; None: it is removed."""

    path: Path
    did: str  # written | unchanged | removed
    text: str | None


def place(client: Client, scope: str, relative: str, cwd: Path, environ: Mapping[str, str]) -> Path:
    """Return the path of a client's file or folder."""
    if scope == "project":
        return cwd / relative
    if client.home is not None and (named := environ.get(client.home[0])):
        folder = client.home[1]
        if relative == f"{folder}.json":  # Claude Code keeps it inside the folder given by the variable
            return Path(named) / relative
        if relative.startswith(f"{folder}/"):
            return Path(named) / relative.removeprefix(f"{folder}/")
    return Path(environ.get("HOME") or Path.home()) / relative


def entered(client: Client, path: Path, command: Sequence[str], environ: Mapping[str, str]) -> FileChange:
    """Return a client's file with our server added; other content and its order are preserved. Raises Conflict.

    `environ`: the environment for the server. An existing entry of ours keeps what its owner has added.
    """
    document, before = _read(path, client)
    servers = document.setdefault(client.key, {})
    if not isinstance(servers, dict):
        raise Conflict(f"{path}: `{client.key}` is not an object", hint=f"correct the file; {_by_hand(client.name)}")
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
    """Return a client's file without our server; a project file with nothing else is removed. Raises Conflict."""
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
        problem, hint = f"is not JSON: {error}", "correct it first; nothing was changed; "
        with contextlib.suppress(pyjson5.Json5Exception):
            pyjson5.decode(text)
            problem, hint = "has comments or trailing commas, which would be lost", ""
        raise Conflict(f"{path} {problem}", hint=hint + _by_hand(client.name)) from None
    if not isinstance(document, dict):
        raise Conflict(f"{path} does not contain an object", hint=f"correct it first; {_by_hand(client.name)}")
    return document, text


def _by_hand(name: str) -> str:
    return f"`torc mcp install --client {name} --print` shows what to add by hand"


def _written(document: Mapping[str, Any], before: str | None) -> str:
    """Serialize a document with the indentation that the file already has."""
    indent: int | str = 2
    for line in (before or "").splitlines()[1:]:
        if (space := line[: len(line) - len(line.lstrip())]) != "":
            indent = "\t" if space[0] == "\t" else len(space)
            break
    return json.dumps(document, indent=indent, ensure_ascii=False) + "\n"


def carry_out(change: FileChange, mode: int) -> None:
    """Write a change atomically; links are followed, existing modes are kept, `mode` is for new files. Raises Unavailable."""
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
    """Return the files of the skill: relative path -> text."""
    return {str(path.relative_to(_SKILL)): path.read_text(encoding="utf-8") for path in sorted(_SKILL.rglob("*.md"))}


def skill_entered(folder: Path) -> list[FileChange]:
    """Return the changes that install the skill into a folder of skills. Raises Conflict if another skill has its name."""
    _require_ours(folder / NAME)
    changes = []
    for name, text in skill_files().items():
        path = folder / NAME / name
        same = path.is_file() and path.read_bytes() == text.encode()
        changes.append(FileChange(path, "unchanged" if same else "written", text))
    return changes


def skill_taken_out(folder: Path) -> list[FileChange]:
    """Return the changes that remove the skill from a folder of skills; files that are not ours stay."""
    _require_ours(folder / NAME)
    paths = [folder / NAME / name for name in skill_files()]
    return [FileChange(path, "removed", None) for path in paths if path.is_file()]


def tidy(folder: Path) -> None:
    """Remove empty folders of the skill."""
    for empty in (folder / NAME / "references", folder / NAME):
        with contextlib.suppress(OSError):
            empty.rmdir()


def _require_ours(folder: Path) -> None:
    main = folder / "SKILL.md"
    if main.is_file() and _OURS not in main.read_text(encoding="utf-8", errors="replace")[:500]:
        raise Conflict(f"{folder} contains another skill of that name", hint="rename it, or use --no-skill")
