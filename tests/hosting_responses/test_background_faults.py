"""Responses in the background on a store that fails, and on instances that die: once and whole, or not at all."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import AgentSession, Message
from starlette.applications import Starlette

from agent_framework_hosting import AgentFrameworkHost, ChannelContext, HostLimits
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import StateStore
from agent_framework_hosting_responses import ResponsesChannel
from agent_framework_hosting_responses.service import Service
from tests.hosting.protocol.channel import started
from tests.support.asgi import Connection, Reply, call, post_json
from tests.support.channels import until
from tests.support.open_responses import check_event
from tests.support.responses_server import AUTH, OPS, running, store_app
from tests.support.sse import parse_events
from tests.support.stores import FaultStore, away, lost_answer, lost_request, twice
from tests.support.targets import ScriptedAgent, count

AS_OPS = {"authorization": f"Bearer {OPS}"}
LIMITS = HostLimits(lease=timedelta(seconds=0.6), turn_timeout=timedelta(seconds=20))
OVER = ("completed", "failed", "cancelled")
GROWS = pytest.mark.parametrize("grows", [False, True], ids=["alone", "in a conversation"])
QUEUE, WORK, GROW = 5, 4, 6
"""Operations that it takes to queue a response, to make it, and more where a conversation grows, at most."""


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once."""
    monkeypatch.setattr("agent_framework_hosting.state.holds.FIRST", 0.05)
    monkeypatch.setattr("agent_framework_hosting.inbox.RETRY", 0.05)


class Wait:
    """An agent's `act` that waits where the text is `wait`."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, messages: list[Message], session: AgentSession | None) -> list[str]:
        if messages[-1].text == "wait":
            self.reached.set()
            await self.go.wait()
        return count(messages, session)


def serve(store: StateStore, act: Any = None) -> Any:
    return running(store_app(ScriptedAgent(act), store, ResponsesChannel(auth=AUTH), LIMITS, working=True))


async def post(app: Starlette, text: str, **how: Any) -> Reply:
    """Ask for a response as one that a repeat is known of."""
    headers = {**AS_OPS, "idempotency-key": text}
    return await post_json(app, "/responses", {"input": text, **how}, headers)


async def queue(app: Starlette, text: str, conversation: str | None) -> Reply:
    return await post(app, text, background=True, conversation=conversation)


async def begin_conversation(app: Starlette) -> str:
    return (await post_json(app, "/conversations", {}, AS_OPS)).json["id"]


async def read(app: Starlette, id: str) -> Reply:
    return await call(app, "GET", f"/responses/{id}", headers=[*AS_OPS.items()])


async def replay(app: Starlette, id: str, after: int = -1) -> Reply:
    query = f"stream=true&starting_after={after}"
    async with Connection(app, "GET", f"/responses/{id}", [*AS_OPS.items()], query) as connection:
        connection.send(b"")
        return await connection.end()


async def cancel(app: Starlette, id: str) -> Reply:
    return await call(app, "POST", f"/responses/{id}/cancel", headers=[*AS_OPS.items()])


async def ended(app: Starlette, id: str) -> dict[str, Any]:
    while (reply := await read(app, id)).json.get("status") not in OVER:
        assert reply.status in (200, 503), reply.body
        await asyncio.sleep(0.02)
    return reply.json


def text_of(response: dict[str, Any]) -> str:
    return response["output"][0]["content"][0]["text"]


async def check_once(app: Starlette, made: Reply, conversation: str | None) -> None:
    """Make sure that a response is made, once, and that what goes on from it does so from one turn."""
    again = await queue(app, "a", conversation)
    assert again.status == 200, again.body
    assert made.status == 503 or made.json["id"] == again.json["id"]
    whole = await ended(app, again.json["id"])
    assert (whole["status"], text_of(whole)) == ("completed", "1: a")
    more = (await post(app, "b", previous_response_id=whole["id"])).json
    assert text_of(more) == "2: b"
    if conversation is not None:
        assert text_of((await post(app, "c", conversation=conversation)).json) == "2: c"


@GROWS
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, QUEUE + WORK + GROW + 1))
async def test_an_instance_that_dies_at_an_operation_leaves_it_to_another(nth: int, applied: bool, grows: bool) -> None:
    store = FaultStore(inner := MemoryStore())
    async with serve(store) as app:
        conversation = await begin_conversation(app) if grows else None
        if applied:
            store.plan(lost_answer, nth=nth)
        store.plan(away, nth=nth + applied, times=None)
        made = await queue(app, "a", conversation)
        assert made.status in (200, 503)
        while made.status == 200 and (now := await read(app, made.json["id"])).status == 200:
            if now.json["status"] in OVER:
                break
            await asyncio.sleep(0.01)
    async with serve(inner) as app:
        await check_once(app, made, conversation)


@GROWS
@pytest.mark.parametrize("fault", [away, lost_answer, lost_request, twice])
@pytest.mark.parametrize("nth", range(1, QUEUE + WORK + GROW + 1))
async def test_one_operation_that_goes_wrong_does_not_matter(nth: int, fault: Any, grows: bool) -> None:
    store = FaultStore(MemoryStore())
    async with serve(store) as app:
        conversation = await begin_conversation(app) if grows else None
        store.plan(fault, nth=nth)
        made = await queue(app, "a", conversation)
        assert made.status in (200, 503)
        if made.status == 200:
            await ended(app, made.json["id"])
        store.clear()
        await check_once(app, made, conversation)


@GROWS
@pytest.mark.parametrize("fault", [away, lost_answer, lost_request, twice])
@pytest.mark.parametrize("nth", range(1, 7))
async def test_what_is_cancelled_stays_so(nth: int, fault: Any, grows: bool) -> None:
    store, act = FaultStore(MemoryStore()), Wait()
    async with serve(store, act) as app:
        conversation = await begin_conversation(app) if grows else None
        made = await queue(app, "wait", conversation)
        async with asyncio.timeout(10):
            await act.reached.wait()
        store.plan(fault, nth=nth)
        first = await cancel(app, made.json["id"])
        assert first.status in (200, 503)
        store.clear()
        second = await cancel(app, made.json["id"])
        assert (second.status, second.json["status"]) == (200, "cancelled")
        act.go.set()
        if conversation is not None:
            more = await post(app, "b", conversation=conversation)
            assert text_of(more.json) == "1: b"
        assert (await read(app, made.json["id"])).json == second.json


@GROWS
async def test_what_could_not_be_accepted_is_taken_when_it_is_asked_for_again(grows: bool) -> None:
    store = FaultStore(MemoryStore())
    async with serve(store) as app:
        conversation = await begin_conversation(app) if grows else None
        store.plan(away, kind="put", name="in/", times=None)
        made = await queue(app, "a", conversation)
        unnamed = await post_json(app, "/responses", {"input": "b", "background": True}, AS_OPS)
        assert (made.status, unnamed.status) == (503, 503)
        store.clear()
        await check_once(app, made, conversation)


async def test_the_key_of_what_was_deleted_is_not_used_again() -> None:
    async with serve(MemoryStore()) as app:
        made = await queue(app, "a", None)
        await ended(app, made.json["id"])
        await call(app, "DELETE", f"/responses/{made.json['id']}", headers=[*AS_OPS.items()])
        again = await queue(app, "a", None)
        assert (again.status, again.json["error"]["param"]) == (400, "Idempotency-Key")
        assert "deleted" in again.json["error"]["message"]


@GROWS
async def test_of_many_that_cancel_while_it_ends_all_see_the_same(grows: bool) -> None:
    """Whatever comes first is what stays: a response is completed or cancelled, never one after the other."""
    ends: set[str] = set()
    for delay in range(12):
        act = Wait()
        async with serve(MemoryStore(), act) as app:
            conversation = await begin_conversation(app) if grows else None
            made = await queue(app, "wait", conversation)
            await until(act.reached.is_set)
            act.go.set()
            for _ in range(delay):
                await asyncio.sleep(0)
            replies = await asyncio.gather(*(cancel(app, made.json["id"]) for _ in range(4)))
            assert {reply.status for reply in replies} == {200}
            whole = await ended(app, made.json["id"])
            assert [reply.json for reply in replies] == [whole] * 4
            ends.add(whole["status"])
    assert ends == {"completed", "cancelled"}


class Impatient(ResponsesChannel):
    """Takes a response as given up at once where nobody knows of its update."""

    def service(self, context: ChannelContext) -> Service:
        service = super().service(context)
        service.accepting, service.follow_wait = 0.0, 0.0
        return service


async def test_what_waits_in_a_mailbox_that_is_gone_fails() -> None:
    """A response whose update was given up, or went with its conversation, does not stay queued for ever."""
    act = Wait()
    async with running(store_app(ScriptedAgent(act), MemoryStore(), Impatient(auth=AUTH), LIMITS, working=True)) as app:
        conversation = await begin_conversation(app)
        made = [await queue(app, text, conversation) for text in ("wait", "a")]
        await until(act.reached.is_set)
        deleted = await call(app, "DELETE", f"/conversations/{conversation}", headers=[*AS_OPS.items()])
        assert deleted.status == 200
        for reply in made:
            whole = await ended(app, reply.json["id"])
            assert (whole["status"], whole["error"]["code"]) == ("failed", "server_error")
            assert (await read(app, whole["id"])).json == whole
        act.go.set()


async def test_a_store_that_stays_away_fails_it_at_last() -> None:
    """The last attempt says what became of it, where it can."""
    store = FaultStore(MemoryStore())
    limits = HostLimits(update_attempts=1)
    app = store_app(ScriptedAgent(), store, ResponsesChannel(auth=AUTH), limits, working=True)
    async with running(app):
        first = await post(app, "a")
        # The parent's session cannot be read when it is time for it.
        path = store.names("put")[-1]
        store.plan(away, kind="get", name=path, nth=2, times=None)
        made = await post(app, "b", background=True, previous_response_id=first.json["id"])
        whole = await ended(app, made.json["id"])
        assert (whole["status"], whole["error"]["code"]) == ("failed", "server_error")


async def test_a_stream_that_has_waited_long_enough_ends_without_an_ending() -> None:
    act = Wait()
    async with running(store_app(ScriptedAgent(act), MemoryStore(), Impatient(auth=AUTH), LIMITS, working=True)) as app:
        body = {"input": "wait", "background": True, "stream": True}
        reply = await post_json(app, "/responses", body, AS_OPS)
        events = [msgspec.json.decode(event.data) for event in parse_events(reply.body)]
        assert [event["type"] for event in events] == ["response.created", "response.queued"]
        act.go.set()
        whole = await ended(app, events[0]["response"]["id"])
        rest = await replay(app, whole["id"], after=1)
        last = msgspec.json.decode(parse_events(rest.body)[-1].data)
        assert (last["type"], last["response"]) == ("response.completed", whole)


async def test_a_stream_tells_that_the_store_is_away() -> None:
    store, act = FaultStore(MemoryStore()), Wait()
    async with serve(store, act) as app:
        made = await queue(app, "wait", None)
        await until(act.reached.is_set)

        def fail() -> None:
            store.plan(away, kind="get", times=None)

        asyncio.get_running_loop().call_later(0.2, fail)
        reply = await replay(app, made.json["id"])
        events = [msgspec.json.decode(event.data) for event in parse_events(reply.body)]
        check_event(events[-1])
        assert (events[-1]["type"], events[-1]["error"]["type"]) == ("error", "server_error")
        assert [event["sequence_number"] for event in events] == [0, 1, 1]
        store.clear()
        act.go.set()
        assert (await ended(app, made.json["id"]))["status"] == "completed"


@GROWS
@pytest.mark.parametrize("fault", [away, lost_answer, lost_request, twice])
@pytest.mark.parametrize("nth", range(1, QUEUE + 1))
async def test_a_client_that_retries_without_a_key_doubles_nothing(nth: int, fault: Any, grows: bool) -> None:
    """As the official client does: again, unless it is told not to."""
    store, agent = FaultStore(MemoryStore()), ScriptedAgent()
    async with running(store_app(agent, store, ResponsesChannel(auth=AUTH), LIMITS, working=True)) as app:
        conversation = await begin_conversation(app) if grows else None
        store.plan(fault, nth=nth)
        body = {"input": "a", "background": True, "conversation": conversation}
        made = await post_json(app, "/responses", body, AS_OPS)
        store.clear()
        if made.status == 503 and dict(made.headers).get("x-should-retry") != "false":
            made = await post_json(app, "/responses", body, AS_OPS)
        if made.status == 200:
            assert made.json["status"] == "queued"
            assert (await ended(app, made.json["id"]))["status"] == "completed"
        if conversation is not None:
            more = await post(app, "b", conversation=conversation)
            assert text_of(more.json) in ("1: b", "2: b")
        assert [messages[-1].text for messages in agent.heard].count("a") <= 1


async def test_a_copy_has_no_part_of_later_turns() -> None:
    """The turn is saved and its copy fails; before the next attempt somebody says more."""
    store, act = FaultStore(MemoryStore()), Wait()
    async with serve(store, act) as app:
        conversation = await begin_conversation(app)
        made = await queue(app, "wait", conversation)
        await until(act.reached.is_set)
        # The queued record is read for the copy, and cannot be.
        record = store.names("put")[1]
        store.plan(away, kind="get", name=record, times=3)
        act.go.set()
        more = await post(app, "more", conversation=conversation)
        assert text_of(more.json) == "2: more"
        store.clear()
        whole = await ended(app, made.json["id"])
        assert (whole["status"], text_of(whole)) == ("completed", "1: wait")
        fork = await post(app, "fork", previous_response_id=whole["id"])
        assert text_of(fork.json) == "2: fork"


async def test_a_repeat_does_not_wait_for_the_run() -> None:
    act = Wait()
    async with serve(MemoryStore(), act) as app:
        made = await queue(app, "wait", None)
        await until(act.reached.is_set)
        async with asyncio.timeout(5):
            again = await queue(app, "wait", None)
        assert (again.json["id"], again.json["status"]) == (made.json["id"], "in_progress")
        act.go.set()


@GROWS
async def test_a_key_that_was_used_in_the_background_is_not_used_at_once(grows: bool) -> None:
    async with serve(MemoryStore()) as app:
        conversation = await begin_conversation(app) if grows else None
        made = await queue(app, "a", conversation)
        await ended(app, made.json["id"])
        other = await post(app, "a", conversation=conversation)
        assert (other.status, other.json["error"]["param"]) == (400, "Idempotency-Key")
        if conversation is not None:
            assert text_of((await post(app, "b", conversation=conversation)).json) == "2: b"


class Panic(BaseException):
    """What an extension module may raise."""


@GROWS
async def test_what_a_target_raises_that_is_no_exception_fails_once(grows: bool) -> None:
    def act(messages: list[Message], session: AgentSession | None) -> list[str]:
        if messages[-1].text == "a":
            raise Panic
        return count(messages, session)

    agent = ScriptedAgent(act)
    app = store_app(agent, MemoryStore(), ResponsesChannel(auth=AUTH), LIMITS, working=True)
    async with running(app):
        conversation = await begin_conversation(app) if grows else None
        made = await queue(app, "a", conversation)
        assert (await ended(app, made.json["id"]))["status"] == "failed"
        after = await queue(app, "b", conversation)
        assert text_of(await ended(app, after.json["id"])) == "1: b"
        assert len(agent.heard) == 2


async def test_cancelling_again_and_again_while_the_agent_cleans_up() -> None:
    begun, cleaning, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def act(messages: list[Message], session: AgentSession | None) -> list[str]:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await go_on.wait()
        return []

    channel = ResponsesChannel(auth=AUTH)
    async with started(AgentFrameworkHost(ScriptedAgent(act), channels=[channel])) as app:
        made = await queue(app, "a", None)
        await until(begun.is_set)
        for _ in range(3):
            assert (await cancel(app, made.json["id"])).json["status"] == "cancelled"
        await until(cleaning.is_set)
        assert (await cancel(app, made.json["id"])).json["status"] == "cancelled"
        go_on.set()


async def test_where_nothing_is_worked_on_what_others_work_on_is_cancelled(tmp_path: Path) -> None:
    act = Wait()
    hosts = [
        AgentFrameworkHost(
            ScriptedAgent(each), channels=[ResponsesChannel(auth=AUTH)], state_dir=tmp_path, limits=LIMITS
        )
        for each in (act, None)
    ]
    hosts[1].check_platform("a platform without an inbox")
    async with started(hosts[0]) as worker, started(hosts[1]) as other:
        conversation = await begin_conversation(other)
        made = await queue(worker, "wait", conversation)
        await until(act.reached.is_set)
        assert (await read(other, made.json["id"])).json["status"] == "in_progress"
        assert (await cancel(other, made.json["id"])).json["status"] == "cancelled"
        act.go.set()
        assert text_of((await post(other, "b", conversation=conversation)).json) == "1: b"


@GROWS
async def test_an_id_that_a_factory_gives_twice_is_not_run(grows: bool) -> None:
    act = Wait()
    channel = ResponsesChannel(auth=AUTH, response_id_factory=lambda: "mine")
    agent = ScriptedAgent(act)
    async with running(store_app(agent, MemoryStore(), channel, LIMITS, working=True)) as app:
        conversation = await begin_conversation(app) if grows else None
        body = {"input": "wait", "background": True, "conversation": conversation}
        assert (await post_json(app, "/responses", body, AS_OPS)).json["id"] == "mine"
        await until(act.reached.is_set)
        async with asyncio.timeout(5):
            assert (await post_json(app, "/responses", body, AS_OPS)).status == 500
        act.go.set()
        assert (await ended(app, "mine"))["status"] == "completed"
        assert len(agent.heard) == 1
