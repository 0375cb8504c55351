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
TEST_FOLDERS = {"_tests", "test", "tests"}


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
    holding = {parent for name in files if TEST.fullmatch(PurePosixPath(name).name) for parent in parents(name)}
    for folder in sorted(parent for parent in holding if parent.name in TEST_FOLDERS):
        modules = (name for name in files if name.endswith(".py") and folder not in parents(name))
        if not any(imports(PurePosixPath(name), files[name].read(), folder) for name in modules):
            yield folder.as_posix()


def imports(module: PurePosixPath, text: bytes, folder: PurePosixPath) -> bool:
    """Tell whether a module imports from the folder, or has its name in quotes; in doubt it does."""
    dotted, name = re.escape(".".join(folder.parts)), re.escape(folder.name)
    if re.search(rf"(?:\bfrom\s+|\bimport\s+|[\"']){dotted}\b".encode(), text):
        return True
    relative = rf"\bfrom\s+(\.+)(?:{name}\b|\s+import\b[^\n]*\b{name}\b)".encode()
    dots = (len(found[1]) for found in re.finditer(relative, text))
    return any(tuple(module.parts[:-count]) == folder.parent.parts for count in dots)


def parents(name: str) -> list[PurePosixPath]:
    return list(PurePosixPath(name).parents)[:-1]
