"""The program `torc-mcp-server`: `torc mcp serve` under the name that clients are configured with."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main() -> None:
    """Serve one client on standard input and output."""
    program: Any = importlib.import_module("torc.cli.main")  # imported late: it reads the configuration
    sys.exit(program.run(["mcp", "serve", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
