"""What a response costs in store round trips, before the run and after it."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette

from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting_responses import ResponsesChannel
from tests.hosting.protocol.diary import Diary
from tests.hosting.protocol.test_costs import Meter
from tests.support.asgi import Reply, call, post_json
from tests.support.responses_server import AUTH, OPS, running, store_app
from tests.support.stores import CountingStore

AS_OPS = {"authorization": f"Bearer {OPS}"}
STREAM = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(MemoryStore())


@pytest.fixture
def meter(store: CountingStore) -> Meter:
    return Meter(store)


@pytest.fixture
async def app(store: CountingStore, meter: Meter) -> AsyncIterator[Starlette]:
    async with running(store_app(Diary(meter), store, ResponsesChannel(auth=AUTH))) as app:
        yield app


async def cost(app: Starlette, meter: Meter, **body: Any) -> tuple[tuple[int, int], Reply]:
    """Make a response, and give its round trips before and after the run."""
    meter.store.reset()
    reply = await post_json(app, "/responses", {"input": "hi", **body}, AS_OPS)
    assert reply.status == 200
    return (meter.before, meter.store.rounds), reply


def leased() -> bool:
    return any(thread.name == "hosting-lease-renewal" for thread in threading.enumerate())


@STREAM
async def test_what_begins_costs_one_write(app: Starlette, meter: Meter, stream: bool) -> None:
    assert (await cost(app, meter, stream=stream))[0] == (0, 1)
    assert [operation.kind for operation in meter.store.log] == ["put"]
    assert not leased()


@STREAM
async def test_what_goes_on_costs_one_read_and_one_write_and_no_lease(
    app: Starlette, meter: Meter, stream: bool
) -> None:
    _, first = await cost(app, meter)
    for _ in range(2):
        spent, _ = await cost(app, meter, stream=stream, previous_response_id=first.json["id"])
        assert (spent, meter.operations) == ((1, 1), 1)
        assert [operation.kind for operation in meter.store.log] == ["put"]
    assert not leased()


@STREAM
async def test_what_is_not_stored_costs_nothing_to_begin_and_a_read_to_go_on(
    app: Starlette, meter: Meter, stream: bool
) -> None:
    assert (await cost(app, meter, stream=stream, store=False))[0] == (0, 0)
    _, first = await cost(app, meter)
    spent, _ = await cost(app, meter, stream=stream, store=False, previous_response_id=first.json["id"])
    assert spent == (1, 0)
    assert not leased()


@STREAM
async def test_a_conversation_costs_its_lease_and_a_write_of_its_own_for_the_response(
    app: Starlette, meter: Meter, stream: bool
) -> None:
    conversation = (await post_json(app, "/conversations", {}, AS_OPS)).json["id"]
    for _ in range(3):
        assert (await cost(app, meter, stream=stream, conversation=conversation))[0] == (2, 2)


async def test_reading_costs_one_round_trip(app: Starlette, meter: Meter, store: CountingStore) -> None:
    _, made = await cost(app, meter)
    for path in ("", "/input_items"):
        store.reset()
        assert (await call(app, "GET", f"/responses/{made.json['id']}{path}", headers=AS_OPS)).status == 200
        assert (store.rounds, store.operations) == (1, 1)


async def test_refusals_cost_at_most_one_read(app: Starlette, store: CountingStore) -> None:
    for body, reads in (
        ({"temperature": 1}, 0),
        ({"previous_response_id": "resp_" + "0" * 48}, 1),
        ({"conversation": "conv_" + "0" * 48}, 1),
        ({"conversation": "conv_1"}, 0),
    ):
        store.reset()
        assert (await post_json(app, "/responses", {"input": "hi", **body}, AS_OPS)).status in (400, 404)
        assert [operation.kind for operation in store.log] == ["get"] * reads
