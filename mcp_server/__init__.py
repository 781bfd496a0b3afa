"""The room of the MCP server: the same operations for assistants. Nothing lives here yet."""
