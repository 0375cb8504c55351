"""SnapStart: an environment is made from a snapshot of an initialised one, any number of times.

Modules are imported before the snapshot, and the app is started after it: so no connection, credential or random
number that start-up makes is shared by clones. Hooks of `snapshot_restore_py`, which the managed runtime brings, are
called as the stock runtime calls them (Lambda SnapStart runtime hooks for Python).
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from typing import Any, cast

Hook = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]


def is_snapshot() -> bool:
    return os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"


def before_snapshot() -> None:
    """Call the hooks that the operator's modules have registered, last first."""
    for hook, arguments, options in reversed(hooks("get_before_snapshot")):
        hook(*arguments, **options)


def after_restore() -> None:
    """Call the hooks, and make anew what all clones would have in common."""
    random.seed()
    for hook, arguments, options in hooks("get_after_restore"):
        hook(*arguments, **options)


def on_restore(hook: Callable[[], object]) -> None:
    """Have a hook called in every environment that is made from a snapshot; where there is none, it never is."""
    if not is_snapshot():
        return
    try:
        # Lambda's managed runtimes have it, and only there is SnapStart.
        from snapshot_restore_py import register_after_restore  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        return
    cast("Any", register_after_restore)(hook)


def hooks(name: str) -> list[Hook]:
    # Registered only by what has imported it.
    module = sys.modules.get("snapshot_restore_py")
    give = getattr(module, name, None)
    return [] if give is None else [*cast("list[Hook]", give())]
