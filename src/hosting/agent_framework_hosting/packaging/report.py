"""What is in an artefact and how large it is: for people, and as one object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..commands.printing import shown_size
from .artefact import Sizes
from .platforms import Limit, Target

LISTED = 10


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    sizes: Sizes


@dataclass(frozen=True)
class Report:
    """What came of it. `whole` is the artefact: zipped, the size of the file; `own` is the operator's code in it."""

    output: Path
    as_folder: bool
    target: Target
    limits: Sequence[Limit]
    packages: Sequence[Package]
    own: Sizes
    whole: Sizes
    bytecode: bool
    left_out: Sequence[str]

    @property
    def largest_first(self) -> list[Package]:
        return sorted(self.packages, key=lambda each: (-each.sizes.unzipped, each.name))

    def passed(self) -> Iterator[str]:
        """Yield what to say of each limit that is passed by this artefact."""
        for limit in self.limits:
            size = self.measured(limit)
            if size > limit.size and (limit.of_folders or not self.as_folder):
                yield f"{self.output} is {shown(size)} {limit.measured}, {shown(limit.size)} allowed: {limit.advice}"

    def measured(self, limit: Limit) -> int:
        return self.whole.zipped if limit.measured == "zipped" else self.whole.unzipped

    def limit(self, measured: str) -> int:
        return next(limit.size for limit in self.limits if limit.measured == measured)

    def table(self) -> str:
        """Give the ten largest packages and the rest, the totals, the limits and what is left of them."""
        packages = self.largest_first
        rows: list[tuple[str, str, Sizes]] = [(each.name, each.version, each.sizes) for each in packages[:LISTED]]
        if rest := packages[LISTED:]:
            rows.append((f"{len(rest)} more", "", sum((each.sizes for each in rest), Sizes())))
        limits = Sizes(self.limit("unzipped"), self.limit("zipped"))
        left = Sizes(limits.unzipped - self.whole.unzipped, limits.zipped - self.whole.zipped)
        rows += [("your code", "", self.own), ("in all", "", self.whole), ("limit", "", limits), ("left", "", left)]
        name = max(len(row[0]) for row in rows)
        version = max(len("VERSION"), *(len(row[1]) for row in rows))
        lines = [f"{'PACKAGE':{name}}  {'VERSION':{version}}  {'UNZIPPED':>9}  {'ZIPPED':>9}"]
        lines += [f"{a:{name}}  {b:{version}}  {shown(c.unzipped):>9}  {shown(c.zipped):>9}" for a, b, c in rows]
        return "\n".join([*lines, "", self.summary()])

    def summary(self) -> str:
        compiled = "with bytecode" if self.bytecode else "without bytecode"
        said = f"{self.output}: {self.target}, {compiled}."
        if self.left_out:
            said += f"\nLeft out, because the runtime has them: {', '.join(self.left_out)}."
        return said

    def as_json(self) -> dict[str, Any]:
        """Give the same as an object; sizes are bytes."""
        return {
            "artefact": str(self.output),
            "folder": self.as_folder,
            "architecture": self.target.architecture,
            "python": self.target.python,
            "bytecode": self.bytecode,
            "packages": [
                {"name": each.name, "version": each.version, **sizes(each.sizes)} for each in self.largest_first
            ],
            "code": sizes(self.own),
            **sizes(self.whole),
            "limits": {limit.measured: limit.size for limit in self.limits},
            "left": {limit.measured: limit.size - self.measured(limit) for limit in self.limits},
            "left_out": list(self.left_out),
            "passed": list(self.passed()),
        }


def sizes(of: Sizes) -> dict[str, int]:
    return {"unzipped": of.unzipped, "zipped": of.zipped}


def shown(size: int) -> str:
    return shown_size(size) if size >= 0 else f"-{shown_size(-size)}"
