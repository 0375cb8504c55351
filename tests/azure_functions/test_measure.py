"""The measuring machinery that the benchmarks use gives figures."""

from __future__ import annotations

import pytest

from tests.support.functions_measure import SOURCES, chunk_delays, compare_calls, compare_invocations

pytestmark = pytest.mark.needs("functions-worker")


async def test_calls_are_timed_through_host_and_worker() -> None:
    figures = await compare_calls({"extension": SOURCES["extension"]}, calls=4, block=2)
    assert figures["extension"].count == 4
    assert 0 < figures["extension"].p50 <= figures["extension"].p99


async def test_invocations_are_timed_inside_the_worker() -> None:
    figures = await compare_invocations({"buffered": SOURCES["buffered"]}, calls=4, block=2)
    assert figures["buffered"].count == 4


async def test_chunks_are_timed_from_the_app_to_the_caller() -> None:
    figures = await chunk_delays(SOURCES["extension"], chunks=5, pause=0.01)
    assert figures.count == 5
    assert 0 < figures.p99 < 1000
