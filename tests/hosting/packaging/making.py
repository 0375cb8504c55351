"""Wheels for the tests, and the command run on them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_framework_hosting.cli import main


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, str] | None = None,
    *,
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
) -> Path:
    """Write a wheel; without `files` it has one module whose `VERSION` tells the version and the tag."""
    module = name.replace("-", "_")
    about = f"{module}-{version}.dist-info"
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
    contents = {
        **({f"{module}.py": f"VERSION = '{version} {tag}'\n"} if files is None else files),
        f"{about}/METADATA": "\n".join(["Metadata-Version: 2.1", *lines, ""]),
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = f"{about}/RECORD"
    contents[record] = "".join(f"{each},,\n" for each in [*contents, record])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in contents.items():
            archive.writestr(each, text)
    return path


class Workshop:
    """A folder of an operator with `app/` and `wheels/`, in which the command is run without any package index."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.app, self.wheels = root, root / "app", root / "wheels"
        self.output = root / "function.zip"
        self.capsys = capsys
        self.wheels.mkdir()
        self.write("app.py", "import tea\n")
        self.require("tea")
        make_wheel(self.wheels, "tea")

    def write(self, name: str, text: str = "") -> Path:
        path = self.app / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def require(self, *requirements: str) -> None:
        self.write("requirements.txt", "\n".join(requirements))

    def run(self, *arguments: str, sources: Sequence[Path] = ()) -> tuple[int, str, str]:
        """Run the command; gives its exit code, its output and what it said beside that."""
        named = map(str, sources or [self.app])
        where = ["--find-links", str(self.wheels), "--no-index", "--quiet"]
        if "--output-dir" not in arguments:
            where += ["--output", str(self.output)]
        code = main(["package", "lambda", *named, *where, *arguments])
        out, said = self.capsys.readouterr()
        return code, out, said

    def pack(self, *arguments: str, sources: Sequence[Path] = ()) -> str:
        """Run the command without bytecode, which must succeed; gives what it said beside its output."""
        code, _, said = self.run("--no-bytecode", *arguments, sources=sources)
        assert code == 0, said
        return said

    def refused(self, *arguments: str, sources: Sequence[Path] = ()) -> str:
        """Run the command, which must fail and leave nothing; gives what it said."""
        code, out, said = self.run("--no-bytecode", *arguments, sources=sources)
        assert code == 1
        assert out == ""
        assert not [path for path in self.root.iterdir() if "function.zip" in path.name]
        return said

    def report(self, *arguments: str) -> dict[str, Any]:
        code, out, said = self.run("--json", *arguments)
        assert code == 0, said
        return json.loads(out)

    def names(self) -> set[str]:
        """The operator's files in the artefact."""
        with zipfile.ZipFile(self.output) as archive:
            return {name for name in archive.namelist() if not name.startswith("tea")} - {"packaged.lock.txt"}

    def read(self, name: str) -> str:
        with zipfile.ZipFile(self.output) as archive:
            return archive.read(name).decode()

    def modes(self) -> dict[str, int]:
        with zipfile.ZipFile(self.output) as archive:
            return {each.filename: each.external_attr >> 16 & 0o777 for each in archive.infolist()}
