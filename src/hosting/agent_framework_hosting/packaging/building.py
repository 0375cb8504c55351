"""Building an artefact, step by step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import ConfigurationError
from . import bytecode, ours, programs
from .artefact import LISTING, File, Sizes, replaceable, write_folder, write_zip
from .checking import check
from .distributions import Distribution, brought, installed, rewritten
from .installing import Wanted, install, pinned_to
from .platforms import Platform, Target
from .pruning import pruned
from .report import Package, Report
from .sources import Tell, clashes, collect


@dataclass(frozen=True)
class Order:
    """What to build. `output` is a zip file, or a folder where `as_folder`."""

    platform: Platform
    target: Target
    sources: Sequence[Path]
    requirements: Path
    output: Path
    as_folder: bool = False
    constraints: Sequence[Path] = ()
    find_links: Sequence[Path] = ()
    no_index: bool = False
    # Whether to pack what the platform's runtime has, and bytecode.
    with_supplied: bool = False
    with_bytecode: bool = True
    # A module to import from the artefact.
    check: str | None = None


@dataclass
class Builder:
    """Builds what was ordered; `tell` hears of what somebody may miss, `progress` of what goes on."""

    order: Order
    tell: Tell
    progress: Tell
    left_out: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.root = ours.here()
        self.uv = programs.uv(self.root)

    @cached_property
    def python(self) -> Path | None:
        """A Python of the target's version; looked for when it is needed, which may take a second."""
        return programs.python(self.order.target.python, self.uv)

    def run(self) -> Report:
        """Build.

        Raises:
            ConfigurationError: Something that was named is not there or not fit; the message says what and why.
        """
        order = self.order
        if order.as_folder:
            replaceable(order.output)
        own = self.own_files()
        with tempfile.TemporaryDirectory(prefix="af-hosting-") as folder:
            work = Path(folder)
            self.progress(f"Installing for {order.target}")
            distributions = self.kept(self.install(work))
            files = {**own, **packed(own, distributions)}
            if order.with_bytecode:
                files |= self.compile(files, work / "bytecode")
            for each in distributions:
                record = rewritten(each.name, [name for name, file in files.items() if file.owner == each.name])
                files[record.name] = record
            files[LISTING] = File(LISTING, listing(order.target, distributions))
            self.progress(f"Writing {order.output}")
            report = self.write(files, distributions, work)
        if order.check is not None:
            self.progress(f"Importing {order.check} from {order.output}")
            check(order.output, order.check, order.target, self.python)
        return report

    def own_files(self) -> dict[str, File]:
        order = self.order
        own = collect(order.sources, apart_from=[order.output, *order.find_links], tell=self.tell)
        if LISTING in own:
            raise ConfigurationError(f"{LISTING} is the name of the list of what is packed: rename yours.")
        return own

    def install(self, work: Path) -> list[Distribution]:
        """Install into a folder below `work`, with our distributions from the wheels that are here."""
        order = self.order
        wheels = self.wheels_of_ours(work)
        constraints = [*order.constraints, pinned_to(wheels, work / "ours.txt")] if wheels else order.constraints
        wanted = Wanted([order.requirements], constraints, order.find_links, order.no_index)
        python = None if self.uv is not None else self.python
        install(order.target, wanted, work / "installed", uv=self.uv, python=python)
        return installed(work / "installed")

    def wheels_of_ours(self, work: Path) -> Mapping[str, Path]:
        """Find the wheels of ours, or build them: those of --find-links count first, those in a `dist/` nearby last."""
        order = self.order
        wanted = ours.required(order.requirements)
        for path in (each for folder in order.find_links for each in folder.glob("*.whl")):
            ours.check(path)
        given = ours.wheels(order.find_links, wanted)
        folders = ours.sources(self.root)
        missing = [name for name in ours.needed(wanted, folders) if name not in given]
        if missing:
            self.progress(f"Building {len(missing)} of our wheels from their sources")
        ours.build(missing, folders, work / "wheels", uv=self.uv, root=self.root)
        nearby = {Path.cwd() / "dist", order.requirements.resolve().parent / "dist"}
        return {**ours.wheels(nearby, wanted), **ours.wheels([work / "wheels"], {}), **given}

    def kept(self, distributions: Sequence[Distribution]) -> list[Distribution]:
        """Leave out what the platform's runtime has."""
        order = self.order
        if order.with_supplied:
            return list(distributions)
        asked = ours.required(order.requirements)
        brings = brought(distributions, asked, order.platform.supplied, order.platform.supplied_beside)
        self.left_out = sorted(brings)
        return [each for each in distributions if each.name not in brings]

    def compile(self, files: Mapping[str, File], folder: Path) -> dict[str, File]:
        target, root = self.order.target, self.order.platform.root
        if self.python is None:
            self.tell(
                f"There is no bytecode in it, for Python {target.python} was not found here: each cold start compiles "
                "everything anew. Put that Python on PATH, or uv, which finds its own."
            )
            return {}
        self.progress("Compiling")
        made = bytecode.compiled(files.values(), self.python, target.python, root, folder)
        return {file.name: file for file in made}

    def write(self, files: Mapping[str, File], distributions: Sequence[Distribution], work: Path) -> Report:
        order = self.order
        executable = order.platform.executables
        final = [File(f.name, f.content, 0o755 if f.name in executable else f.mode, f.owner) for f in files.values()]
        # A folder is zipped too, for its size: that is what will be uploaded.
        path = work / "measured.zip" if order.as_folder else order.output
        sizes = write_zip(final, path)
        zipped = path.stat().st_size
        if order.as_folder:
            write_folder(final, order.output)
        versions = {each.name: each.version for each in distributions}
        return Report(
            order.output,
            order.as_folder,
            order.target,
            order.platform.limits,
            packages=[Package(name, versions[name], total(final, sizes, name)) for name in versions],
            own=total(final, sizes, ""),
            whole=Sizes(sum(each.unzipped for each in sizes.values()), zipped),
            bytecode=any(name.endswith(".pyc") for name in files),
            left_out=self.left_out,
        )


def packed(own: Mapping[str, File], distributions: Iterable[Distribution]) -> dict[str, File]:
    """Give the files of the distributions that are packed, none of which may be one of the operator's."""
    files = {name: file for each in distributions for name, file in pruned(each.files).items()}
    clashes(own, files)
    return files


def listing(target: Target, distributions: Iterable[Distribution]) -> bytes:
    lines = [f"# {target}", *(f"{each.name}=={each.version}" for each in distributions)]
    return "".join(f"{line}\n" for line in lines).encode()


def total(files: Iterable[File], sizes: Mapping[str, Sizes], owner: str) -> Sizes:
    return sum((sizes[file.name] for file in files if file.owner == owner), Sizes())
