"""What a turn costs in store round trips."""

from __future__ import annotations

import threading

import pytest

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting.state.memory import MemoryStore
from tests.hosting.protocol.channel import TurnChannel, post_turn, started
from tests.hosting.protocol.diary import LARGE, Diary, hosted, request, say
from tests.support.stores import CountingStore

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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("padding", "before", "after", "operations"), [(0, 2, 1, (2, 1)), (LARGE, 2, 2, (3, 2))], ids=["inline", "large"]
)
async def test_round_trips_of_a_turn(
    store: CountingStore, padding: int, before: int, after: int, operations: tuple[int, int], stream: bool
) -> None:
    meter = Meter(store)
    async with hosted(store, Diary(meter, padding=padding)) as context:
        await say(context, KEY, "one")
        store.reset()
        if stream:
            await (await context.run_stream(request(KEY, "two"))).get_final_response()
        else:
            await say(context, KEY, "two")
        assert (meter.before, store.rounds) == (before, after)
        assert (meter.operations, store.operations) == operations


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
