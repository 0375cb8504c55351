"""`af-hosting package`: put an agent and all that it imports into an artefact."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..packaging.platforms import Platform
    from ..packaging.sources import Tell
    from . import Subparsers

REQUIREMENTS = "requirements.txt"
LAMBDA_EPILOG = (
    "Ours that are not published are taken from --find-links, built where the command runs in our repository (or is "
    "an editable installation of it), or taken from dist/ here or beside the requirements."
)


def add_to(commands: Subparsers) -> None:
    package = commands.add_parser("package", help="put an agent and all that it imports into an artefact")
    platforms = package.add_subparsers(dest="platform", required=True)
    add_lambda(platforms)


def add_lambda(platforms: Subparsers) -> None:
    parser = platforms.add_parser(
        "lambda",
        help="a zip file or folder for AWS Lambda",
        description="Make a deployment package for AWS Lambda, on any machine.",
        epilog=LAMBDA_EPILOG,
    )
    parser.add_argument(
        "--arch", choices=("arm64", "x86_64"), default="x86_64", help="default: %(default)s, as Lambda's"
    )
    parser.add_argument("--python", default="3.13", metavar="X.Y", help="of the runtime (default: %(default)s)")
    parser.add_argument(
        "--with-boto3", dest="with_supplied", action="store_true", help="pack boto3 too, which the runtime has"
    )
    add_common(parser)
    parser.set_defaults(run=run_lambda)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what artefacts for every platform take."""
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="a file of your code, or a folder, whose contents count"
    )
    parser.add_argument(
        "--requirements",
        type=Path,
        metavar="FILE",
        help=f"what to install (default: {REQUIREMENTS} of the first SOURCE)",
    )
    parser.add_argument(
        "--constraints",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="versions to take; may be repeated",
    )
    parser.add_argument(
        "--find-links", type=Path, action="append", default=[], metavar="DIR", help="wheels; may be repeated"
    )
    parser.add_argument("--no-index", action="store_true", help="take wheels from --find-links only")
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--output", type=Path, default=Path("function.zip"), metavar="FILE", help="default: %(default)s"
    )
    output.add_argument("--output-dir", type=Path, metavar="DIR", help="or a folder, for a tool that zips it")
    parser.add_argument("--no-bytecode", action="store_true", help="half the size, but each cold start compiles anew")
    parser.add_argument(
        "--check", metavar="MODULE", help="import it from the artefact; only on a machine such as the platform's"
    )
    parser.add_argument("--json", action="store_true", help="tell what is in it as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def run_lambda(arguments: argparse.Namespace) -> int:
    from ..packaging.aws_lambda import LAMBDA

    return build(arguments, LAMBDA)


def build(arguments: argparse.Namespace, platform: Platform) -> int:
    """Build and tell; the exit code is 1 where the artefact passes a limit."""
    from ..packaging.building import Builder, Order
    from ..packaging.platforms import Target

    if arguments.python not in platform.pythons:
        raise ConfigurationError(f"--python is one of {', '.join(platform.pythons)}, which {platform.name} has.")
    order = Order(
        platform=platform,
        target=Target(arguments.python, arguments.arch, platform.pythons[arguments.python]),
        sources=arguments.sources,
        requirements=existing(arguments.requirements or beside(arguments.sources[0])),
        output=arguments.output_dir or arguments.output,
        as_folder=arguments.output_dir is not None,
        constraints=[existing(path) for path in arguments.constraints],
        find_links=[existing(path, folder=True) for path in arguments.find_links],
        no_index=arguments.no_index,
        with_supplied=arguments.with_supplied,
        with_bytecode=not arguments.no_bytecode,
        check=arguments.check,
    )
    try:
        report = Builder(order, tell=said("af-hosting: "), progress=unsaid if arguments.quiet else said("")).run()
    except OSError as error:
        raise ConfigurationError(str(error)) from error
    print(json.dumps(report.as_json()) if arguments.json else report.table())
    passed = list(report.passed())
    for problem in passed:
        print(f"af-hosting: {problem}", file=sys.stderr)
    return 1 if passed else 0


def beside(source: Path) -> Path:
    """Give the requirements that lie in a folder of code, or beside a file of it.

    Raises:
        ConfigurationError: There are none.
    """
    found = (source if source.is_dir() else source.parent) / REQUIREMENTS
    if not found.is_file():
        raise ConfigurationError(f"There is no {found}: say with --requirements what to install.")
    return found


def existing(path: Path, *, folder: bool = False) -> Path:
    if not (path.is_dir() if folder else path.is_file()):
        raise ConfigurationError(f"There is no {'folder' if folder else 'file'} {path}.")
    return path.resolve()


def said(before: str) -> Tell:
    return lambda text: print(f"{before}{text}", file=sys.stderr, flush=True)


def unsaid(text: str) -> None:
    """Say nothing."""
