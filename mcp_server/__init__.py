"""The MCP server: what a person can do with Torc, for assistants. It builds requests and formats replies; it contains no rules.

The command line does not import this package, except for `torc mcp` and, where it is mounted, `torc server`.
"""
