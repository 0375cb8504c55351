"""Checks that no tracked file names a package registry's host or a folder of this machine, nor is a lock file.

Where packages come from is the machine's own setting: a mirror must do as well as the public registry.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.workspace import ROOT

# Written as pairs, so that this file passes its own check.
HOSTS = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("yarnpkg", "com"),
    ("crates", "io"),
    ("jsdelivr", "net"),
    ("unpkg", "com"),
    ("anaconda", "org"),
    ("proxy.golang", "org"),
    ("maven", "org"),
    ("nuget", "org"),
)
NAMED = re.compile("|".join(re.escape(".".join(host)) for host in HOSTS))
LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "package-lock.json", "yarn.lock"}


def paths_into(*folders: Path) -> re.Pattern[str]:
    """Match paths into the folders. One right below the root, as `/root` or `/src`, is too common to be told apart."""
    rare = [re.escape(str(folder)) for folder in folders if len(folder.parts) > 2]
    return re.compile(rf"(?<![\w.~-])(?:{'|'.join(rare)})(?![\w-])" if rare else r"(?!)")


THIS_MACHINE = paths_into(ROOT, Path.home())


def tracked() -> list[Path]:
    """Return the files that are tracked or would be with the next `git add`, relative to the workspace."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in sorted(set(listing.split("\0"))) if name and (ROOT / name).is_file()]


def faults(path: Path, machine: re.Pattern[str] = THIS_MACHINE) -> Iterator[str]:
    """Yield what is wrong with a file, one line each; `machine` matches the paths of whoever wrote it."""
    if path.name in LOCKS:
        yield f"{path}: a lock file holds addresses; constraints.txt pins the versions"
    for number, line in enumerate((ROOT / path).read_text("utf-8", errors="replace").splitlines(), start=1):
        if NAMED.search(line):
            yield f"{path}:{number}: names a package registry's host"
        if machine.search(line):
            yield f"{path}:{number}: names a folder of this machine"


def main() -> None:
    paths = tracked()
    found = [fault for path in paths for fault in faults(path)]
    print(*found, f"addresses: {len(paths)} files, {len(found)} faults", sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
