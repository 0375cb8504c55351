"""Which of the operator's files go into an artefact: code and data, and nothing that may be a secret."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from ..commands.printing import shown_key
from ..errors import ConfigurationError
from .artefact import File, permissions

FOLDERS = {"__pycache__", "node_modules", "tests"}
# Left out of the top of a source, unless they are packages.
PRODUCTS = {"build", "dist"}
TOOLS = {".git", ".venv", ".tools", ".aws-sam", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".idea"}
# Tests, and what tools made.
FILES = re.compile(r"test_.*\.py|.*_test\.py|conftest\.py|.*\.(?:pyc|pyo|whl)")
# Names under which secrets are usually kept, beside those that begin with a dot.
SECRETS = re.compile(r"local\.settings\.json|.*\.(?:key|p12|pfx|jks|kdbx)|id_(?:rsa|dsa|ecdsa|ed25519)", re.IGNORECASE)
PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY")
LARGEST_KEY = 64 * 1024

Tell = Callable[[str], None]


def collect(sources: Sequence[Path], *, apart_from: Sequence[Path], tell: Tell) -> dict[str, File]:
    """Give the files of the sources by their names in the artefact: a file under its own name, a folder's contents.

    `apart_from` are files and folders of this run that are never packed; `tell` hears what was left out that somebody
    may miss.

    Raises:
        ConfigurationError: A source is not there or may be a secret, or two of them have a file of one name.
    """
    apart = {path.resolve() for path in apart_from}
    found: dict[str, File] = {}
    for source in sources:
        for name, path in chosen(source, apart, tell):
            file = File(name, path, permissions(path.stat()))
            if name in found and found[name].read() != file.read():
                raise ConfigurationError(f"{found[name].content} and {path} would both be {name}: rename one of them.")
            found[name] = file
    return found


def chosen(source: Path, apart: set[Path], tell: Tell) -> Iterator[tuple[str, Path]]:
    """Yield names and real paths."""
    if not source.exists():
        raise ConfigurationError(f"There is no {source}. Name files or folders of your own code.")
    if source.is_dir():
        yield from contents(source.resolve(), apart, tell)
        return
    for path in (source, source.resolve()):
        if why := secret(path.name, source):
            raise ConfigurationError(f"{source} is not packed: {why} Give the function such values as settings.")
    yield source.name, source.resolve()


def contents(root: Path, apart: set[Path], tell: Tell) -> Iterator[tuple[str, Path]]:
    """Yield what of a folder is packed."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        kept = [name for name in sorted(folders) if packed_folder(here / name, root, apart, tell)]
        folders[:] = kept
        for name in sorted(names):
            path = here / name
            if path.resolve() not in apart and not FILES.fullmatch(name) and packed_file(path, root, tell):
                yield path.relative_to(root).as_posix(), path.resolve()


def packed_folder(path: Path, root: Path, apart: set[Path], tell: Tell) -> bool:
    shown = printable(path, root)
    if path.name in FOLDERS | TOOLS or path.resolve() in apart or path.name.endswith((".egg-info", ".dist-info")):
        return False
    if path.is_symlink():
        tell(f"{shown} is left out: it is a link to a folder. Name that folder as a source of its own.")
        return False
    if not is_text(path.name):
        tell(f"{shown} is left out: its name is not UTF-8.")
        return False
    if path.name.startswith("."):
        tell(f"{shown} is left out: its name begins with a dot, so it may hold secrets.")
        return False
    if path.name == "test" and any(FILES.fullmatch(child.name) for child in path.iterdir()):
        return False
    product = path.name in PRODUCTS and path.parent == root and not (path / "__init__.py").exists()
    return not product and not (path / "pyvenv.cfg").exists()


def packed_file(path: Path, root: Path, tell: Tell) -> bool:
    shown, real = printable(path, root), path.resolve()
    if not real.exists():
        tell(f"{shown} is left out: it is a link to nothing.")
    elif not real.is_relative_to(root):
        tell(f"{shown} is left out: it is a link out of {root.name}. Name the file as a source of its own.")
    elif not stat.S_ISREG(real.stat().st_mode):
        tell(f"{shown} is left out: it is no file.")
    elif not is_text(path.name):
        tell(f"{shown} is left out: its name is not UTF-8.")
    elif why := next(filter(None, (secret(part, real) for part in (path.name, *real.relative_to(root).parts))), None):
        tell(f"{shown} is left out: {why}")
    else:
        return True
    return False


def printable(path: Path, root: Path) -> str:
    return shown_key(path.relative_to(root).as_posix(), longest=None)


def is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def secret(name: str, path: Path) -> str | None:
    """Say why a file of this name, at this path, may be a secret; None if it is none."""
    if name.startswith("."):
        return "its name begins with a dot, so it may hold secrets."
    if SECRETS.fullmatch(name):
        return "a file of that name holds secrets."
    if path.stat().st_size <= LARGEST_KEY and PRIVATE_KEY.search(path.read_bytes()):
        return "it holds a private key."
    return None


def clashes(own: Mapping[str, File], installed: Mapping[str, File]) -> None:
    """See that no file of the operator's takes the place of one of a package.

    Raises:
        ConfigurationError: One would.
    """
    if both := sorted(own.keys() & installed.keys()):
        raise ConfigurationError(
            f"{both[0]} is a file of your code and one of {installed[both[0]].owner}: rename yours, or leave it out."
        )
