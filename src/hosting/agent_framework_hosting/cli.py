"""The command `af-hosting`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from .errors import HostingError

if TYPE_CHECKING:
    from .host import AgentFrameworkHost


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="af-hosting", description="Serve Agent Framework agents and workflows.")
    parser.add_argument("--version", action="version", version=version("agent-framework-hosting"))
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a host over HTTP")
    serve.add_argument("host", metavar="module:host", help="where the AgentFrameworkHost is, e.g. app:host")
    serve.add_argument("--bind", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=port, default=8000, help="port, 0 for a free one (default: %(default)s)")
    serve.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        host = load(arguments.host)
    except HostingError as error:
        return fail(error)
    try:
        host.serve(host=arguments.bind, port=arguments.port, workers=arguments.workers)
    except (HostingError, OSError) as error:
        return fail(error)
    except KeyboardInterrupt:
        return 130
    return 0


def fail(error: Exception) -> int:
    print(f"af-hosting: {error}", file=sys.stderr)
    return 1


def port(text: str) -> int:
    if not 0 <= int(text) <= 65_535:
        raise ValueError
    return int(text)


def load(path: str) -> AgentFrameworkHost:
    """Import `module:attribute`, with the current directory on the path.

    Raises:
        HostingError: There is no such module or host; the message says which part is wrong.
    """
    from .errors import ConfigurationError
    from .host import AgentFrameworkHost

    module_name, _, attribute = path.partition(":")
    if not attribute or not all(part.isidentifier() for part in module_name.split(".")):
        raise ConfigurationError(
            f"{path!r} is not of the form module:host. For the variable host in app.py write app:host; a folder is "
            "part of a module's name with a dot."
        )
    if module_name.endswith(".py"):
        raise ConfigurationError(f"{module_name!r} is a file: write {module_name[:-3]}:{attribute}.")
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - a plain string for sys.path
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise ConfigurationError(f"There is no module {module_name!r} here or on the Python path.") from None
    if not hasattr(module, attribute):
        raise ConfigurationError(f"There is no {attribute!r} in the module {module_name!r}.")
    host = getattr(module, attribute)
    if not isinstance(host, AgentFrameworkHost):
        raise ConfigurationError(f"{module_name}.{attribute} is {type(host).__name__}, not an AgentFrameworkHost.")
    return host


if __name__ == "__main__":
    sys.exit(main())
