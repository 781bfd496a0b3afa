"""Talk to the MCP server in tests: the SDK's own client over stdio, with plain functions to call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult, TextContent

from tests.support.program import PROGRAM, Program

#: the two eras of the protocol that clients speak
ERAS = ("auto", "legacy")


@asynccontextmanager
async def session(
    program: Program, *, mode: Any = "auto", environ: dict[str, str] | None = None, **more: Any
) -> AsyncIterator[Client]:
    """Begin `torc mcp serve` in the directory of a program and connect to it."""
    parameters = StdioServerParameters(
        command=PROGRAM[0],
        args=[*PROGRAM[1:], "mcp", "serve"],
        cwd=str(program.directory),
        env=program.environ(**(environ or {})),
    )
    async with Client(parameters, mode=mode, **more) as client:
        yield client


async def ask(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    """Call a tool that must succeed; returns its structured content."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert not result.is_error, text_of(result)
    assert result.structured_content is not None
    return result.structured_content


async def refused(client: Client, tool: str, /, **arguments: Any) -> str:
    """Call a tool that must refuse; returns what it says."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert result.is_error, result.structured_content
    return text_of(result)


def unquoted(quote: dict[str, Any]) -> str:
    """Return the quoted text between the boundary lines of a result."""
    mark, text = quote["untrusted"], quote["text"]
    begin, end = f"<untrusted {mark}>\n", f"\n</untrusted {mark}>"
    assert text.startswith(begin), text
    assert text.endswith(end), text
    shown: str = text[len(begin) : -len(end)]
    assert mark not in shown, text
    return shown


def text_of(result: CallToolResult) -> str:
    """Return the text of a result."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))
