"""Server-sent events through the real runtimes."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from scripts.demo_deployment import Deployment
from scripts.demo_platforms import Platform, Server
from tests.support.sse import parse_events

from .conftest import FUNCTIONS, LAMBDA, OWN_LAMBDA

ANSWER = "Order 1003 is a set of six cups for 112.90 EUR."
ASKED = {"session_id": "tea", "message": "What is in order 1003?"}
PACE = 0.1


def check(stream: str) -> None:
    *words, result, done = parse_events(stream.encode())
    assert "".join(event.data for event in words) == ANSWER
    assert {event.type for event in words} == {"message"}
    assert result.type == "result"
    assert msgspec.json.decode(result.data) == {"response": ANSWER, "session_id": "tea"}
    assert done.data == "[DONE]"


@pytest.mark.parametrize("platform", [FUNCTIONS, OWN_LAMBDA, pytest.param(Server(), id="server")])
async def test_an_answer_arrives_while_it_is_made(platform: Platform, tmp_path: Path) -> None:
    async with Deployment(platform, tmp_path / "state", settings={"OFFLINE_PACE": str(PACE)}) as deployment:
        await deployment.call({"message": "Hello"})
        pieces = [piece async for piece in deployment.stream(ASKED)]
    check("".join(piece.text for piece in pieces))
    first, last = pieces[0].seconds, pieces[-1].seconds
    made = PACE * (len(ANSWER.split()) - 1)
    # The last word is made `made` seconds after the first one; what is buffered arrives all at once.
    assert last - first > 0.9 * made - PACE
    assert first < made


@pytest.mark.parametrize("platform", [LAMBDA])
async def test_on_lambda_the_same_stream_arrives_whole(platform: Platform, tmp_path: Path) -> None:
    async with Deployment(platform, tmp_path / "state", settings={"OFFLINE_PACE": "0"}) as deployment:
        pieces = [piece async for piece in deployment.stream(ASKED)]
    assert len(pieces) == 1
    check(pieces[0].text)


@pytest.mark.parametrize("platform", [FUNCTIONS])
async def test_a_process_killed_in_the_middle_of_a_turn_leaves_the_conversation_as_it_was(
    platform: Platform, tmp_path: Path
) -> None:
    async with Deployment(platform, tmp_path / "state", settings={"OFFLINE_PACE": "0"}) as deployment:
        await deployment.call({"session_id": "tea", "message": "My name is Ada."})
        await deployment.kill()
        deployment.settings = {"OFFLINE_PACE": "60"}
        async with aclosing(deployment.stream({"session_id": "tea", "message": "My name is Grace."})) as stream:
            piece = await anext(stream)
            assert piece.text.startswith("data: Noted:")
            await deployment.kill()
        deployment.settings = {"OFFLINE_PACE": "0"}
        # The dead process's lease is waited for, then taken over.
        answer = await deployment.call({"session_id": "tea", "message": "What is my name?"})
        assert answer.body["response"] == "Your name is Ada."
