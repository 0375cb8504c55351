"""What the function app's own files and settings say."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from agent_framework_hosting import ConfigurationError

# An app setting of this name overrides host.json (Functions: "host.json reference", override values).
PREFIX_SETTING = "AzureFunctionsJobHost__extensions__http__routePrefix"
DEFAULT_PREFIX = "api"
TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y"})


def enabled(value: str | None) -> bool:
    """Read a switch the way the Python worker does."""
    return value is not None and value.strip().lower() in TRUE_WORDS


def script_root(environ: Mapping[str, str]) -> Path | None:
    """Find the folder of host.json: the platform's setting, the module being indexed, the working directory."""
    candidates: list[Path] = []
    if root := environ.get("AzureWebJobsScriptRoot"):
        candidates.append(Path(root))
    module = sys.modules.get(Path(environ.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")).stem)
    if module is not None and module.__file__ is not None:
        candidates.append(Path(module.__file__).parent)
    candidates.append(Path.cwd())
    return next((folder for folder in candidates if (folder / "host.json").is_file()), None)


def root_path_of(given: str | None, environ: Mapping[str, str]) -> str:
    """Give the prefix of all HTTP routes as a root path: `""` or `"/api"`.

    Raises:
        ConfigurationError: host.json cannot be read.
    """
    prefix = environ.get(PREFIX_SETTING) if given is None else given
    if prefix is None:
        prefix = prefix_of_host_json(environ)
    prefix = prefix.strip("/")
    return f"/{prefix}" if prefix else ""


def prefix_of_host_json(environ: Mapping[str, str]) -> str:
    folder = script_root(environ)
    if folder is None:
        return DEFAULT_PREFIX
    try:
        value: object = json.loads((folder / "host.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The route prefix cannot be read from {folder / 'host.json'} ({error}): "
            'correct the file, or pass it: HostFunctionApp(host, route_prefix="api").'
        ) from error
    for key in ("extensions", "http", "routePrefix"):
        if not isinstance(value, dict):
            return DEFAULT_PREFIX
        value = cast("dict[str, Any]", value).get(key)
    return value if isinstance(value, str) else DEFAULT_PREFIX
