"""The commands of `af-hosting`.

Each module has `add_to`, which adds its parser and sets its default `run`: a function of the parsed arguments that
gives the exit code.
"""

import argparse
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # pyright: ignore[reportPrivateUsage]
