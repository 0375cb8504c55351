"""`af-hosting serve`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import HostingError
from .hosts import load

if TYPE_CHECKING:
    from . import Subparsers


def add_to(commands: Subparsers) -> None:
    serve = commands.add_parser("serve", help="serve a host over HTTP")
    serve.add_argument("host", metavar="module:host", help="where the AgentFrameworkHost is, e.g. app:host")
    serve.add_argument("--bind", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=port, default=8000, help="port, 0 for a free one (default: %(default)s)")
    serve.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    serve.set_defaults(run=run)


def port(text: str) -> int:
    if not 0 <= int(text) <= 65_535:
        raise ValueError
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    host = load(arguments.host)
    try:
        host.serve(host=arguments.bind, port=arguments.port, workers=arguments.workers)
    except OSError as error:
        raise HostingError(str(error)) from error
    return 0
