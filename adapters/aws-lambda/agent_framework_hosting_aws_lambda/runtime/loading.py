"""From `module:attribute` to the function."""

from __future__ import annotations

import importlib
import os
import sys

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError

from ..function import LambdaFunction, loading
from ..handler import LambdaHandler


def set_up_path() -> None:
    """Have found what the stock runtime would find: the function's own code first, what AWS brings last."""
    root = os.environ.get("LAMBDA_TASK_ROOT", os.getcwd())  # noqa: PTH109
    brought = [path for path in ("/opt/python", os.environ.get("LAMBDA_RUNTIME_DIR", "/var/runtime")) if path != root]
    sys.path[:] = [
        root,
        *(path for path in sys.path if path not in ("", root, *brought)),
        *(path for path in brought if os.path.isdir(path)),  # noqa: PTH112
    ]


def load(name: str) -> LambdaFunction:
    """Import what is named: a host, a `LambdaFunction`, or the `LambdaHandler` that the stock runtime would call.

    It is done outside of any event loop, as the stock runtime does it: modules may run one of their own. Before that,
    the variables are set that are to come from SSM (`parameters.py`).

    Raises:
        ConfigurationError: The name has another form, or is that of something else.
        Exception: What the import raised.
    """
    if os.environ.get("AF_HOSTING_SSM"):
        from .parameters import set_parameters

        set_parameters()
    module, separator, attribute = name.replace(":", ".").rpartition(".")
    if not separator or not module or not attribute:
        raise ConfigurationError(f"{name!r} does not name a host: use module:attribute, such as app:host.")
    token = loading.set(True)
    try:
        imported = importlib.import_module(module.replace("/", "."))
    except ImportError as error:
        if (made := packaged_for()) and made != (here := this_machine()):
            raise ConfigurationError(
                f"The package was made for {made}, and the function runs on {here}: package it for that, or change the "
                f"function's architecture or runtime. ({error})"
            ) from error
        raise
    finally:
        loading.reset(token)
    try:
        found: object = getattr(imported, attribute)
    except AttributeError:
        raise ConfigurationError(f"Module {module!r} has no attribute {attribute!r}.") from None
    if isinstance(found, LambdaHandler):
        return found.function
    if isinstance(found, LambdaFunction):
        return found
    if isinstance(found, AgentFrameworkHost):
        return LambdaFunction(found)
    raise ConfigurationError(
        f"{name!r} is of type {type(found).__name__}: name an AgentFrameworkHost, a LambdaHandler or a LambdaFunction."
    )


def packaged_for() -> str | None:
    """Give the architecture and the Python that `af-hosting package lambda` made the package for, if it did."""
    try:
        with open(os.path.join(os.environ.get("LAMBDA_TASK_ROOT", ""), "packaged.lock.txt")) as listed:  # noqa: PTH118, PTH123
            return listed.readline().removeprefix("#").strip()
    except OSError:
        return None


def this_machine() -> str:
    import platform

    machine = platform.machine()
    return f"{'arm64' if machine == 'aarch64' else machine}, Python {sys.version_info.major}.{sys.version_info.minor}"
