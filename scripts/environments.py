"""Makes the virtual environments: `.venv` to work in, `.venv-oldest` to try the oldest Python we support.

`python3 -m scripts.environments [development] [oldest] [tools]`; needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import fcntl
import shlex
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scripts import interpreters, toolchain
from scripts.interpreters import Interpreter
from scripts.workspace import CONSTRAINTS, ROOT, TOOLS, extras, fingerprint, packages

DEVELOPMENT = (3, 13)
OLDEST = ((3, 11), (3, 12))


class Environment(NamedTuple):
    """A folder and the dependency groups it holds beside our packages."""

    folder: Path
    groups: tuple[str, ...]

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def up_to_date(self) -> bool:
        """Tell whether nothing that decides the content has changed since it was made."""
        stamp = self.folder / ".stamp"
        return self.python.exists() and stamp.exists() and stamp.read_text() == fingerprint(*self.groups)

    def make(self, interpreter: Interpreter) -> None:
        """Create or update the environment."""
        print(f"{self.folder.name}: {interpreter}")
        uv = toolchain.uv()
        current = interpreters.probe(self.python) if self.python.exists() else None
        if current is None or current.version != interpreter.version:
            run(uv, "venv", "-q", "--clear", "--no-project", "--python", interpreter.path, self.folder)
        run(
            *(uv, "pip", "install", "-q", "--exact", "--compile-bytecode", "--python", self.python),
            *("--constraints", CONSTRAINTS, "--build-constraints", CONSTRAINTS),
            *(part for group in self.groups for part in ("--group", group)),
            *(part for package in packages() for part in ("--editable", editable(package))),
        )
        (self.folder / ".stamp").write_text(fingerprint(*self.groups))


def development() -> Environment:
    return Environment(ROOT / ".venv", ("dev",) if toolchain.has_node() else ("dev", "node"))


def oldest() -> Environment:
    return Environment(ROOT / ".venv-oldest", ("test",))


def editable(package: Path) -> str:
    """Return the requirement of one of our packages with all its extras."""
    wanted = ",".join(extras(package))
    return f"{package.relative_to(ROOT)}[{wanted}]" if wanted else str(package.relative_to(ROOT))


def run(*command: str | Path) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def set_up(wanted: Sequence[str]) -> None:
    """Bring what is wanted, doing nothing where it is there.

    Raises:
        Lacking: The machine lacks what is needed.
    """
    if "development" in wanted and not development().up_to_date():
        development().make(toolchain.python(*DEVELOPMENT))
    if "oldest" in wanted and not oldest().up_to_date():
        interpreter = next(filter(None, (interpreters.find(*version) for version in OLDEST)), None)
        if interpreter is None:
            print("Lacking: no Python 3.11 or 3.12 beside the one of .venv")
        else:
            oldest().make(interpreter)
    if "tools" in wanted:
        for bring in (toolchain.lambda_emulator, toolchain.azurite, toolchain.sam):
            try:
                bring()
            except toolchain.Lacking as lack:
                print(f"Lacking: {lack}")


@contextmanager
def alone() -> Generator[None]:
    """Keep two set-ups from working in the same folders at once."""
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wanted", nargs="+", choices=("development", "oldest", "tools"))
    wanted: list[str] = parser.parse_args().wanted
    try:
        with alone():
            set_up(wanted)
    except toolchain.Lacking as lack:
        sys.exit(f"Lacking: {lack}")
    except subprocess.CalledProcessError as failed:
        sys.exit(f"Set-up failed ({failed.returncode}): {shlex.join(map(str, failed.cmd))}")


if __name__ == "__main__":
    main()
