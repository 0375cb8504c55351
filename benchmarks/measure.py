"""Compares variants in one run, side by side, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Block = Callable[[], float]
"""Does a short block of the work and returns the seconds of one operation."""

Samples = Mapping[str, Sequence[float]]
"""Seconds of one operation by variant, one for each round."""


def interleave(variants: Mapping[str, Block], *, rounds: int, warm_up: int = 2) -> Samples:
    """Run one block of every variant in each round, every other round in reverse order."""
    for _ in range(warm_up):
        for block in variants.values():
            block()
    samples: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants.items())
    gc.collect()
    for _ in range(rounds):
        for name, block in order:
            samples[name].append(block())
        order.reverse()
    return samples


def repeated(operation: Callable[[], object], count: int) -> Block:
    """Make a block of `count` operations that gives the median of their times."""

    def block() -> float:
        seconds: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            operation()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    return block


@dataclass(frozen=True)
class Ratio:
    """One variant against another: medians in seconds, and the median and quartiles of the rounds' ratios."""

    ours: float
    base: float
    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], base: Sequence[float]) -> Ratio:
        low, ratio, high = statistics.quantiles([a / b for a, b in zip(ours, base, strict=True)], n=4)
        return cls(statistics.median(ours), statistics.median(base), ratio, low, high)


def percentile(values: Sequence[float], part: float) -> float:
    """Give the value that `part` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
