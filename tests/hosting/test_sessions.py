"""Sessions: what is kept of them, under which ids, and what cannot be kept."""

from __future__ import annotations

import asyncio
import enum
import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from agent_framework import Agent, AgentSession, Content, Message, register_state_type, tool
from pydantic import BaseModel

from agent_framework_hosting import (
    ChannelSession,
    ConfigurationError,
    InvalidRequest,
    StateDamaged,
)
from tests.support.channels import Served, serving
from tests.support.targets import ScriptedAgent, ScriptedClient, count, recalling_agent


def keeping(values: dict[str, Any]) -> ScriptedAgent:
    """An agent that puts values into its session and tells what it finds there."""

    def act(messages: list[Message], session: AgentSession | None) -> str:
        assert session is not None
        told = repr(session.state.get("kept"))
        session.state["kept"] = values.get(messages[-1].text, told)
        return told

    return ScriptedAgent(act)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Words(str):
    __slots__ = ()


class Convertible:
    """Has a JSON form, from which nobody would make one again."""

    def to_dict(self) -> dict[str, Any]:
        return {"a": 1}


class Model(BaseModel):
    a: int = 1


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


UNSTORABLE: dict[str, tuple[Any, str]] = {
    "bytes": (b"x", r"session\.state\.kept .*bytes"),
    "datetime": (datetime(2026, 1, 1, tzinfo=UTC), r"session\.state\.kept .*datetime"),
    "uuid": (uuid.UUID(int=0), r"session\.state\.kept .*UUID"),
    "set": ({1}, r"session\.state\.kept .*set"),
    "object": (object(), r"session\.state\.kept .*object"),
    "NaN": (float("nan"), r"session\.state\.kept .*nan"),
    "infinity": (float("-inf"), r"session\.state\.kept .*-inf"),
    "enumeration of text": (Colour.RED, r"session\.state\.kept .*Colour"),
    "enumeration of numbers": (Level.HIGH, r"session\.state\.kept .*Level"),
    "subclass of text": (Words("x"), r"session\.state\.kept .*Words"),
    "object with to_dict": (Convertible(), r"session\.state\.kept .*Convertible"),
    "pydantic model": ([Model()], r"session\.state\.kept\[0\] .*Model"),
    "what looks like a message": ({"type": "message", "by": "hand"}, r"session\.state\.kept .*'type' is 'message'"),
    "too deep": (nested(200), r"session\.state\.kept(\.a)+ .*200 levels"),
    "cycle": (cyclic(), r"session\.state\.kept(\[0\])+ .*200 levels"),
    "deep inside": ({"a": [1, {"b": b"x"}]}, r"session\.state\.kept\.a\[1\]\.b .*bytes"),
}


@pytest.mark.filterwarnings("ignore:AgentSession state value")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", UNSTORABLE)
async def test_what_has_no_codec_is_refused_by_place_and_type(name: str, stream: bool, state_dir: Path | None) -> None:
    value, said = UNSTORABLE[name]
    async with serving(keeping({"bad": value, "good": "kept"}), state_dir=state_dir) as served:
        await served.ask("a", "good")
        with pytest.raises(ConfigurationError, match=said) as raised:
            await served.finish("a", "bad", stream=stream)
        assert "register_state_type" in str(raised.value) and raised.value.started
        assert (await served.ask("a", "good")).result.text == "'kept'"


STORABLE: dict[str, Any] = {
    "nothing": None,
    "numbers": [0, -1, 2**70, 1.5, True],
    "text": "äöü \u2028 \0 \U0001f600",
    "nested": {"a": {"b": [{}, [], "x"]}},
    "deep": nested(199),
    "a type of their own": {"type": "order", "lines": [{"type": "line"}, {"type": 5}]},
}


@pytest.mark.parametrize("name", STORABLE)
async def test_plain_values_come_back_as_they_were(name: str, state_dir: Path | None) -> None:
    async with serving(keeping({"put": STORABLE[name]}), state_dir=state_dir) as served:
        await served.ask("a", "put")
        assert (await served.ask("a", "get")).result.text == repr(STORABLE[name])


@pytest.mark.parametrize("value", [False, 0, "", [], None])
async def test_values_that_count_as_nothing_are_kept(value: Any, state_dir: Path | None) -> None:
    async with serving(keeping({"empty": value, "full": "x"}), state_dir=state_dir) as served:
        assert (await served.ask("new", "empty")).saved
        assert (await served.ask("new", "get")).result.text == repr(value)
        await served.ask("a", "full")
        await served.ask("a", "empty")
        assert (await served.ask("a", "get")).result.text == repr(value)


async def test_a_session_that_has_become_empty_is_stored_as_that(state_dir: Path | None) -> None:
    def act(messages: list[Message], session: AgentSession | None) -> str:
        assert session is not None
        told = repr(session.state)
        session.state.clear()
        if messages[-1].text == "fill":
            session.state["a"] = 1
        return told

    async with serving(ScriptedAgent(act), state_dir=state_dir) as served:
        for text, told in (("fill", "{}"), ("clear", "{'a': 1}"), ("look", "{}")):
            assert (await served.ask("a", text)).result.text == told


@dataclass(frozen=True)
class Money:
    amount: int
    currency: str

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Money:
        return cls(data["amount"], data["currency"])

    def to_dict(self) -> dict[str, Any]:
        return {"amount": self.amount, "currency": self.currency}


register_state_type(Money, type_id="tests.money")


async def test_registered_types_come_back_as_they_were(state_dir: Path | None) -> None:
    async with serving(keeping({"put": [Money(3, "EUR")]}), state_dir=state_dir) as served:
        await served.ask("a", "put")
        assert (await served.ask("a", "get")).result.text == "[Money(amount=3, currency='EUR')]"


async def test_messages_come_back_in_another_host(tmp_path: Path) -> None:
    async with serving(recalling_agent(), state_dir=tmp_path) as served:
        await served.ask("a", "one")
    async with serving(recalling_agent(), state_dir=tmp_path) as served:
        assert (await served.ask("a", "two")).result.text == "one | two"


async def test_halves_of_surrogate_pairs_are_joined_or_replaced(state_dir: Path | None) -> None:
    async with serving(keeping({"put": "pair \ud83d\ude00 half \ud83d!"}), state_dir=state_dir) as served:
        await served.ask("a", "put")
        assert (await served.ask("a", "get")).result.text == repr("pair \U0001f600 half \ufffd!")


def heads(place: Path) -> list[Path]:
    return sorted(place.rglob("head/v*"))


def archived(place: Path) -> list[str]:
    return [path.read_text() for path in place.rglob("s/*/*/v1")]


def rewrite(place: Path, **changes: Any) -> bytes:
    """Change the session in the only head below a folder, as somebody might by hand."""
    path = heads(place)[-1]
    document = json.loads(path.read_bytes())
    document["snapshot"]["inline"].update(changes)
    path.write_bytes(json.dumps(document).encode())
    return path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "has format 2.*update the package"),
        ({"session": {"type": "session"}}, "cannot be read"),
        ({"session": None}, "cannot be read"),
        ({"pending": 7, "key": "somebody else"}, "another conversation"),
    ],
)
async def test_a_session_that_cannot_be_read_is_an_error_and_kept(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    agent = ScriptedAgent()
    async with serving(agent, state_dir=tmp_path) as served:
        await served.ask("a", "x")
    damaged = rewrite(tmp_path, **changes)
    async with serving(agent, state_dir=tmp_path) as served:
        for run in (served.ask, served.stream):
            with pytest.raises(StateDamaged, match=said) as raised:
                await run("a", "y")
            assert raised.value.name.endswith("/head") and not raised.value.started
        kept = json.loads(heads(tmp_path)[-1].read_bytes())
        assert kept["snapshot"] == json.loads(damaged)["snapshot"]
        assert len(agent.heard) == 1
        await served.host.reset_session("a")
        assert (await served.ask("a", "z")).result.text == "1: z"


async def test_a_damaged_head_is_an_error_and_kept(tmp_path: Path) -> None:
    async with serving(ScriptedAgent(), state_dir=tmp_path) as served:
        await served.ask("a", "x")
        path = heads(tmp_path)[-1]
        path.write_bytes(b"{")
        with pytest.raises(StateDamaged, match=r"damaged, or of a later release\. It was kept"):
            await served.ask("a", "y")
        assert heads(tmp_path)[-1] == path and path.read_bytes() == b"{"


async def session_id(served: Served, key: str) -> str:
    return (await served.ask(key, "x")).session.session_id  # type: ignore[union-attr]


async def test_a_session_has_its_keys_id_until_it_is_reset(state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(), state_dir=state_dir) as served:
        assert await session_id(served, "a") == "a"
        seen = {"a"}
        for reset in (served.host.reset_session, served.context.reset_session):
            await reset("a")
            rotated = await session_id(served, "a")
            assert re.fullmatch(r"a#[0-9a-f]{8}", rotated)
            assert await session_id(served, "a") == rotated
            seen.add(rotated)
        assert len(seen) == 3
        assert await session_id(served, "b") == "b"


async def test_a_reset_forgets_this_conversation_and_no_other(state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(), state_dir=state_dir) as served:
        for key in "ab":
            await served.ask(key, "x")
        await served.host.reset_session("a")
        assert (await served.ask("a", "y")).result.text == "1: y"
        assert (await served.ask("b", "y")).result.text == "2: y"


async def test_a_reset_of_what_does_not_exist_is_no_error(state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(), state_dir=state_dir) as served:
        await served.host.reset_session("a")
        assert (await served.ask("a", "y")).result.text == "1: y"


async def test_a_reset_needs_a_key_that_can_be_one(state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(), state_dir=state_dir) as served:
        for reset in (served.host.reset_session, served.context.reset_session):
            with pytest.raises(InvalidRequest):
                await reset("\ud800")


async def test_a_reset_archives_the_session(tmp_path: Path) -> None:
    async with serving(recalling_agent(), state_dir=tmp_path) as served:
        await served.ask("a", "remember me")
        await served.host.reset_session("a")
        await served.ask("a", "x")
    assert ["remember me" in text for text in archived(tmp_path)] == [True]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_may_reset_the_conversation_it_runs_in(stream: bool, state_dir: Path | None) -> None:
    @tool
    async def start_over() -> str:
        """Forget everything."""
        await served.host.reset_session("a")
        await served.host.reset_session("b")
        return "done"

    def reply(messages: Any) -> Any:
        if messages[-1].text == "start over":
            return [Content.from_function_call("call-1", "start_over", arguments="{}")]
        return " | ".join(message.text for message in messages if message.role == "user" and message.text)

    agent = Agent(client=ScriptedClient(reply), name="a", tools=[start_over])
    async with serving(agent, state_dir=state_dir) as served:
        for key in "ab":
            await served.ask(key, "one")
        async with asyncio.timeout(5):
            result = await served.finish("a", "start over", stream=stream)
        assert result.text == "one | start over"  # It takes effect when the turn is saved.
        for key in "ab":
            assert (await served.ask(key, "two")).result.text == "two"


async def test_a_turn_that_failed_after_its_reset_did_not_reset(state_dir: Path | None) -> None:
    async def act(messages: list[Message], session: AgentSession | None) -> str:
        if messages[-1].text == "reset and fail":
            await served.host.reset_session("a")
            raise ValueError("too late")
        assert session is not None
        session.state["said"] = [*session.state.get("said", []), messages[-1].text]
        return "+".join(session.state["said"])

    async with serving(ScriptedAgent(act), state_dir=state_dir) as served:
        await served.ask("a", "x")
        with pytest.raises(ValueError, match="too late"):
            await served.ask("a", "reset and fail")
        assert (await served.ask("a", "y")).result.text == "x+y"


async def test_a_reset_waits_for_a_turn(state_dir: Path | None) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def act(messages: list[Message], session: AgentSession | None) -> str:
        if messages[-1].text == "wait":
            begun.set()
            await gate.wait()
        assert session is not None
        session.state["said"] = [*session.state.get("said", []), messages[-1].text]
        return "+".join(session.state["said"])

    async with serving(ScriptedAgent(act), state_dir=state_dir) as served:
        turn = asyncio.create_task(served.ask("a", "wait"))
        await begun.wait()
        reset = asyncio.create_task(served.host.reset_session("a"))
        await served.ask("b", "meanwhile")
        assert not reset.done()
        gate.set()
        assert (await turn).result.text == "wait"
        await reset
        assert (await served.ask("a", "x")).result.text == "x"


@pytest.mark.parametrize(
    "request_of",
    [
        {"session": None},
        {"session": ChannelSession(None)},
        {"session": ChannelSession("a"), "session_mode": "disabled"},
    ],
    ids=["no session", "no key", "disabled"],
)
async def test_outside_a_conversation_nothing_is_kept(request_of: dict[str, Any], state_dir: Path | None) -> None:
    agent = ScriptedAgent()
    async with serving(agent, state_dir=state_dir) as served:
        await served.ask("a", "x")
        for _ in range(2):
            hosted = await served.ask("a", "y", **request_of)
            assert (hosted.result.text, hosted.session, hosted.saved) == ("1: y", None, False)
        turn = await served.stream("a", "y", **request_of)
        assert ((await turn).text, turn.session) == ("1: y", None)
        assert (await served.ask("a", "z")).result.text == "2: z"
    assert agent.sessions[1:4] == [None] * 3


async def test_a_conversation_may_be_continued_under_another_key(state_dir: Path | None) -> None:
    async with serving(recalling_agent(), state_dir=state_dir) as served:
        await served.ask("a", "one")
        for branch in ("b", "c"):
            session = ChannelSession(branch, parent="a", fresh=branch == "c")
            hosted = await served.ask(None, f"{branch}2", session=session)
            assert (hosted.result.text, hosted.session.session_id) == (f"one | {branch}2", branch)  # type: ignore[union-attr]
        assert (await served.ask("a", "a2")).result.text == "one | a2"
        assert (await served.ask("b", "b3")).result.text == "one | b2 | b3"
        assert (await served.ask("c", "c3")).result.text == "one | c2 | c3"


async def test_a_parent_that_does_not_exist_is_an_error(state_dir: Path | None) -> None:
    async with serving(recalling_agent(), state_dir=state_dir) as served:
        with pytest.raises(InvalidRequest, match="no such conversation") as raised:
            await served.ask(None, "x", session=ChannelSession("b", parent="a"))
        assert raised.value.field == "session" and not raised.value.started
        assert (await served.ask("b", "y")).result.text == "y"


@pytest.mark.parametrize("key", ["", "a" * 10_000, "../../etc/passwd", "a\0b", "ä\U0001f600", "A/b\\c", "k/x/head"])
async def test_any_text_is_a_key(key: str, state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(), state_dir=state_dir) as served:
        await served.ask("other", "x")
        for turn in (1, 2):
            assert (await served.ask(key, "x")).result.text == f"{turn}: x"


@pytest.mark.parametrize("key", ["\ud800", "a\udfff", 7, b"a"])
async def test_what_is_no_text_is_no_key(key: Any, state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(), state_dir=state_dir) as served:
        for run in (served.ask, served.stream):
            with pytest.raises(InvalidRequest) as raised:
                await run(key, "x")
            assert raised.value.field == "session"


async def test_turns_of_one_conversation_run_one_at_a_time_in_order(state_dir: Path | None) -> None:
    running: list[int] = []

    async def act(messages: list[Message], session: AgentSession | None) -> str:
        assert session is not None
        running.append(1)
        assert len(running) == 1
        await asyncio.sleep(0)
        said = session.state["said"] = [*session.state.get("said", []), messages[-1].text]
        running.pop()
        return "+".join(said)

    async with serving(ScriptedAgent(act), state_dir=state_dir) as served:
        replies = await asyncio.gather(*[served.ask("a", str(number)) for number in range(6)])
        assert [hosted.result.text for hosted in replies][-1] == "0+1+2+3+4+5"


async def test_a_reset_by_a_task_that_outlived_its_turn_takes_effect(state_dir: Path | None) -> None:
    """What a tool left running still carries the context of its turn."""
    late: list[asyncio.Task[None]] = []
    over = asyncio.Event()

    async def reset_later(served: Served) -> None:
        await over.wait()
        await served.host.reset_session("a")

    def act(messages: list[Message], session: AgentSession | None) -> list[str]:
        if not late:
            late.append(asyncio.create_task(reset_later(served)))
        return count(messages, session)

    async with serving(ScriptedAgent(act), state_dir=state_dir) as served:
        await served.ask("a", "x")
        over.set()
        await late[0]
        session = (await served.ask("a", "y")).session
        assert session is not None and session.session_id != "a"


async def test_a_parent_without_a_key_is_read_and_nothing_is_kept(state_dir: Path | None) -> None:
    async with serving(recalling_agent(), state_dir=state_dir) as served:
        await served.ask("a", "x")
        looked = await served.ask(None, "y", session=ChannelSession(parent="a"))
        assert (looked.result.text, looked.saved) == ("x | y", False)
        assert (await served.ask("a", "z")).result.text == "x | z"


@pytest.mark.parametrize("bad", [{1: "one"}, {"deep": [{None: 2}]}, {1: "a", "1": "b"}, {True: 3}])
async def test_a_key_that_is_no_text_is_refused(bad: dict[Any, Any], state_dir: Path | None) -> None:
    """JSON would make text of it, and two keys might become one."""
    async with serving(keeping({"bad": bad}), state_dir=state_dir) as served:
        await served.ask("a", "x")
        with pytest.raises(ConfigurationError, match=r"session\.state\.kept"):
            await served.ask("a", "bad")
        assert (await served.ask("a", "y")).result.text == "'None'"
