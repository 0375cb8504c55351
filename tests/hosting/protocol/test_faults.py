"""Every operation of a turn, or of a reset, goes wrong in every way; then another instance goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_framework_hosting import ChannelContext
from agent_framework_hosting.errors import HostingError
from tests.hosting.protocol.diary import LONG, hosted, request
from tests.hosting.protocol.modes import MODES, Mode
from tests.hosting.protocol.questions import answer
from tests.support.faults import ManualClock
from tests.support.stores import (
    Fault,
    FaultStore,
    away,
    cut,
    landed,
    late_request,
    lost_answer,
    lost_request,
    slow,
    twice,
)

FAULTS = [away, cut, late_request, lost_answer, lost_request, slow, twice]


async def take(context: ChannelContext, key: str, mode: Mode, how: dict[str, Any]) -> bool:
    """Take the mode's turn, and tell whether it was answered."""
    try:
        if how.get("reset"):
            await context.reset_session(key)
        elif how.get("stream"):
            await (await context.run_stream(request(key, mode.word))).get_final_response()
        elif "responses" in how:
            await answer(context, key, how["responses"])
        else:
            await context.run(request(key, mode.word, fresh=how.get("fresh", False)))
    except HostingError:
        return False
    return True


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_a_turn_survives_a_fault_of_any_operation(store: FaultStore, mode: Mode, fault: Fault) -> None:
    async def check(nth: int) -> None:
        key, faulty = f"chat:{nth}", FaultStore(store)
        async with hosted(faulty, mode.target(), LONG) as context:
            how = await mode.begin(context, key)
            faulty.plan(fault, nth=nth)
            answered = await take(context, key, mode, how)
            faulty.clear()
            await landed()
        words = await mode.read(store, key)
        before, after = list(mode.before), mode.after(list(mode.before))
        assert words == after if answered else words in (before, after)
        assert answered or fault is not slow
        clock = ManualClock()
        async with hosted(store, mode.target(), LONG, clock=clock, sleep=clock.sleep) as elsewhere:
            assert await mode.say(elsewhere, key, "next") == f"{len(words) + 1}: next"
        assert await mode.read(store, key) == [*words, "next"]

    await asyncio.gather(*[check(nth) for nth in range(1, mode.operations + 2)])
