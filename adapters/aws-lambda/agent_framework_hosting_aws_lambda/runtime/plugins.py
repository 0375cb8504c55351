"""Plugins of pydantic's, which looks for them at its first model: in the metadata of everything that is installed.

https://docs.pydantic.dev/latest/concepts/plugins/
"""

from __future__ import annotations

import os
import sys

VARIABLE = "PYDANTIC_DISABLE_PLUGINS"
DISTRIBUTIONS = (".dist-info", ".egg-info", ".egg")


def spare_plugins() -> None:
    """Tell pydantic not to look where there are none: it would take 3 % of an init. What the operator says counts."""
    if VARIABLE not in os.environ and not any(map(may_have_plugins, sys.path)):
        os.environ[VARIABLE] = "__all__"


def may_have_plugins(folder: str) -> bool:
    """Whether a folder of modules may have a distribution that declares one; what cannot be read may."""
    try:
        names = [name for name in os.listdir(folder or ".") if name.endswith(DISTRIBUTIONS)]  # noqa: PTH208
        return any(may_declare_plugins(os.path.join(folder, name)) for name in names)  # noqa: PTH118
    except FileNotFoundError:
        return False
    except OSError:
        return True


def may_declare_plugins(distribution: str) -> bool:
    if distribution.endswith(".egg"):
        return True
    try:
        with open(os.path.join(distribution, "entry_points.txt"), "rb") as declared:  # noqa: PTH118, PTH123
            return b"[pydantic]" in declared.read()
    except (FileNotFoundError, NotADirectoryError):
        return False
