"""Who may see and continue what: callers who know each other's ids learn nothing from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting_responses import ResponsesChannel
from tests.support.asgi import Connection, Reply, post_json
from tests.support.responses_server import AUTH, OPS, WEB, check_error, running, store_app
from tests.support.stores import FaultStore, Gate
from tests.support.targets import ScriptedAgent

AS_OPS = {"authorization": f"Bearer {OPS}"}
AS_WEB = {"authorization": f"Bearer {WEB}"}
NOBODY: dict[str, str] = {}
NO_RESPONSE, NO_CONVERSATION = "resp_" + "0" * 48, "conv_" + "0" * 48

ENDPOINTS = [
    ("GET", "/responses/{response}"),
    ("GET", "/responses/{response}?stream=true"),
    ("GET", "/responses/{response}?stream=nonsense"),
    ("DELETE", "/responses/{response}"),
    ("POST", "/responses/{response}/cancel"),
    ("GET", "/responses/{response}/input_items"),
    ("GET", "/responses/{response}/input_items?limit=0"),
    ("GET", "/responses/{conversation}"),
    ("DELETE", "/responses/{conversation}"),
    ("GET", "/conversations/{conversation}"),
    ("DELETE", "/conversations/{conversation}"),
    ("GET", "/conversations/{response}"),
    ("DELETE", "/conversations/{response}"),
]
BODIES = [
    {"previous_response_id": "{response}"},
    {"previous_response_id": "{conversation}"},
    {"previous_response_id": "{response}", "store": False},
    {"previous_response_id": "{response}", "stream": True},
    {"conversation": "{conversation}"},
    {"conversation": "{response}"},
    {"conversation": "{conversation}", "stream": True},
]


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@asynccontextmanager
async def serving(agent: Any, state_dir: Path | None = None, **how: Any) -> AsyncIterator[Starlette]:
    async with running(AgentFrameworkHost(agent, channels=[ResponsesChannel(**how)], state_dir=state_dir).app) as app:
        yield app


async def ask(app: Starlette, method: str, path: str, headers: dict[str, str]) -> Reply:
    path, _, query = path.partition("?")
    async with Connection(app, method, path, headers, query) as connection:
        connection.send(b"")
        return await connection.end()


async def say(app: Starlette, headers: dict[str, str], text: str = "hi", **how: Any) -> Any:
    reply = await post_json(app, "/responses", {"input": text, **how}, headers)
    assert reply.status == 200, reply.body
    return reply.json


def told(reply: Reply) -> tuple[int, Any, bytes]:
    """Give what an answer tells; each has an id of its own."""
    headers = [(name, value) for name, value in reply.raw_headers if name != b"x-request-id"]
    return reply.status, headers, reply.body


@pytest.mark.parametrize("other", [AS_WEB, NOBODY], ids=["another caller", "nobody"])
async def test_what_is_somebody_else_s_is_told_like_what_never_was(
    agent: ScriptedAgent, state_dir: Path | None, other: dict[str, str]
) -> None:
    async with serving(agent, state_dir, auth=AUTH, allow_anonymous=True) as app:
        made = await say(app, AS_OPS)
        conversation = (await post_json(app, "/conversations", {}, AS_OPS)).json
        inside = await say(app, AS_OPS, conversation=conversation["id"])
        runs = len(agent.heard)
        never = {"response": NO_RESPONSE, "conversation": NO_CONVERSATION}
        for response in (made["id"], inside["id"]):
            known = {"response": response, "conversation": conversation["id"]}
            for method, path in ENDPOINTS:
                replies = [await ask(app, method, path.format(**ids), other) for ids in (known, never)]
                assert told(replies[0]) == told(replies[1]), (method, path)
                assert replies[0].status == 404
                check_error(404, replies[0].json)
            for body in BODIES:
                replies = [
                    await post_json(app, "/responses", {"input": "x", **filled(body, ids)}, other)
                    for ids in (known, never)
                ]
                assert told(replies[0]) == told(replies[1]), body
                assert replies[0].status in (400, 404)
        assert len(agent.heard) == runs
        assert (await ask(app, "GET", f"/responses/{made['id']}", AS_OPS)).json == made
        assert (await ask(app, "GET", f"/conversations/{conversation['id']}", AS_OPS)).json == conversation
        assert output(await say(app, AS_OPS, conversation=conversation["id"])) == "2: hi"
        assert output(await say(app, AS_OPS, previous_response_id=made["id"])) == "2: hi"


def filled(body: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    return {name: value.format(**ids) if isinstance(value, str) else value for name, value in body.items()}


def output(response: Any) -> str:
    return response["output"][0]["content"][0]["text"]


@pytest.mark.parametrize("how", [{}, {"auth": AUTH, "allow_anonymous": True}, {"allow_anonymous": True}])
async def test_anonymous_callers_go_on_from_minted_ids(state_dir: Path | None, how: dict[str, Any]) -> None:
    async with serving(ScriptedAgent(), state_dir, **how) as app:
        first = await say(app, NOBODY)
        assert output(await say(app, NOBODY, previous_response_id=first["id"])) == "2: hi"
        assert (await ask(app, "GET", f"/responses/{first['id']}", NOBODY)).json == first
        conversation = (await post_json(app, "/conversations", {}, NOBODY)).json["id"]
        assert output(await say(app, NOBODY, conversation=conversation)) == "1: hi"
        assert (await ask(app, "DELETE", f"/conversations/{conversation}", NOBODY)).status == 200
        assert (await ask(app, "DELETE", f"/responses/{first['id']}", NOBODY)).status == 200


@pytest.mark.parametrize("id", ["mine", "resp_1", "resp_" + "F" * 48, "resp_" + "0" * 49])
async def test_what_an_anonymous_caller_could_guess_is_never_looked_up(id: str) -> None:
    store = FaultStore(MemoryStore())
    async with running(store_app(ScriptedAgent(), store, ResponsesChannel(allow_anonymous=True))) as app:
        reply = await post_json(app, "/responses", {"input": "hi", "previous_response_id": id})
        assert (reply.status, reply.json["error"]["param"]) == (400, "previous_response_id")
        assert (await ask(app, "GET", f"/responses/{id}", NOBODY)).status == 404
        assert (await ask(app, "DELETE", f"/responses/{id}", NOBODY)).status == 404
        reply = await post_json(app, "/responses", {"input": "hi", "conversation": id})
        assert (reply.status, reply.json["error"]["param"]) == (404, "conversation")
        assert not store.log


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/responses"),
        ("POST", "/conversations"),
        ("GET", "/models"),
        *sorted({(method, path.partition("?")[0]) for method, path in ENDPOINTS}),
    ],
)
@pytest.mark.parametrize("headers", [NOBODY, {"authorization": "Bearer wrong-key-0123456789"}], ids=["none", "wrong"])
async def test_callers_are_known_before_anything_is_read(method: str, path: str, headers: dict[str, str]) -> None:
    store, agent = FaultStore(MemoryStore()), ScriptedAgent()
    path = path.format(response=NO_RESPONSE, conversation=NO_CONVERSATION)
    async with (
        running(store_app(agent, store, ResponsesChannel(auth=AUTH))) as app,
        Connection(app, method, path, {"content-type": "application/json", **headers}) as connection,
    ):
        reply = await connection.end()  # The body was never sent.
    assert (reply.status, reply.headers["www-authenticate"], connection.received) == (401, "Bearer", 0)
    check_error(401, reply.json)
    assert not store.log
    assert not agent.heard


@pytest.mark.parametrize("how", [{}, {"allow_anonymous": True}, {"auth": AUTH, "allow_anonymous": True}])
def test_a_factory_of_ids_needs_callers_that_are_known(how: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="response_id_factory"):
        ResponsesChannel(response_id_factory=lambda: "mine", **how)


def numbered() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"answer {next(numbers)}"


async def test_ids_of_a_factory(state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(), state_dir, auth=AUTH, response_id_factory=numbered()) as app:
        first = await say(app, AS_OPS, "a")
        second = await say(app, AS_OPS, "b", previous_response_id=first["id"])
        assert [first["id"], second["id"], output(second)] == ["answer 1", "answer 2", "2: b"]
        assert (await ask(app, "GET", "/responses/answer 1", AS_OPS)).json == first
        assert (await ask(app, "GET", "/responses/answer 1", AS_WEB)).status == 404
        reply = await post_json(app, "/responses", {"input": "c", "previous_response_id": "answer 1"}, AS_WEB)
        assert reply.status == 400


@pytest.mark.parametrize("made", ["", "x" * 257, NO_CONVERSATION, "a/b", 7, None])
async def test_what_a_factory_must_not_give(agent: ScriptedAgent, made: Any) -> None:
    async with serving(agent, auth=AUTH, response_id_factory=lambda: made) as app:
        reply = await post_json(app, "/responses", {"input": "hi"}, AS_OPS)
    assert (reply.status, reply.json["error"]["code"]) == (500, "host_error")
    assert not agent.heard


async def test_keys_in_bodies_are_not_taken_for_keys(agent: ScriptedAgent, state_dir: Path | None) -> None:
    """A caller's name and an id, however they are put together, are no other caller's name and id."""
    keys = {"a": "a-key-0123456789abc", "a:response": "b-key-0123456789abc", "a%3Aresponse": "c-key-0123456789abc"}
    async with serving(agent, state_dir, auth=keys, response_id_factory=lambda: "response:x") as app:
        made = await say(app, {"authorization": f"Bearer {keys['a']}"})
        for name in ("a:response", "a%3Aresponse"):
            for known in (made["id"], "x", "response:response:x"):
                reply = await ask(app, "GET", f"/responses/{known}", {"authorization": f"Bearer {keys[name]}"})
                assert reply.status == 404


@pytest.mark.parametrize(
    "how", [{}, {"previous_response_id": "always"}, {"conversation": ""}, {"stream": True}], ids=str
)
async def test_an_id_that_is_given_twice_takes_nothing_from_the_earlier_response(
    state_dir: Path | None, how: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    agent = ScriptedAgent()
    async with serving(agent, state_dir, auth=AUTH, response_id_factory=lambda: "always") as app:
        first = await say(app, AS_OPS, "a")
        assert output(await say(app, AS_WEB, "a")) == "1: a"
        if "conversation" in how:
            how = {"conversation": (await post_json(app, "/conversations", {}, AS_OPS)).json["id"]}
        reply = await post_json(app, "/responses", {"input": "b", **how}, AS_OPS)
        assert (reply.status, reply.json["error"]["code"]) == (500, "host_error")
        assert "response_id_factory" in caplog.text
        assert (await ask(app, "GET", "/responses/always", AS_OPS)).json == first
        # What is kept nowhere has nothing to take the place of.
        assert output(await say(app, AS_OPS, "b", store=False)) == "1: b"
    assert [messages[-1].text for messages in agent.heard] == ["a", "a", "b"]


async def test_an_id_that_is_given_twice_at_once_is_kept_once() -> None:
    """Neither sees the other's before it runs: one of them is kept, the other one is told that it is not."""
    store, gate = FaultStore(MemoryStore()), Gate()
    channel = ResponsesChannel(auth=AUTH, response_id_factory=lambda: "always")
    async with running(store_app(ScriptedAgent(), store, channel)) as app:
        store.plan(gate.before, kind="put")
        first = asyncio.create_task(post_json(app, "/responses", {"input": "a"}, AS_OPS))
        await gate.reached()
        second = asyncio.create_task(post_json(app, "/responses", {"input": "b"}, AS_OPS))
        gate.open()
        replies = [await first, await second]
        assert sorted(reply.status for reply in replies) in ([200, 409], [200, 500])
        kept = next(reply for reply in replies if reply.status == 200)
        assert (await ask(app, "GET", "/responses/always", AS_OPS)).json == kept.json
        assert output(kept.json).startswith("1: ")
