"""What a turn costs in store round trips."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent_framework_hosting import AgentFrameworkHost, ChannelContext
from agent_framework_hosting.state.memory import MemoryStore
from tests.hosting.protocol.channel import TurnChannel, post_turn, started
from tests.hosting.protocol.diary import LARGE, Diary, hosted, request, say
from tests.hosting.protocol.questions import asking
from tests.support.stores import CountingStore, FaultStore

KEY = "chat:1"


class Meter:
    """An agent's `between` that notes the rounds before the run and counts anew after it."""

    def __init__(self, store: CountingStore) -> None:
        self.store = store
        self.before = 0
        self.operations = 0

    async def __call__(self, word: str) -> None:
        self.before, self.operations = self.store.rounds, self.store.operations
        self.store.reset()


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(MemoryStore())


async def cost(context: ChannelContext, meter: Meter, *, stream: bool = False) -> tuple[tuple[int, int], ...]:
    """Take a turn, and give its rounds and its operations, each before the run and after it."""
    store = meter.store
    store.reset()
    if stream:
        await (await context.run_stream(request(KEY, "word"))).get_final_response()
    else:
        await context.run(request(KEY, "word"))
    return (meter.before, store.rounds), (meter.operations, store.operations)


STREAM = pytest.mark.parametrize("stream", [False, True])


@STREAM
@pytest.mark.parametrize(
    ("padding", "rounds", "operations"), [(0, (2, 1), (2, 1)), (LARGE, (2, 2), (3, 2))], ids=["inline", "large"]
)
async def test_round_trips_of_a_turn(
    store: CountingStore, padding: int, rounds: tuple[int, int], operations: tuple[int, int], stream: bool
) -> None:
    meter = Meter(store)
    async with hosted(store, Diary(meter, padding=padding)) as context:
        await say(context, KEY, "one")
        assert await cost(context, meter, stream=stream) == (rounds, operations)


WORKFLOWS: dict[str, Callable[[Meter], Any]] = {
    "workflow": asking,
    "factory": lambda meter: lambda: asking(meter),
    "workflow agent": lambda meter: asking(meter).as_agent("asking"),
}


@STREAM
@pytest.mark.parametrize("kind", WORKFLOWS)
async def test_round_trips_of_a_workflow(store: CountingStore, kind: str, stream: bool) -> None:
    """After the run its checkpoint is written, and then the head that names it."""
    meter = Meter(store)
    async with hosted(store, WORKFLOWS[kind](meter)) as context:
        assert await cost(context, meter, stream=stream) == ((2, 2), (2, 2))
        assert await cost(context, meter, stream=stream) == ((2, 2), (3, 2))


@pytest.mark.parametrize(
    "target",
    [Diary, lambda meter: Diary(meter, padding=LARGE), *WORKFLOWS.values()],
    ids=["agent", "agent with a large session", *WORKFLOWS],
)
async def test_a_long_conversation_among_many_costs_what_a_young_one_does(target: Callable[[Meter], Any]) -> None:
    everything = FaultStore(MemoryStore())
    meter = Meter(CountingStore(everything))
    async with hosted(meter.store, target(meter)) as context:
        for _ in range(2):  # From the third turn on something older is removed.
            await context.run(request(KEY, "word"))
        young = await cost(context, meter)
        for key in [*[KEY] * 200, *[f"chat:{number}" for number in range(2, 302)]]:
            await context.run(request(key, "word"))
        assert await cost(context, meter) == young
    assert everything.names("list") == []


async def test_round_trips_of_a_new_conversation(store: CountingStore) -> None:
    meter = Meter(store)
    async with hosted(store, Diary(meter)) as context:
        await say(context, KEY, "one")
        assert (meter.before, store.rounds) == (2, 1)


async def test_round_trips_of_a_conversation_that_nobody_else_can_know(store: CountingStore) -> None:
    meter = Meter(store)
    async with hosted(store, Diary(meter)) as context:
        await say(context, KEY, "one", fresh=True)
        assert (meter.before, store.rounds) == (0, 1)
        assert not [thread for thread in threading.enumerate() if thread.name == "hosting-lease-renewal"]
        store.reset()
        await say(context, "child", "two", fresh=True, parent=KEY)
        assert (meter.before, store.rounds) == (1, 1)


async def test_no_round_trips_without_a_conversation(store: CountingStore) -> None:
    async with hosted(store, Diary()) as context:
        await say(context, None, "one")  # type: ignore[arg-type]
        assert store.operations == 0


async def test_no_round_trips_in_memory() -> None:
    host = AgentFrameworkHost(Diary(), channels=[TurnChannel()])
    async with started(host) as app:
        assert [(await post_turn(app, KEY, word)).json for word in ("one", "two")] == ["1: one", "2: two"]
        assert await host.state.sessions.list("") == []
