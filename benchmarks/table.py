"""Rows of the table, and what they are written into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .measure import Ratio

HEADINGS = ("figure", "ours", "against", "ratio (quartiles)", "target", "verdict")


@dataclass(frozen=True)
class Row:
    """One line; `reached` is None where there is no target."""

    figure: str
    ours: str
    base: str = ""
    ratio: str = ""
    target: str = ""
    reached: bool | None = None

    @property
    def verdict(self) -> str:
        return "" if self.reached is None else "reached" if self.reached else "**missed**"

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.figure, self.ours, self.base, self.ratio, self.target, self.verdict)


def compared(figure: str, ratio: Ratio, *, to: str, target: float | None = None) -> Row:
    """Make the row of a comparison; `to` says with what."""
    return Row(
        figure,
        duration(ratio.ours),
        f"{duration(ratio.base)} {to}",
        f"{ratio.ratio:.2f} ({ratio.low:.2f}–{ratio.high:.2f})",
        "" if target is None else f"≤ {target}",
        None if target is None else ratio.ratio <= target,
    )


def bounded(figure: str, seconds: float, *, bound: float) -> Row:
    """Make the row of a time with a bound of its own."""
    return Row(figure, duration(seconds), target=f"≤ {duration(bound)}", reached=seconds <= bound)


def reported(figure: str, seconds: float) -> Row:
    return Row(figure, duration(seconds))


def counted(figure: str, found: str, took: str, target: str, reached: bool) -> Row:
    """Make the row of something that is right or wrong."""
    return Row(figure, found, took, "", target, reached)


def failed(figure: str, error: BaseException) -> Row:
    """Make the row of a figure that could not be measured, which counts as missed."""
    reason = (str(error).splitlines() or [""])[0].replace("|", "/")
    return Row(figure, f"not measured: {type(error).__name__}: {reason}"[:200], reached=False)


def duration(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1000:.2f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def markdown(rows: Sequence[Row]) -> str:
    """Give the rows as a Markdown table, aligned to be read as text too."""
    lines = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([text[0], rule, *text[1:]]) + "\n"
