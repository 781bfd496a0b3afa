"""The MCP server: what a person can do with Torc, for assistants. It builds requests and renders replies; it holds no rule.

Nothing here is imported by the command line, but by `torc mcp` and, where it is mounted, by `torc server`.
"""
