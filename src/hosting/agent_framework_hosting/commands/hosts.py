"""Finding the host that a command is about."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..host import AgentFrameworkHost


def load(path: str) -> AgentFrameworkHost:
    """Import `module:attribute`, with the current directory on the path.

    Raises:
        HostingError: There is no such module or host; the message says which part is wrong.
    """
    from ..errors import ConfigurationError
    from ..host import AgentFrameworkHost

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
