"""Builds the wheel of every package into `dist/`."""

from __future__ import annotations

import subprocess

from scripts import toolchain
from scripts.workspace import CONSTRAINTS, ROOT, packages


def main() -> None:
    for package in packages():
        build = [toolchain.uv(), "build", "-q", "--wheel", "--no-create-gitignore", "--out-dir", ROOT / "dist"]
        subprocess.run([*build, "--build-constraints", CONSTRAINTS, package], cwd=ROOT, check=True)
    print(*sorted(path.name for path in (ROOT / "dist").glob("*.whl")), sep="\n")


if __name__ == "__main__":
    main()
