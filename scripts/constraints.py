"""Renews `constraints.txt`: names and versions only, for every Python we support.

`python3 -m scripts.constraints`; run it when a dependency is added or to take newer releases.
"""

from __future__ import annotations

import subprocess
import tomllib

from scripts import toolchain
from scripts.workspace import CONSTRAINTS, ROOT, packages

GROUPS = ("dev", "node", "tools")


def main() -> None:
    projects = [package / "pyproject.toml" for package in packages()]
    ours = [tomllib.loads(project.read_text("utf-8"))["project"]["name"] for project in projects]
    command = [toolchain.uv(), "pip", "compile", "-q", "--universal", "--python-version", "3.11", "--upgrade"]
    # No address of a registry and no path of this machine gets into the file.
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--all-extras"]
    command += [part for name in ours for part in ("--no-emit-package", name)]
    command += [part for group in GROUPS for part in ("--group", group)]
    compiled = subprocess.run([*command, *projects], cwd=ROOT, check=True, capture_output=True, text=True)
    CONSTRAINTS.write_text(compiled.stdout, "utf-8")


if __name__ == "__main__":
    main()
