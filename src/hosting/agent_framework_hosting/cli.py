"""The command `af-hosting`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from .commands import inbox, package, serve, state
from .errors import HostingError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 done, 1 failed, 130 interrupted; a command may have others."""
    parser = argparse.ArgumentParser(prog="af-hosting", description="Serve Agent Framework agents and workflows.")
    parser.add_argument("--version", action="version", version=version("agent-framework-hosting"))
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (serve, state, inbox, package):
        command.add_to(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except HostingError as error:
        print(f"af-hosting: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
