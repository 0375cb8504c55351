"""What of a distribution a running function does not read: tests, type stubs, C sources, notes of the installer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from .artefact import File

# Those of a `.dist-info` that say how and from where it was installed; RECORD is written anew.
NOTES = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_build.json", "uv_cache.json", "RECORD.jws"}
SOURCES = {".a", ".c", ".cc", ".cpp", ".cxx", ".lib", ".pxd", ".pxi", ".pyi", ".pyx"}
TEST = re.compile(r"test_.*\.py|.*_test\.py|conftest\.py")
TEST_FOLDERS = {"test", "tests"}


def pruned(files: Mapping[str, File]) -> dict[str, File]:
    """Give those files of one distribution that are packed."""
    folders = tuple(f"{folder}/" for folder in test_folders(files))
    return {name: file for name, file in files.items() if not name.startswith(folders) and is_read(name, files)}


def is_read(name: str, files: Mapping[str, File]) -> bool:
    path = PurePosixPath(name)
    if "__pycache__" in path.parts:
        return False
    if path.parts[0].endswith(".dist-info"):
        return path.name not in NOTES or len(path.parts) > 2
    return path.suffix not in SOURCES or (path.suffix == ".pyi" and attached(path, files))


def attached(stub: PurePosixPath, files: Mapping[str, File]) -> bool:
    """Tell whether a module reads its own stub, as lazy_loader's `attach_stub` does."""
    module = files.get(stub.with_suffix(".py").as_posix())
    return module is not None and b"attach_stub" in module.read()


def test_folders(files: Mapping[str, File]) -> Iterator[str]:
    """Yield folders of tests that no module outside of them imports."""
    parents = {parent for name in files if TEST.fullmatch(PurePosixPath(name).name) for parent in all_parents(name)}
    for folder in sorted(parent.as_posix() for parent in parents if parent.name in TEST_FOLDERS):
        dotted = re.escape(folder.replace("/", "."))
        name = re.escape(PurePosixPath(folder).name)
        imported = re.compile(
            rf"(?:\bfrom\s+|\bimport\s+|[\"']){dotted}\b|\bfrom\s+\.+{name}\b|\bfrom\s+\.+\s+import\b[^\n]*\b{name}\b".encode()
        )
        outside = (each for each in files if each.endswith(".py") and not each.startswith(f"{folder}/"))
        if not any(imported.search(files[each].read()) for each in outside):
            yield folder


def all_parents(name: str) -> list[PurePosixPath]:
    return list(PurePosixPath(name).parents)[:-1]
