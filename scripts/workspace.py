"""What the workspace is made of: its folders, packages and the files that decide an environment."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
CONSTRAINTS = ROOT / "constraints.txt"


def packages() -> list[Path]:
    """Return the folders of our distributions."""
    return sorted(path.parent for part in ("src", "adapters") for path in (ROOT / part).glob("*/pyproject.toml"))


def extras(package: Path) -> list[str]:
    """Return the names of a distribution's extras."""
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    return sorted(project.get("optional-dependencies", {}))


def fingerprint(*more: str) -> str:
    """Return a hash over everything that decides what an environment holds."""
    digest = hashlib.sha256("\0".join(more).encode())
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, *(package / "pyproject.toml" for package in packages())):
        digest.update(path.read_bytes())
    return digest.hexdigest()
