"""The commands of `af-hosting`.

Each module has `add_to`, which adds its parser and sets its default `run`: a function of the parsed arguments that
gives the exit code.
"""

import argparse
from typing import Protocol


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` gives."""

    def add_parser(
        self, name: str, *, help: str | None = None, description: str | None = None, epilog: str | None = None
    ) -> argparse.ArgumentParser: ...
